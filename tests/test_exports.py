"""Exports: the model's answers, any batch, each weight once, nothing left behind."""

import contextlib
import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    BACKEND,
    KINDS,
    numpy,
    one_line,
    slow,
    tiny_images,
    tiny_model,
)

import widenet_keras
from widenet_keras.exports import export as export_function
from widenet_keras.exports.compare import check
from widenet_keras.exports.export_report import ExportReport
from widenet_keras.exports.options import FORMATS
from widenet_keras.exports.precision import exact_products
from widenet_keras.inference import open_predictor

pytest.importorskip("tensorflow")

NAMES = {
    "saved_model": "exported",
    "litert": "model.tflite",
    "onnx": "model.onnx",
    "keras": "model.keras",
}
CLASSES = ["ant", "bee", "cat", "dog", "eel"]


def silent(line):
    """Says nothing."""


def export(model, folder, format, **options):
    """Exports into a folder and returns the report and the predictor."""
    path = folder / NAMES[format]
    report = widenet_keras.export(model, path, format, **{"say": silent, **options})
    return report, open_predictor(path)


# A model whose weights are most of its files.
WIDE = {"width": 192, "heads": 4, "expert_dim": 512, "steps": 4}


def assert_files_are_the_model(model, format, quantize, tmp_path):
    """Checks an export and its own check, and another number of images.

    Returns its report and its predictor.
    """
    options = {"quantize": quantize, "images": decided_images(model)}
    report, predictor = export(model, tmp_path, format, **options)
    images = tiny_images(3)
    found, wanted = predictor.logits(images), numpy(model(images))
    atol = 1e-5 if quantize == "none" else 0.2 * np.ptp(wanted)
    assert report.largest_difference <= atol
    np.testing.assert_allclose(found, wanted, atol=atol)
    return report, predictor


def decided_images(model):
    """Returns 40 images of which a model is surest.

    Random weights decide by less than rounding; a trained model seldom does.
    """
    images = tiny_images(160)
    second, best = np.sort(numpy(model(images)), axis=-1)[:, -2:].T
    return images[np.argsort(second - best)[:40]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Returns a function that exports a model once, whoever asks for it.

    It takes a kind of model (or "wide") and a format, and returns the model, the
    folder, the report, the predictor and the lines that were said.
    """
    models, images = {}, tiny_images(7)

    @functools.cache
    def once(kind, format):
        if kind not in models:
            models[kind] = tiny_model(**WIDE) if kind == "wide" else tiny_model(kind)
        folder, said = tmp_path_factory.mktemp("exported"), []
        options = {"images": images, "say": said.append}
        report, predictor = export(models[kind], folder, format, **options)
        return models[kind], folder, report, predictor, said

    return once


@pytest.mark.parametrize(
    ("kind", "format"),
    # Dense blocks, and blocks that are not shared, differ before any format does.
    [
        slow(k, f, when=k != "widenet" and (k, f) != ("vit_moe", "litert"))
        for k in KINDS
        for f in FORMATS
    ],
)
def test_exports_agree_with_the_model(exported, kind, format):
    model, folder, report, predictor, _ = exported(kind, format)
    assert report.largest_difference < 1e-5
    assert report.agreement == 1.0
    assert [path.name for path in folder.iterdir()] == [NAMES[format]]
    images = tiny_images(7)
    logits = numpy(model(images))
    # Nothing depends on batch mates: alone and among others, in any number.
    for images_here, wanted in ((images, logits), (images[3:4], logits[3:4])):
        np.testing.assert_allclose(predictor.logits(images_here), wanted, atol=1e-5)


ODD = [
    {
        "activation": "gelu",
        "output_activation": "silu",
        "router": "grouped_top_1",
        "sharing": "cycle",
        "unique_blocks": 2,
        "steps": 3,
        "class_token": False,
        "channels": 4,
    },
    {
        "channels": 1,
        "activation": "relu",
        "output_activation": "gelu",
        "top_k": 1,
        "sharing": "attention",
        "pooling": "token_attention",
    },
]


@pytest.mark.parametrize(
    ("format", "fields"),
    [
        pytest.param(
            format,
            fields,
            id=f"{format}-{channels}_channels",
            # Each format once, and each set of fields.
            marks=[pytest.mark.slow] * ((format == "litert") != (channels == 1)),
        )
        for format in ("saved_model", "litert", "onnx")
        for channels, fields in zip((4, 1), ODD, strict=True)
    ],
)
def test_fields_that_are_not_the_defaults(format, fields, tmp_path):
    model = tiny_model(**fields)
    images = np.random.default_rng(0).uniform(-1, 1, (5, *model.config.image_shape))
    report, predictor = export(model, tmp_path, format, images=images)
    assert report.largest_difference < 1e-5
    images = images.astype("float32")
    np.testing.assert_allclose(
        predictor.logits(images[1:3]), numpy(model(images[1:3])), atol=1e-5
    )


@pytest.mark.parametrize(
    "format",
    [
        # What the process is told is the same for all; README exports to LiteRT.
        slow("saved_model", when=BACKEND != "torch"),
        slow("litert"),
        slow("onnx"),
    ],
)
def test_other_backends_export_through_tensorflow(format, tmp_path):
    report, predictor = export(
        tiny_model("vit_moe"), tmp_path, format, class_names=CLASSES
    )
    assert report.largest_difference < 1e-5
    assert report.operators
    assert predictor.class_names == CLASSES
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[format]]


def test_a_lower_precision_and_a_fixed_engine_are_exported_in_float32(tmp_path):
    model = tiny_model(dtype="mixed_bfloat16", engine="slots")
    report, _ = export(model, tmp_path, "litert")
    assert report.largest_difference < 1e-5
    assert model.compute_dtype == "bfloat16"


@pytest.mark.parametrize("format", ["saved_model", "litert", "onnx"])
def test_a_fixed_batch_and_pixels(format, tmp_path):
    model, images = tiny_model(), tiny_images(5)
    report, predictor = export(
        model, tmp_path, format, batch=2, input="uint8", images=images
    )
    assert report.largest_difference < 1e-5
    pixels = np.rint((images + 1) * 127.5).astype("uint8")
    wanted = numpy(model(widenet_keras.scale_pixels(pixels)))
    # Pixels are as welcome as floats.
    for given in (pixels, widenet_keras.scale_pixels(pixels)):
        np.testing.assert_allclose(predictor.logits(given), wanted, atol=1e-5)
    # Images that filled up a batch count for nothing.
    assert (report.images, report.batch) == (5, 2)
    assert "for a call of 2 images" in str(report)


@pytest.mark.parametrize("input", ["float", "uint8"])
def test_the_signatures_of_a_saved_model(input, tmp_path):
    import tensorflow as tf

    model, pixels = tiny_model(), np.arange(2 * 432).reshape(2, 12, 12, 3) % 256
    pixels = pixels.astype("uint8")
    images = widenet_keras.scale_pixels(pixels)
    wanted = numpy(model(images))
    export(model, tmp_path, "saved_model", input=input, class_names=CLASSES)
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    default, given = {
        "float": ("serve", {"images": images}),
        "uint8": ("serve_uint8", {"pixels": pixels}),
    }[input]
    for name in (default, "serving_default"):
        found = loaded.signatures[name](**{k: tf.constant(v) for k, v in given.items()})
        np.testing.assert_allclose(found["logits"], wanted, atol=1e-5)
    assets = tmp_path / "exported" / "assets"
    assert (assets / "labels.txt").read_text().splitlines() == CLASSES
    preprocessing = json.loads((assets / "preprocessing.json").read_text())
    assert preprocessing["scale"] == "pixels / 127.5 - 1"


def test_the_routers_of_int8_files_stay_in_float(tmp_path):
    model = tiny_model()
    images = decided_images(model)
    _, predictor = export(model, tmp_path, "litert", quantize="int8", images=images)
    interpreter = predictor._interpreter
    tensors = interpreter.get_tensor_details()
    kernel = numpy(model.encoder.blocks[0].feed_forward.router.kernel).T
    routers = [each for each in tensors if tuple(each["shape"]) == kernel.shape]
    stored = [interpreter.get_tensor(each["index"]) for each in routers]
    assert any(np.array_equal(value, kernel) for value in stored)
    kinds = {each["dtype"] for each in tensors if tuple(each["shape"]) == (14, 12)}
    assert np.int8 in kinds


def test_experts_are_cut_out_once_whatever_the_depth():
    import tensorflow as tf

    from widenet_keras.exports.graphs_tensorflow import Network

    found = []
    for steps in (2, 5):
        network = Network(tiny_model(steps=steps), engine="listed", unrolled=True)
        spec = tf.TensorSpec((None, 12, 12, 3))
        graph = tf.function(network.forward).get_concrete_function(spec).graph
        # Cut out at every step, the constants of WideNet-L/16 were over 20 GB.
        stacks = ((4, 12, 14), (4, 14, 12))
        found.append(
            sum(
                tuple(operation.inputs[0].shape) in stacks
                for operation in graph.get_operations()
                if operation.type in ("Unpack", "StridedSlice")
            )
        )
    assert found == [2, 2]


@pytest.mark.parametrize("given", ["floats", "pixels"])
def test_pixels_to_compare_on_are_scaled(given, tmp_path):
    pixels = np.arange(2 * 432).reshape(2, 12, 12, 3).astype("uint8")
    images = pixels if given == "pixels" else widenet_keras.scale_pixels(pixels)
    model = tiny_model()
    report, predictor = export(model, tmp_path, "keras", images=images)
    assert report.largest_difference < 1e-5
    wanted = numpy(model(widenet_keras.scale_pixels(pixels)))
    np.testing.assert_allclose(predictor.logits(images), wanted, atol=1e-5)


def test_what_was_just_written_may_take_what_its_model_takes(tmp_path, monkeypatch):
    # As of weights in float16 of which 2 GiB are built.
    monkeypatch.setitem(open_predictor.__kwdefaults__, "max_memory", 0)
    path = tmp_path / "model.keras"
    fields = {"quantize": "float16", "say": silent}
    widenet_keras.export(tiny_model(), path, "keras", **fields)
    with pytest.raises(ValueError, match="allow more"):
        open_predictor(path)


def test_a_quantised_model_is_held_to_its_rounding(tmp_path):
    model = tiny_model(width=48, heads=4, expert_dim=64)
    model.quantize("int8")
    report, predictor = export(model, tmp_path, "keras", images=tiny_images(40))
    assert report.agreement == 1.0
    assert predictor.model.quantization == "int8"
    report, _ = export(model, tmp_path, "saved_model", images=tiny_images(40))
    assert report.agreement >= 0.975


def assert_small(report, predictor, most, images):
    """A file has each weight once, and answers alike for one image and for many."""
    # Stored per step, or twice, the weights alone would be over this; a graph is
    # the same few hundred kilobytes whatever the width.
    assert report.size < most * report.parameter_bytes + 700_000
    alone = np.concatenate([predictor.logits(images[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(alone, predictor.logits(images)[:4], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["saved_model", "litert", "onnx"])
def test_weights_are_stored_once(exported, format):
    _, _, report, predictor, _ = exported("wide", format)
    assert_small(report, predictor, 1.0, tiny_images(7))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["saved_model", "litert", "onnx"])
@pytest.mark.parametrize(
    ("quantize", "most"), [("float16", 0.5), ("dynamic_int8", 0.25)]
)
def test_smaller_weights_are_stored_once(format, quantize, most, tmp_path):
    model = tiny_model(**WIDE)
    images = decided_images(model)
    options = {"quantize": quantize, "images": images}
    report, predictor = export(model, tmp_path, format, **options)
    assert report.agreement >= 0.975
    assert_small(report, predictor, most, images)


def assert_builtin(report, predictor):
    """A LiteRT file has operators of the runtime only, and takes any batch."""
    assert not [name for name in report.operators if name.upper().startswith("FLEX")]
    assert not [name for name in report.operators if "CUSTOM" in name.upper()]
    [entry] = predictor._interpreter.get_input_details()
    assert list(entry["shape_signature"]) == [-1, 12, 12, 3]


def test_litert_has_builtin_operators_only(exported):
    _, _, report, predictor, _ = exported("widenet", "litert")
    assert_builtin(report, predictor)


@pytest.mark.parametrize("quantize", ["dynamic_int8", "int8"])
def test_quantised_litert_has_builtin_operators_only(quantize, tmp_path):
    model = tiny_model()
    options = {"quantize": quantize, "images": decided_images(model)}
    assert_builtin(*export(model, tmp_path, "litert", **options))


@pytest.mark.slow
def test_onnx_states_its_opset_and_has_no_weight_twice(exported):
    import onnx

    _, folder, *_ = exported("wide", "onnx")
    model = onnx.load(folder / "model.onnx")
    [opset] = [each.version for each in model.opset_import if not each.domain]
    assert opset == 18
    large = [t.raw_data for t in model.graph.initializer if len(t.raw_data) > 1024]
    assert len(set(large)) == len(large) > 4


def test_experts_that_nobody_chose(tmp_path):
    model = tiny_model()
    router = model.encoder.blocks[0].feed_forward.router
    kernel = numpy(router.kernel)
    # Two experts share a column, so the lower index always wins.
    router.kernel.assign(np.repeat(kernel[:, :1], 4, axis=1))
    for format in ("litert", "onnx"):
        report, _ = export(model, tmp_path, format)
        assert report.largest_difference < 1e-5


def test_a_failed_check_keeps_the_old_file(tmp_path, monkeypatch):
    old = tmp_path / "model.tflite"
    old.write_text("old")
    monkeypatch.setattr("widenet_keras.exports.compare._LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(RuntimeError) as error:
        widenet_keras.export(tiny_model(), old, "litert", say=silent)
    assert "differs from the model by" in one_line(error)
    assert old.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]


@pytest.mark.parametrize(
    ("images", "far", "agreement", "passes"),
    [
        (200, 0, 1.0, True),
        (200, 2, 1.0, True),  # one in a hundred is nearly tied
        (200, 3, 1.0, False),
        (200, 1, 0.995, False),
        (99, 1, 1.0, False),
    ],
)
def test_floats_may_differ_where_experts_are_nearly_tied(
    images, far, agreement, passes
):
    report = ExportReport(
        path="model.onnx",
        format="onnx",
        quantize="none",
        size=1,
        parameter_bytes=1,
        operators={},
        images=images,
        batch=1,
        largest_difference=0.01 if far else 0.0,
        far=far,
        agreement=agreement,
        latency=1.0,
    )
    if passes:
        check(report)
    else:
        with pytest.raises(RuntimeError, match=r"differs from the model by 0\.01"):
            check(report)


def test_what_converters_raise_is_one_line(tmp_path, monkeypatch):
    class ConverterError(Exception):
        pass

    def fail(*arguments):
        raise ConverterError("no such operator\nat ...")

    module = sys.modules["widenet_keras.exports.export"]
    monkeypatch.setattr(module, "write_keras", fail)
    with pytest.raises(RuntimeError, match=r"failed .no such operator.;") as error:
        export(tiny_model(), tmp_path, "keras")
    one_line(error)
    assert not list(tmp_path.iterdir())


def test_what_fails_in_the_other_process_is_told_here(tmp_path, monkeypatch):
    def fail(command, env, **arguments):
        (Path(command[-1]) / "request.json").unlink()
        return run(command, env=env, **arguments)

    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises((OSError, RuntimeError), match=r"request\.json") as error:
        export(tiny_model("vit", steps=1), tmp_path, "litert")
    one_line(error)


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_there_is_not_lost(format, tmp_path):
    path = tmp_path / NAMES[format]
    path.mkdir()
    (path / "photo.jpg").write_text("irreplaceable")
    with pytest.raises(ValueError, match="is a folder") as error:
        widenet_keras.export(tiny_model(), path, format, say=silent)
    one_line(error)
    assert (path / "photo.jpg").read_text() == "irreplaceable"


def test_an_earlier_export_and_an_empty_folder_are_replaced(tmp_path):
    path = tmp_path / "exported"
    path.mkdir()
    for steps in (1, 2):
        model = tiny_model("vit", steps=steps)
        _, predictor = export(model, tmp_path, "saved_model")
        images = tiny_images(2)
        np.testing.assert_allclose(
            predictor.logits(images), numpy(model(images)), atol=1e-5
        )
    # As TensorFlow Serving has it.
    requests = path / "assets.extra" / "tf_serving_warmup_requests"
    requests.parent.mkdir()
    requests.write_text("irreplaceable")
    with pytest.raises(ValueError, match=r"with assets\.extra/tf_serving") as error:
        export(model, tmp_path, "saved_model")
    one_line(error)
    assert requests.read_text() == "irreplaceable"


@pytest.mark.parametrize(
    ("name", "format"),
    [("model", "litert"), ("model.tflite", "onnx"), ("model.h5", "keras")],
)
def test_a_wrong_suffix_is_told_at_once(tmp_path, name, format):
    with pytest.raises(ValueError, match="must end in") as error:
        widenet_keras.export(tiny_model(), tmp_path / name, format, say=silent)
    one_line(error)


def test_a_file_where_a_folder_belongs_is_told_at_once(tmp_path):
    (tmp_path / "model").write_text("")
    with pytest.raises(ValueError, match="writes a folder") as error:
        widenet_keras.export(tiny_model(), tmp_path / "model", say=silent)
    one_line(error)


def test_what_a_user_said_of_precision_stays(tmp_path):
    import torch

    for said in ("medium", "high", "highest"):
        torch.set_float32_matmul_precision(said)
        with exact_products():
            pass
        assert torch.get_float32_matmul_precision() == said


def test_both_sides_are_compared_with_exact_products(tmp_path, monkeypatch):
    inside = []

    @contextlib.contextmanager
    def noted():
        inside.append(True)
        yield
        inside.pop()

    module, seen = sys.modules["widenet_keras.exports.export"], []
    for name in ("_logits", "report_on"):
        plain = getattr(module, name)
        monkeypatch.setattr(
            module,
            name,
            lambda *a, plain=plain: (seen.append(bool(inside)), plain(*a))[1],
        )
    monkeypatch.setattr(module, "exact_products", noted)
    export(tiny_model("vit", steps=1), tmp_path, "keras")
    assert seen == [True, True]


def test_products_are_exact_while_answers_are_compared():
    with contextlib.ExitStack() as stack:
        if BACKEND == "jax":
            import jax

            stack.enter_context(jax.default_matmul_precision("bfloat16"))
        stack.enter_context(exact_products())
        if BACKEND == "jax":
            assert jax.config.jax_default_matmul_precision == "highest"
        elif BACKEND == "torch":
            import torch

            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        else:
            import tensorflow as tf

            assert not tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.mark.parametrize(
    ("options", "pieces"),
    [
        ({"format": "tflite"}, ["format='tflite'", "litert"]),
        ({"quantize": "int4"}, ["quantize='int4'"]),
        ({"input": "png"}, ["input='png'"]),
        ({"batch": 0}, ["batch", "0"]),
        ({"format": "litert", "input": "jpeg"}, ["input='jpeg'", "saved_model"]),
        ({"format": "keras", "batch": 3}, ["batch=3"]),
        ({"quantize": "int8"}, ["quantize='int8'", "dynamic_int8, litert or onnx"]),
        ({"format": "keras", "quantize": "int8"}, ["quantize='int8'", "litert"]),
        ({"class_names": ["one"]}, ["1 class_names", "5 classes"]),
        ({"images": np.zeros((0, 12, 12, 3))}, ["images has none", "at least"]),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, options, pieces):
    options = {"format": "saved_model", **options}
    path = tmp_path / NAMES.get(options["format"], "file")
    with pytest.raises(ValueError) as error:  # noqa: PT011
        widenet_keras.export(tiny_model(), path, **options)
    assert not [piece for piece in pieces if piece not in one_line(error)]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "module", "extra"),
    [("saved_model", "tensorflow", "tensorflow"), ("onnx", "tf2onnx", "onnx")],
)
def test_what_is_missing_is_named(tmp_path, monkeypatch, format, module, extra):
    monkeypatch.setattr(
        "widenet_keras.exports.options.is_installed", lambda name: name != module
    )
    with pytest.raises(ImportError) as error:
        widenet_keras.export(tiny_model(), tmp_path / NAMES[format], format)
    assert f"[{extra}]'" in one_line(error)


def test_the_report_reads_well_and_is_plain(exported):
    _, folder, report, _, said = exported("widenet", "litert")
    assert said[0].startswith("exporting image_classifier")
    assert "FULLY_CONNECTED" in said[1]
    assert "latency" in said[1]
    facts = json.loads(json.dumps(report.to_dict()))
    assert facts["size"] == (folder / "model.tflite").stat().st_size
    assert export_function is widenet_keras.export
