"""The fields that plain ViTs of other libraries need, against NumPy in float64."""

import json
from pathlib import Path

import keras
import numpy as np
import oracle
import pytest
from conftest import (
    numpy,
    one_line,
    slow,
    slow_on,
    tiny_config,
    tiny_images,
    tiny_model,
)
from gradients import value_and_gradients
from test_contract import MANY

import widenet_keras
from widenet_keras import WideNetConfig, forward_flops, tie
from widenet_keras.evaluation import evaluate_classifier
from widenet_keras.files.checksums import open_with_zip
from widenet_keras.inference import open_predictor
from widenet_keras.models.config_checks import SIZES
from widenet_keras.models.description import describe, parameters_of_parts
from widenet_keras.models.memory_use import parameter_count
from widenet_keras.utils.roles import role_of

PLAIN = {"representation": False}
TWO = {"registers": 2, **PLAIN}
# Every field, apart and with those that it meets.
FIELDS = {
    "norm_epsilon": {"norm_epsilon": 0.05},
    "quick_gelu": {"activation": "quick_gelu"},
    "gelu": {"activation": "gelu"},
    "gated": {"gated": True, "activation": "silu"},
    "gated, shared": {"gated": True, "sharing": "all", "pooling": "mean"},
    "embedding_norm": {"embedding_norm": True, "norm_epsilon": 0.05},
    "registers": {"registers": 3},
    "registers alone": {"registers": 12, "class_token": False, "pooling": "mean"},
    "registers, norm": {"registers": 2, "embedding_norm": True},
    "patches": {"pooling": "patches", "registers": 2},
    "patches of all": {"pooling": "patches", "class_token": False},
    "patches, norm after": {
        "pooling": "patches",
        "norm_after_pooling": True,
        "norm_epsilon": 0.05,
    },
    "mean, norm after": {"pooling": "mean", "norm_after_pooling": True},
    "token_and_patches": {"pooling": "token_and_patches", **TWO},
    "token_and_register": {"pooling": "token_and_register", **TWO},
    "token_attention": {"pooling": "token_attention", **TWO},
    "attention": {
        "pooling": "attention",
        "class_token": False,
        "activation": "quick_gelu",
        "norm_epsilon": 0.05,
    },
    "attention, norm after": {
        "pooling": "attention",
        "registers": 2,
        "norm_after_pooling": True,
    },
    "block_sizes": {"block_sizes": [(2, 5, 3, 8), (1, 4, 6, 10)]},
    "block_sizes, shared": {"sharing": "all", "block_sizes": [(2, 5, 3, 8)]},
    "step_widths": {"sharing": "all", "step_widths": (3, 10)},
    "paths": {"paths": 2, "norm_epsilon": 0.05},
    "paths, maximum": {
        "paths": 3,
        "cheap_features": "maximum",
        "gated": True,
        "sharing": "all",
        "step_widths": (3, 10),
    },
    "paths, block_sizes": {"paths": 2, "block_sizes": [(2, 5, 3, 8), (1, 4, 6, 10)]},
    "paths, one attention": {"paths": 2, "sharing": "attention", "shared_norms": True},
    "no classes": {"num_classes": 0, **PLAIN},
    "no classes, representation": {"num_classes": 0},
    "no classes, two": {"num_classes": 0, "pooling": "token_and_patches", **TWO},
}
# Without widths, so that rounding is that of whole layers.
PATHS = {"paths": 3, "cheap_features": "maximum"}
OF_FILES = {**FIELDS, "many": MANY, "all of paths": PATHS}
OF_FILES["one step of paths"] = {"paths": 2, "steps": 1, **PLAIN}
every_field = pytest.mark.parametrize("fields", FIELDS.values(), ids=list(FIELDS))


def expected(model, images):
    """Returns what NumPy answers with the weights of a model."""
    weights = oracle.weights_by_path(model)
    return oracle.model_forward(weights, model.config, images)[0]


@every_field
def test_a_field_against_numpy(fields):
    model, images = tiny_model("vit", **fields), tiny_images(3)
    found = numpy(model(images))
    assert found.dtype == np.float32
    assert found.shape == (3, model.config.outputs)
    assert found.shape == model.compute_output_shape((3, 12, 12, 3))
    np.testing.assert_allclose(found, expected(model, images), atol=1e-5)
    np.testing.assert_array_equal(found, model.predict(images, verbose=0))
    assert model(images[:0]).shape == (0, model.config.outputs)


def test_many_fields_at_once_against_numpy():
    sizes = {"block_sizes": [(2, 5, 3, 8)], "step_widths": (4, 8)}
    model, images = tiny_model("vit", **MANY, **sizes), tiny_images(3)
    np.testing.assert_allclose(numpy(model(images)), expected(model, images), atol=1e-5)


@slow_on("jax")
def test_gradients_of_many_fields_reach_every_weight():
    model, images = tiny_model("vit", **MANY), tiny_images(3)
    weights = model.trainable_weights

    def loss():
        return keras.ops.sum(keras.ops.square(model(images, training=True)))

    _, gradients = value_and_gradients(loss, weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        # What is added to all keys changes no softmax over them.
        if not weight.path.endswith("/key/bias"):
            assert np.abs(gradient).max() > 1e-6, weight.path


@pytest.mark.parametrize("kind", ["widenet", "vit_moe"])
def test_experts_have_the_epsilon_too(kind):
    fields = {"norm_epsilon": 0.05, "registers": 2, "activation": "gelu_tanh"}
    model, images = tiny_model(kind, **fields), tiny_images(3)
    np.testing.assert_allclose(numpy(model(images)), expected(model, images), atol=1e-5)
    routing = model.routing(images)
    assert routing.experts.shape[2] == 1 + 2 + 9
    np.testing.assert_array_equal(
        routing.patch_experts(1), routing.experts[:, 1, 3:, 0].reshape(-1, 3, 3)
    )


@every_field
def test_parameters_parts_and_roles(fields):
    model = tiny_model("vit", **fields)
    assert parameter_count(model.config.to_dict()) == model.count_params()
    assert sum(parameters_of_parts(model).values()) == model.count_params()
    assert f"{model.config.tokens} tokens" in describe(model)
    for path, weight in oracle_paths(model).items():
        role, kernel = role_of(weight), path.endswith("kernel")
        group = {"embedding": "embedding", "head": "head"}.get(path.split("/")[0])
        assert role.group == group or (group is None and role.group != "head"), path
        assert role.decayed == kernel, path
        assert role.exact == ("norm" in path or "mixture" in path), path
        assert (role.stacked == "paths") == ("/norm_" in path), path


def oracle_paths(model):
    return {weight.path.split("/", 1)[1]: weight for weight in model.weights}


def test_the_paths_of_new_weights():
    found = {p: w.shape for p, w in oracle_paths(tiny_model("vit", **MANY)).items()}
    mlp = {"hidden": (12, 10), "outer": (10, 12)}
    square = dict.fromkeys(("key", "value", "output"), (12, 12))
    products = {f"head/attention/{name}": s for name, s in (square | mlp).items()}
    products["encoder/block_0/feed_forward/gate"] = (12, 10)
    wanted = {"embedding/registers": (2, 12), "head/attention/query": (12,)}
    for path, shape in products.items():
        wanted |= {f"{path}/kernel": shape, f"{path}/bias": shape[1:]}
    for path in ("embedding/norm", "head/attention/norm"):
        wanted |= {f"{path}/gamma": (12,), f"{path}/beta": (12,)}
    assert {path: tuple(found[path]) for path in wanted} == wanted
    plain = oracle_paths(tiny_model("vit", sharing="all", **PLAIN))
    assert set(found) - set(plain) == set(wanted)


def test_what_has_its_default_is_not_written():
    before = set(WideNetConfig(pooling="token").to_dict())
    new = {"norm_epsilon", "gated", "embedding_norm", "registers"}
    new |= {"norm_after_pooling", "pieces"}
    groups = {"attention_groups"}
    widths = {"block_sizes", "step_widths", "nested_widths", "nested_probabilities"}
    more = {"paths", "cheap_features", "ring_size", "ring_seed"} | groups
    assert before == set(vars(WideNetConfig())) - new - widths - more
    fields = json.loads(json.dumps(tiny_config("vit", **MANY).to_dict()))
    assert fields.keys() - before == new - {"pieces"}
    assert WideNetConfig(**fields) == tiny_config("vit", **MANY)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("many", "float32"),
        ("no classes, two", "float32"),
        ("many", "mixed_bfloat16"),
        ("many", "int8"),
        ("one step of paths", "int8"),
        ("all of paths", "mixed_bfloat16"),
        slow("no classes, two", "mixed_bfloat16"),
        slow("no classes, two", "int8"),
        slow("attention", "int8"),
    ],
)
def test_saved_and_loaded(name, kind, tmp_path):
    sizes = {"width": 16, "heads": 2, "mlp_dim": 24}
    dtype = None if kind == "int8" else kind
    model = tiny_model("vit", dtype, **{**OF_FILES[name], **sizes})
    images = tiny_images(3)
    exact = expected(model, images)
    if kind == "int8":
        model.quantize("int8")
        products = [w.path for w in model.weights if w.dtype == "int8"]
        dense = [p for p in oracle.weights_by_path(model) if p.endswith("kernel")]
        assert len(products) == len(dense) - 1  # that of the patches
    found = numpy(model(images))
    assert found.dtype == np.float32
    # Rounding shows, and is no more than that.
    bound = {"float32": 2e-5, "mixed_bfloat16": 0.1, "int8": 0.1}[kind]
    apart = np.abs(found - exact).max()
    assert apart < bound * max(1, np.abs(exact).max())
    assert kind == "float32" or apart > 1e-4
    model.save(tmp_path / "model.keras")
    again = widenet_keras.load_model(tmp_path / "model.keras")
    assert again.config == model.config
    np.testing.assert_allclose(numpy(again(images)), found, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["token_and_patches", "attention, norm after", "no classes, two"]
)
def test_pooled_features(name, tmp_path):
    model, images = tiny_model("vit", **{**FIELDS[name], **PLAIN}), tiny_images(3)
    entry = keras.Input((12, 12, 3))
    pooled = keras.Model(entry, model.features(entry, pooled=True))
    without = model.adapted(num_classes=0)
    wanted = numpy(without(images))
    assert tuple(pooled.output_shape[1:]) == wanted.shape[1:]
    np.testing.assert_allclose(numpy(pooled(images)), wanted, atol=1e-6)
    pooled.save(tmp_path / "model.keras")
    again = widenet_keras.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(again(images)), wanted, atol=1e-6)


def test_a_backbone_gets_classes_and_trains():
    backbone = tiny_model("vit", num_classes=0, **PLAIN)
    model = backbone.adapted(class_names=("cat", "dog"))
    for path, weight in oracle_paths(backbone).items():
        np.testing.assert_array_equal(numpy(weight), numpy(oracle_paths(model)[path]))
    two = backbone.adapted(num_classes=3, pooling="token_and_patches")
    assert two.head.logits.kernel.shape == (24, 3)
    model.compile()
    model.fit(tiny_images(4), np.array([0, 1, 0, 1]), verbose=0)
    assert model.adapted(num_classes=0).class_names is None
    with pytest.raises(ValueError, match="adapted: pooling='attention'") as error:
        backbone.adapted(pooling="attention")
    one_line(error)


def test_registers_are_no_rows_of_the_positions():
    model = tiny_model("vit", registers=2)
    larger = model.with_image_size(16)
    np.testing.assert_array_equal(
        numpy(larger.embedding.registers), numpy(model.embedding.registers)
    )
    np.testing.assert_array_equal(
        numpy(larger.embedding.position)[0], numpy(model.embedding.position)[0]
    )
    images = tiny_images(2, size=16)
    np.testing.assert_allclose(
        numpy(larger(images)), expected(larger, images), atol=1e-5
    )


def test_what_needs_classes_says_so_in_one_line():
    model, images = tiny_model("vit", num_classes=0), tiny_images(4)
    labels = np.zeros(4, "int32")
    for name, call in {
        "compile": model.compile,
        "fit": lambda: model.fit(images, labels),
        "evaluate": lambda: model.evaluate(images, labels),
        "train_on_batch": lambda: model.train_on_batch(images, labels),
        "evaluate:": lambda: evaluate_classifier(model, [(images, labels)]),
    }.items():
        with pytest.raises(ValueError, match=f"{name}.* has num_classes=0") as error:
            call()
        assert "adapted(num_classes=" in one_line(error)


def test_blocks_that_share_many_fields_are_tied():
    fields = {**MANY, "sharing": "none"}
    model = tiny_model("vit", **fields)
    tied = tie(model, base="average", moe_blocks="none")
    assert tied.config.replace(sharing="none") == model.config
    gates = [numpy(block.feed_forward.gate.kernel) for block in model.encoder.blocks]
    [block] = tied.encoder.blocks
    found = numpy(block.feed_forward.gate.kernel)
    np.testing.assert_allclose(found, np.mean(gates, axis=0), atol=1e-6)
    np.testing.assert_array_equal(
        numpy(tied.head.attention.query), numpy(model.head.attention.query)
    )
    plain = tiny_model("vit", **PLAIN)
    for wrong in ("registers", "norm_epsilon", "embedding_norm", "pooling"):
        changed = {**PLAIN, "moe_blocks": "none", wrong: MANY[wrong]}
        with pytest.raises(ValueError, match=f"tie: {wrong}=") as error:
            tie(plain, **changed)
        one_line(error)


def test_what_is_exported_without_classes(tmp_path):
    model, images = tiny_model("vit", num_classes=0), tiny_images(3)
    with pytest.raises(ValueError, match="2 class_names for 0 classes") as error:
        widenet_keras.export(
            model, tmp_path / "m.keras", "keras", class_names=["a", "b"]
        )
    one_line(error)
    check_export(model, tmp_path / "m.keras", "keras", images)


def check_export(model, path, format, images):
    """Exports a model and compares the answers of the file."""
    report = widenet_keras.export(model, path, format, say=lambda line: None)
    assert report.largest_difference < 1e-5
    predictor = open_predictor(path)
    found = predictor.logits(images)
    np.testing.assert_allclose(found, numpy(model(images)), atol=1e-5)
    assert predictor.logits(images[:0]).shape == (0, model.config.outputs)
    if model.config.num_classes:
        with pytest.raises(ValueError, match="no features") as error:
            predictor.features(images)
        one_line(error)
    else:
        assert predictor.class_names == []
        np.testing.assert_array_equal(predictor.features(images), found)
        with pytest.raises(ValueError, match="no classes") as error:
            predictor.probabilities(images)
        assert str(Path(path)) in one_line(error)


def output_names_of(path):
    """What another program reads the answers of a file by."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        return [output.name for output in session.get_outputs()]
    if path.suffix == ".tflite":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=open_with_zip(path)[0])
        return list(interpreter.get_signature_list()["serve"]["outputs"])
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    found = {tuple(s.structured_outputs) for s in loaded.signatures.values()}
    return [name for names in found for name in names]


FILES = [("saved_model", "folder"), ("litert", "m.tflite"), ("onnx", "m.onnx")]


@pytest.mark.parametrize(("format", "file"), [*FILES[:2], slow(*FILES[2])])
def test_answers_without_classes_are_called_features(format, file, tmp_path):
    sizes = {"block_sizes": [(2, 5, 3, 8)], "step_widths": (4,)}
    model = tiny_model("vit", steps=1, num_classes=0, **sizes)
    check_export(model, tmp_path / file, format, tiny_images(3))
    assert output_names_of(tmp_path / file) == ["features"]


@pytest.mark.slow
def test_files_that_called_features_logits_are_opened(tmp_path, monkeypatch):
    model, images = tiny_model("vit", steps=1, num_classes=0), tiny_images(3)
    monkeypatch.setattr(WideNetConfig, "output_name", "logits")
    check_export(model, tmp_path / "folder", "saved_model", images)
    assert output_names_of(tmp_path / "folder") == ["logits"]


@pytest.mark.parametrize(
    "name", [slow("many"), slow("no classes, two"), slow("all of paths")]
)
@pytest.mark.parametrize(("format", "file"), FILES)
def test_exports_of_many_fields(name, format, file, tmp_path):
    fields = {**OF_FILES[name], "activation": "quick_gelu"}
    model = tiny_model("vit", **fields)
    check_export(model, tmp_path / file, format, tiny_images(3))


@pytest.mark.parametrize("format", [slow("litert"), slow("onnx")])
@pytest.mark.parametrize("name", ["many", "all of paths"])
def test_int8_files_of_many_fields(name, format, tmp_path):
    sizes = {"width": 48, "mlp_dim": 96, "activation": "quick_gelu"}
    model = tiny_model("vit", **{**OF_FILES[name], **sizes})
    images = tiny_images(32)
    path = tmp_path / {"litert": "m.tflite", "onnx": "m.onnx"}[format]
    widenet_keras.export(
        model,
        path,
        format,
        quantize="int8",
        images=images,
        min_agreement=0.5,
        say=lambda line: None,
    )
    found, wanted = open_predictor(path).logits(images), numpy(model(images))
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize("field", list(SIZES))
def test_a_size_of_a_strangers_file_is_checked(field):
    fields = tiny_config("vit", **MANY).to_dict()
    for wrong in (-1, "9", True, 1.5):
        with pytest.raises(ValueError, match=f"{field}=") as error:
            parameter_count({**fields, field: wrong})
        one_line(error)
    huge = parameter_count({**fields, "registers": 10**12})
    assert huge > 10**13
    assert parameter_count({**fields, "pooling": ["mean"]}) > 0


TI = {"width": 192, "heads": 3, "mlp_dim": 768}
SMALL = {"width": 384, "heads": 6, "mlp_dim": 1536}
BASE = {"width": 768, "heads": 12, "mlp_dim": 3072}
LARGE = {"width": 1024, "heads": 16, "mlp_dim": 4096, "steps": 24}
HUGE = {"width": 1280, "heads": 16, "mlp_dim": 5120, "steps": 32}
GIANT = {"width": 1536, "heads": 24, "mlp_dim": 4096, "steps": 40}
GIANT |= {"gated": True, "activation": "silu"}
SO400M = {"width": 1152, "heads": 16, "mlp_dim": 4304, "steps": 27, "patch_size": 14}
NO_HEAD = {"num_classes": 0}
DINOV2 = {"image_size": 518, "patch_size": 14, **NO_HEAD}
DISTILLED = {"registers": 1, "pooling": "token_and_register"}
CLIP = {"embedding_norm": True, "norm_epsilon": 1e-5, "activation": "quick_gelu"}
SIGLIP = {"class_token": False, "pooling": "attention", **NO_HEAD}
# Source: section 10 of the tensor maps, worked out from the libraries' own models.
COUNTS = {
    "ViT-Ti/16": (TI, 5_717_224),
    # DeiT-III too: its LayerScale is folded.
    "ViT-S/16": (SMALL, 22_050_280),
    "ViT-B/16": (BASE, 86_566_888),
    "ViT-L/16": (LARGE, 304_325_608),
    "ViT-S/32": ({**SMALL, "patch_size": 32}, 22_878_568),
    "ViT-B/32": ({**BASE, "patch_size": 32}, 88_223_464),
    "DeiT-Ti distilled": ({**TI, **DISTILLED}, 5_909_416),
    "DeiT-S distilled": ({**SMALL, **DISTILLED}, 22_434_664),
    "DeiT-B distilled": ({**BASE, **DISTILLED}, 87_335_656),
    "DINO S/16": ({**SMALL, **NO_HEAD}, 21_665_280),
    # The encoder of MAE too.
    "DINO B/16": ({**BASE, **NO_HEAD}, 85_797_888),
    "MAE L": ({**LARGE, **NO_HEAD}, 303_300_608),
    "MAE H": ({**HUGE, "patch_size": 14, **NO_HEAD}, 630_763_520),
    "DINOv2 S": ({**SMALL, **DINOV2}, 22_046_592),
    "DINOv2 B": ({**BASE, **DINOV2}, 86_560_512),
    "DINOv2 L": ({**LARGE, **DINOV2}, 304_317_440),
    "DINOv2 g": ({**GIANT, **DINOV2}, 1_136_354_816),
    "DINOv2 S, 4 registers": ({**SMALL, **DINOV2, "registers": 4}, 22_048_128),
    "DINOv2 B, 4 registers": ({**BASE, **DINOV2, "registers": 4}, 86_563_584),
    "DINOv2 L, 4 registers": ({**LARGE, **DINOV2, "registers": 4}, 304_321_536),
    "DINOv2 g, 4 registers": ({**GIANT, **DINOV2, "registers": 4}, 1_136_360_960),
    "CLIP B/32": ({**BASE, **CLIP, "patch_size": 32, **NO_HEAD}, 87_456_000),
    "CLIP B/32, projected": (
        {**BASE, **CLIP, "patch_size": 32, "num_classes": 512},
        87_849_728,
    ),
    "CLIP B/16": ({**BASE, **CLIP, **NO_HEAD}, 85_799_424),
    "CLIP B/16, projected": ({**BASE, **CLIP, "num_classes": 512}, 86_193_152),
    "CLIP L/14": ({**LARGE, **CLIP, "patch_size": 14, **NO_HEAD}, 303_179_776),
    "CLIP L/14, projected": (
        {**LARGE, **CLIP, "patch_size": 14, "num_classes": 768},
        303_966_976,
    ),
    "SigLIP B/16": ({**BASE, **SIGLIP}, 92_293_632),
    "SigLIP B/16 gap": (
        {**BASE, "class_token": False, "pooling": "mean", **NO_HEAD},
        85_797_120,
    ),
    "SigLIP So400m/14": ({**SO400M, **SIGLIP}, 426_352_448),
}


@pytest.mark.parametrize(("fields", "count"), COUNTS.values(), ids=list(COUNTS))
def test_parameters_of_published_models(fields, count):
    plain = {"sharing": "none", "moe_blocks": "none", "pooling": "token", **PLAIN}
    assert parameter_count(WideNetConfig(**{**plain, **fields}).to_dict()) == count


def test_costs_by_hand():
    plain = tiny_config("vit", steps=1, **PLAIN)
    patches, width, hidden = 9, 12, 10

    def more(**fields):
        return forward_flops(plain.replace(**fields)) - forward_flops(plain)

    assert more(gated=True) == 2 * 10 * width * hidden
    # A token more: its products, its row and its column of attention.
    of_token = 8 * width**2 + 4 * width * hidden
    assert more(registers=1) == of_token + 4 * (11**2 - 10**2) * width
    assert more(pooling="token_and_patches") == 2 * width * 5
    assert more(num_classes=0) == -2 * width * 5
    pooling = 2 * 2 * patches * width**2 + 2 * 2 * patches * width
    pooling += 2 * width**2 + 4 * width * hidden
    assert more(pooling="attention") == pooling
    tokens = patches + 1
    pooling = 2 * 2 * tokens * width**2 + 2 * 2 * tokens * width + 2 * 2 * width**2
    assert more(pooling="token_attention") == pooling
