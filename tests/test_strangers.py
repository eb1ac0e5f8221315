"""Files from strangers: refused in one line before anything of them is loaded."""

import gc
import json
import shutil
import sys
import time
import zipfile

import keras
import numpy as np
import pytest
import strangers
from conftest import numpy, one_line, slow, tiny_config, tiny_images, tiny_model
from test_damage import damaged
from test_exports import CLASSES, NAMES, silent

import widenet_keras
from widenet_keras.cli.main import main
from widenet_keras.data import open_source
from widenet_keras.exports.options import FORMATS
from widenet_keras.files.loading import load_classifier
from widenet_keras.inference import open_predictor
from widenet_keras.models.memory_use import built_size, parameter_count
from widenet_keras.utils.memory import memory_of
from widenet_keras.utils.printable import printable

tf = pytest.importorskip("tensorflow")

LOADERS = (widenet_keras.load_model, load_classifier, open_predictor)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A folder with one small model in every format."""
    folder = tmp_path_factory.mktemp("honest")
    model = tiny_model("vit", steps=1)
    for format, name in NAMES.items():
        options = {"class_names": CLASSES, "say": silent}
        widenet_keras.export(model, folder / name, format, **options)
    return folder


@pytest.fixture
def copy(honest, tmp_path):
    """Returns a function that copies the file of a format, to be changed."""

    def copied(format):
        source, path = honest / NAMES[format], tmp_path / NAMES[format]
        (shutil.copytree if source.is_dir() else shutil.copy)(source, path)
        return path

    return copied


def refused(path, match, load=open_predictor, **options):
    """Opens a file; returns the one line by which it is refused, which names it.

    It comes in under two seconds and a gigabyte.
    """
    # The garbage of other tests may take longer than the file.
    gc.disable()
    start, before = time.process_time(), strangers.peak_memory()
    try:
        with pytest.raises(ValueError, match=match) as error:
            load(path, **options)
    finally:
        gc.enable()
    assert time.process_time() - start < 2
    assert strangers.peak_memory() - before < 2**30
    line = one_line(error)
    assert str(path) in line
    assert len(line) < 700
    return line


# Operations


def reads(images):
    found = tf.strings.length(tf.io.read_file("/etc/passwd"))
    return images[:, 0, 0, :1] + tf.cast(found, "float32")


def reads_in_a_branch(images):
    nothing = tf.zeros((tf.shape(images)[0], 5))
    return tf.cond(
        tf.reduce_sum(images) > 0, lambda: nothing + reads(images), lambda: nothing
    )


def reads_in_a_loop(images):
    return tf.map_fn(lambda image: reads(image[None])[0], images)


def lists_files(images):
    return images[:, 0, 0] + tf.cast(tf.size(tf.io.matching_files("/*")), "float32")


def runs_python(images):
    return tf.numpy_function(lambda x: x[:, 0, 0], [images], tf.float32)


def restores(images):
    [found] = tf.raw_ops.RestoreV2(
        prefix="/tmp/elsewhere", tensor_names=["x"], shape_and_slices=[""], dtypes=[1]
    )
    return images[:, 0, 0] + found


def saves(images):
    name = tf.constant("elsewhere")
    tf.raw_ops.SaveV2(
        prefix=name, tensor_names=["x"], shape_and_slices=[""], tensors=[images]
    )
    return images[:, 0, 0]


@pytest.mark.parametrize(
    ("body", "operation"),
    [
        (reads, "ReadFile"),
        (reads_in_a_branch, "ReadFile"),
        (reads_in_a_loop, "ReadFile"),
        (lists_files, "MatchingFiles"),
        (runs_python, "PyFunc"),
        (restores, "RestoreV2"),
        (saves, "SaveV2"),
    ],
)
def test_a_graph_that_reads_or_runs_is_refused(body, operation, honest, tmp_path):
    manifest = json.loads((honest / "exported" / "manifest.json").read_text())
    path = strangers.saved_model(tmp_path / "m", manifest, body)
    line = refused(path, f"holds the operation .*{operation}, which no export")
    assert "--trust (trust=True in Python)" in line


def test_a_command_trusts_what_it_is_told_to(honest, tmp_path, capsys):
    photo = str(tmp_path / "photo.png")
    keras.utils.save_img(photo, np.zeros((12, 12, 3), "uint8"))

    def reads(images):
        none = tf.strings.length(tf.io.read_file(photo)) < 0
        return images[:, 0, 0] + tf.cast(none, tf.float32)

    manifest = json.loads((honest / "exported" / "manifest.json").read_text())
    manifest["class_names"] = ["a", "b", "c"]
    path = strangers.saved_model(tmp_path / "m", manifest, reads)
    command = ["predict", photo, "--model", str(path)]
    with pytest.raises(SystemExit):
        main(command)
    assert "--trust" in capsys.readouterr().err
    main([*command, "--trust"])
    assert "photo.png: " in capsys.readouterr().out


def test_what_a_saved_model_does_as_it_is_loaded_is_refused(honest, tmp_path):
    from tensorflow.python.trackable.resource import TrackableResource

    marker = tmp_path / "marker"

    class Writer(TrackableResource):
        def _create_resource(self):
            return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

        def _initialize(self):
            tf.io.write_file(str(marker), "written")

        _tf_api_names, _tf_api_names_v1 = (), ()

    manifest = json.loads((honest / "exported" / "manifest.json").read_text())
    manifest["class_names"] = ["a", "b", "c"]
    path = strangers.saved_model(
        tmp_path / "m", manifest, lambda images: images[:, 0, 0], Writer()
    )
    marker.unlink(missing_ok=True)
    refused(path, "holds")
    assert not marker.exists()
    # It does what it was made for where it is trusted.
    open_predictor(path, trust=True)
    assert marker.read_text() == "written"


def test_a_second_graph_beside_the_first_is_refused(copy):
    path = copy("saved_model")
    shutil.copy(path / "saved_model.pb", path / "saved_model.cpb")
    refused(path, r"it has saved_model\.cpb beside")


@pytest.mark.parametrize("place", ["asset", "main", "object"])
def test_other_ways_into_a_saved_model(place, copy):
    def change(graph):
        if place == "asset":
            graph.asset_file_def[0].filename = "../../../etc/passwd"
        elif place == "main":
            names = graph.collection_def["saved_model_main_op"].node_list
            names.value[:] = ["StatefulPartitionedCall"]
        else:
            graph.object_graph_def.nodes[0].user_object.identifier = "optimizer"

    refused(strangers.with_graph(copy("saved_model"), change), "which no export")


def test_weights_in_other_files_are_refused(copy, tmp_path, monkeypatch):
    import onnx

    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").write_bytes(bytes(4096))

    def moved(tensor):
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="elsewhere")

    path = copy("onnx")
    model, other = strangers.honest_onnx(path), strangers.honest_onnx(path)
    moved(next(each for each in model.graph.initializer if each.raw_data))
    refused(strangers.seal_onnx(path, model), "are kept in another file")

    # Inside the graph of a branch.
    inner = onnx.helper.make_graph([], "inner", [], [])
    inner.initializer.add(name="w", dims=[4], data_type=1)
    moved(inner.initializer[0])
    node = onnx.helper.make_node("If", ["c"], ["d"], then_branch=inner)
    other.graph.node.append(node)
    refused(strangers.seal_onnx(path, other), "'w' are kept in another file")


@pytest.mark.parametrize("place", ["sparse", "domain", "training"])
def test_what_no_onnx_export_holds_is_refused(place, copy):
    path = copy("onnx")
    model = strangers.honest_onnx(path)
    if place == "sparse":
        model.graph.sparse_initializer.add()
    elif place == "domain":
        model.graph.node[0].domain = "com.microsoft"
    else:
        model.training_info.add()
    refused(strangers.seal_onnx(path, model), "not of ONNX|which no export writes")


@pytest.mark.parametrize("place", ["custom", "code", "buffer", "offset"])
def test_litert_files_have_built_in_operators_and_their_weights(place, copy):
    def change(model):
        if place == "custom":
            model.operatorCodes[0].customCode = b"FlexReadFile"
        elif place == "code":
            model.operatorCodes[0].builtinCode = 32
        elif place == "buffer":
            model.subgraphs[0].tensors[0].externalBuffer = 1
        else:
            model.buffers[1].offset, model.buffers[1].size = 2**40, 16

    match = "custom operator|another file|behind the model"
    refused(strangers.with_litert(copy("litert"), change), match)


# Memory


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 10**7},
        {"steps": 10**7, "shared_norms": True, "sharing": "all"},
        {"width": 65536},
        {"mlp_dim": 10**9},
        {"num_classes": 10**9},
        {"expert_dim": 10**9, "moe_blocks": "all"},
        {"num_experts": 10**8, "top_k": 2, "moe_blocks": "all"},
        {"image_size": 60000},
        {"image_size": 60000, "patch_size": 600},
    ],
)
def test_a_model_that_would_not_fit_is_not_built(fields, honest, tmp_path):
    def change(config):
        config["config"]["config"].update(fields)

    path = strangers.with_config(
        honest / "model.keras", tmp_path / "large.keras", change
    )
    for load in LOADERS:
        line = refused(path, "would take .* GiB of memory for the model", load)
        assert "allow more (max_memory in Python, --max-memory of widenet)" in line


def test_a_limit_can_be_raised_and_lowered(tmp_path):
    path = tmp_path / "model.keras"
    model = tiny_model("vit", steps=1, width=96, mlp_dim=20000)
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "metadata.json"):
            archive.writestr(name, parts[name])
    refused(path, "without model.weights.h5", load_classifier)
    model.save(path)
    assert load_classifier(path, max_memory=10**6).count_params() > 10**6
    needed = built_size(model.config.to_dict()) - path.stat().st_size
    assert 0 < needed < 10**6
    assert load_classifier(path, max_memory=needed) is not None
    refused(path, "more than the allowed", load_classifier, max_memory=needed - 1)
    for wrong in (-1, 2.5, "8G"):
        with pytest.raises(ValueError, match=r"max_memory=.* must be"):
            load_classifier(path, max_memory=wrong)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"shared_norms": True, "sharing": "sequence", "unique_blocks": 2, "steps": 4},
        {"shared_norms": True, "sharing": "attention", "steps": 3},
        {"sharing": "feed_forward", "unique_blocks": 2, "steps": 4},
        {"class_token": False, "pooling": "mean", "channels": 1},
        {"representation": False, "image_size": 16, "num_classes": 3},
    ],
)
def test_parameters_are_counted_by_formula(kind, fields):
    if "unique_blocks" in fields and kind != "widenet":
        fields = {**fields, "moe_blocks": (-1,), "steps": 2}
    model = widenet_keras.ImageClassifier(tiny_config(kind, **fields))
    assert parameter_count(model.config.to_dict()) == model.count_params()


@pytest.mark.parametrize(
    "change",
    [slow(f, when=f is strangers.empty_chunks) for f in strangers.HDF5_SIZES],
    ids=lambda f: f.__name__,
)
def test_arrays_that_would_not_fit_are_not_read(change, honest, tmp_path):
    path = strangers.with_weights(
        honest / "model.keras", tmp_path / "large.keras", change
    )
    for load in LOADERS:
        refused(path, r"would take [1-4]\.\d GiB of memory for its weights", load)


@pytest.mark.parametrize("change", strangers.HDF5_OUTSIDE, ids=lambda f: f.__name__)
def test_arrays_that_are_somewhere_else_are_not_read(change, honest, tmp_path):
    path = strangers.with_weights(
        honest / "model.keras", tmp_path / "outside.keras", change
    )
    for load in LOADERS:
        refused(path, "points somewhere else|is kept in another file", load)


@pytest.mark.parametrize("count", [20, slow(400)])
def test_damaged_weights_whose_checksums_are_right(count, honest, tmp_path):
    path, random = tmp_path / "damaged.keras", np.random.default_rng(3)

    def change(parts):
        parts["model.weights.h5"] = damaged(parts["model.weights.h5"], random)

    lines = []
    for _ in range(count):
        strangers.rewritten(honest / "model.keras", path, change)
        try:
            load_classifier(path)
        except ValueError as error:
            lines.append(str(error))
    assert not [line for line in lines if str(path) not in line or "\n" in line]
    assert len(lines) > 0.3 * count


def test_what_a_runtime_says_is_one_line(honest, monkeypatch):
    predictor = open_predictor(honest / "model.tflite")

    def fail(images):
        raise RuntimeError("no kernel\nat line 3")

    monkeypatch.setattr(predictor, "run", fail)
    with pytest.raises(ValueError, match=r"model\.tflite cannot be run .*no kernel\)"):
        predictor.logits(tiny_images(2))


def test_headers_of_npz_files_that_claim_too_much(tmp_path):
    for shape, size in (((10**12,), None), ((10**12,), 10**12), ((-1, 4), None)):
        path = strangers.npz(tmp_path / "large.npz", shape, size)
        refused(path, "header says|would unpack", lambda p: open_source(p, "test"))


def test_constants_that_stand_for_many_are_refused(copy):
    def change(graph):
        nodes = [n for f in graph.graph_def.library.function for n in f.node_def]
        tensors = (n.attr["value"].tensor for n in nodes if n.op == "Const")
        # One that has a value: nothing many times is nothing.
        tensor = next(each for each in tensors if not each.tensor_shape.dim)
        tensor.tensor_shape.dim.add(size=strangers.FAR * 9)

    path = strangers.with_graph(copy("saved_model"), change)
    refused(path, "for constants and variables", trust=True)


def test_weights_that_say_that_they_are_many_are_refused(copy):
    path = copy("onnx")
    model = strangers.honest_onnx(path)
    model.graph.initializer[0].dims.append(10**12)
    refused(strangers.seal_onnx(path, model), "of memory for its weights")

    def change(model):
        model.subgraphs[0].tensors[0].shape = [60000, 60000, 3]

    refused(strangers.with_litert(copy("litert"), change), "for one of its tensors")


@pytest.mark.parametrize(
    ("text", "size"), [("8G", 2**33), ("1.5 KB".replace(" ", ""), 1536), ("12", 12)]
)
def test_amounts_of_memory(text, size):
    assert memory_of(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "8X", "1e9", "nan"])
def test_no_amounts_of_memory(text):
    with pytest.raises(ValueError, match="no amount of memory"):
        memory_of(text)


# The manifest and the model

WRONG = [
    ({"class_names": ["a", "b"]}, "2"),
    ({"class_names": []}, "empty"),
    ({"class_names": [1, 2, 3, 4, 5]}, "texts"),
    ({"class_names": "abcde"}, "texts"),
    ({"class_names": {}}, "texts"),
    ({"image_shape": [12, 12]}, "image_shape"),
    ({"image_shape": [12, 12, "3"]}, "image_shape"),
    ({"image_shape": [12, 12, -3]}, "image_shape"),
    ({"image_shape": [12, 12, 3.0]}, "image_shape"),
    ({"image_shape": [60000, 60000, 3]}, "60000"),
    ({"image_shape": [13, 13, 3]}, "13"),
    ({"image_shape": None}, "image_shape"),
    ({"batch": "x"}, "batch"),
    ({"batch": 0}, "batch"),
    ({"batch": True}, "batch"),
    ({"batch": 10**9}, "1000000000"),
    ({"batch": [1]}, "batch"),
    ({"input": "text"}, "input"),
    ({"input": ["float"]}, "input"),
]


@pytest.mark.parametrize(
    # A SavedModel takes half a second to open, for each manifest.
    "format",
    [slow(f, when=f == "saved_model") for f in FORMATS],
)
def test_a_manifest_is_about_the_model_beside_it(format, copy, honest):
    assert open_predictor(honest / NAMES[format]).class_names == CLASSES
    # One function checks all formats, so they share the cases.
    for change, match in WRONG[list(FORMATS).index(format) :: len(FORMATS)]:
        path = strangers.with_manifest(copy(format), change)
        refused(path, match)
        (shutil.rmtree if path.is_dir() else type(path).unlink)(path)


def test_an_export_names_each_class_once(tmp_path):
    names = ["crane", "crane", "a", "b", "c"]
    with pytest.raises(ValueError, match=r"'crane' .* more than once") as error:
        widenet_keras.export(
            tiny_model("vit", steps=1), tmp_path / "m.keras", "keras", class_names=names
        )
    one_line(error)
    assert not list(tmp_path.iterdir())


def test_a_manifest_may_be_any_json(copy):
    path = copy("keras")
    for text in ("[" * 10**5, "null", "[]", '"x"', "1" * 5000, "{}"):

        def replace(parts, text=text):
            parts["manifest.json"] = text.encode()

        target = path.with_name("other.keras")
        refused(strangers.rewritten(path, target, replace), "manifest")


# What is printed

ESCAPES = "\x1b[2Kcat\nother.png: dog 0.99\u202e"


def test_what_is_printed_has_no_codes():
    assert printable("Käse 3°, 猫") == "Käse 3°, 猫"
    assert printable(ESCAPES) == r"\x1b[2Kcat\nother.png: dog 0.99\u202e"
    assert printable("\udcff\x9b\u2028\u200b\t") == r"\udcff\x9b\u2028\u200b\t"


def test_names_in_a_file_forge_no_line(tmp_path, capsys):
    names = [f"{ESCAPES}{index}" for index in range(5)]
    path, images = tmp_path / "model.keras", tmp_path / "images"
    options = {"class_names": names, "say": silent}
    widenet_keras.export(tiny_model("vit", steps=1), path, "keras", **options)
    images.mkdir()
    pixels = np.zeros((12, 12, 3), "uint8")
    keras.utils.save_img(str(images / "a\x1b\nb.png"), pixels)
    main(["predict", str(images), "--model", str(path), "--top", "2"])
    [line] = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert r"a\x1b\nb.png: \x1b[2Kcat other" in line
    with pytest.raises(SystemExit):
        main(["predict", str(tmp_path / "no\x1bne"), "--model", str(path)])
    [line] = capsys.readouterr().err.splitlines()
    assert line.isprintable()


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_commands_take_the_limit(command, honest, tmp_path, capsys):
    path, photo = str(honest / "model.keras"), str(tmp_path / "photo.png")
    keras.utils.save_img(photo, np.zeros((12, 12, 3), "uint8"))
    words = {
        "predict": [photo, "--model", path],
        "evaluate": [path, "--data", "digits"],
        "export": [path, "--format", "keras"],
    }[command]
    for limit, status, match in (("1K", 1, "more than the allowed"), ("x", 2, "8G")):
        with pytest.raises(SystemExit) as end:
            main([command, *words, "--max-memory", limit])
        assert end.value.code == status
        [line] = capsys.readouterr().err.splitlines()
        assert match in line


# Classes that a `.keras` file names


def spelt(module, name, config, registered=None):
    return {
        "module": module,
        "class_name": name,
        "config": config,
        "registered_name": registered,
    }


FOREIGN = [
    spelt("os", "system", {"command": "touch MARKER"}),
    spelt("builtins", "function", "eval"),
    spelt("builtins", "exec", {}),
    spelt("keras.utils", "function", "get_file", "get_file"),
    spelt("keras.utils", "get_file", {"fname": "x", "origin": "file:///etc/passwd"}),
    spelt("keras.config", "function", "enable_unsafe_deserialization"),
    spelt("keras.src.utils.file_utils", "function", "get_file"),
    spelt("keras.saving", "load_model", {"filepath": "MARKER"}),
    spelt("keras.models", "load_model", {"filepath": "MARKER"}),
    spelt("keras.layers", "Lambda", {"function": "x"}),
    spelt("keras.layers", "TFSMLayer", {"filepath": "MARKER"}),
    spelt("keras.src.layers.core.lambda_layer", "Lambda", {"function": "x"}),
    spelt("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}),
    spelt("keras.layers", "TorchModuleWrapper", {"module": "x"}),
    spelt("keras_cv.layers", "RandAugment", {}),
    spelt(None, "__lambda__", {"value": "4wAAAA=="}),
    spelt(None, "__typespec__", []),
    spelt("keras", ["Sequential"], {}),
    spelt(["os"], "system", {}),
    spelt("os", "widenet_keras>Attention", {}, None),
]


@pytest.mark.parametrize("named", FOREIGN, ids=lambda n: str(n["class_name"]))
@pytest.mark.parametrize("place", ["loss", "metrics", "dtype", "nested"])
def test_what_a_configuration_may_not_name(named, place, honest, tmp_path):
    def change(config):
        if place in ("loss", "metrics"):
            config["compile_config"] = {"optimizer": "sgd", place: named}
        elif place == "dtype":
            config["config"]["dtype"] = named
        else:
            config["config"]["config"]["pieces"] = [{"kind": {"deep": [named]}}]

    before = set(sys.modules)
    path = strangers.with_config(honest / "model.keras", tmp_path / "f.keras", change)
    refused(path, "it names .* that a file may load", widenet_keras.load_model)
    if place in ("dtype", "nested"):
        refused(path, "it names .* that a file may load")
    assert not {name for name in set(sys.modules) - before if "keras_cv" in name}


def test_what_keras_models_name_is_let_through(tmp_path):
    layers, path = keras.layers, tmp_path / "model.keras"
    inputs = keras.Input((12, 12, 3))
    x = layers.Rescaling(1.0)(inputs)
    x = tiny_model("vit", steps=1)(x)[:, :4] + 1.0
    x = layers.Dense(2, "gelu", kernel_regularizer="l2")(x)
    model = keras.Model(inputs, layers.Activation("softmax")(x))
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)),
        keras.losses.kl_divergence,
        ["acc", keras.metrics.AUC()],
    )
    # As after a step of training: Keras warns of an optimizer without its numbers.
    model.optimizer.build(model.trainable_variables)
    model.save(path)
    loaded = widenet_keras.load_model(path)
    images = tiny_images(2)
    np.testing.assert_allclose(numpy(loaded(images)), numpy(model(images)), atol=1e-6)

    class Mine(layers.Dense):
        pass

    keras.Sequential([keras.Input((2,)), Mine(2)]).save(path)
    refused(path, "'Mine'", widenet_keras.load_model)
    widenet_keras.load_model(path, custom_objects={"Mine": Mine})
