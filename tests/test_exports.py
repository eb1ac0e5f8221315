"""Exports: the model's answers, any batch, each weight once, nothing left behind."""

import json

import numpy as np
import pytest
from conftest import BACKEND, numpy, one_line, tiny_images, tiny_model

import widenet_keras
from widenet_keras.exports import export as export_function
from widenet_keras.exports.options import FORMATS
from widenet_keras.inference import open_predictor

pytest.importorskip("tensorflow")

NAMES = {
    "saved_model": "exported",
    "litert": "model.tflite",
    "onnx": "model.onnx",
    "keras": "model.keras",
}
# Other backends go through the same files in a process of TensorFlow's.
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="once is enough")
CLASSES = ["ant", "bee", "cat", "dog", "eel"]


def silent(line):
    """Says nothing."""


def export(model, folder, format, **options):
    """Exports into a folder and returns the report and the predictor."""
    path = folder / NAMES[format]
    report = widenet_keras.export(model, path, format, **{"say": silent, **options})
    return report, open_predictor(path)


@pytest.fixture(scope="module")
def wide():
    """A model whose weights are most of its files."""
    return tiny_model(width=192, heads=4, expert_dim=512, steps=4)


def decided_images(model):
    """Returns 40 images of which a model is surest.

    Random weights decide by less than rounding; a trained model seldom does.
    """
    images = tiny_images(160)
    second, best = np.sort(numpy(model(images)), axis=-1)[:, -2:].T
    return images[np.argsort(second - best)[:40]]


@on_tensorflow
@pytest.mark.parametrize("format", FORMATS)
def test_exports_agree_with_the_model(kind, format, tmp_path):
    model = tiny_model(kind)
    images = tiny_images(7)
    report, predictor = export(model, tmp_path, format, images=images)
    assert report.largest_difference < 1e-5
    assert report.agreement == 1.0
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[format]]
    logits = numpy(model(images))
    # Nothing depends on batch mates: alone and among others, in any number.
    for images_here, wanted in ((images, logits), (images[3:4], logits[3:4])):
        np.testing.assert_allclose(predictor.logits(images_here), wanted, atol=1e-5)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="the other backends' way")
@pytest.mark.parametrize("format", ["saved_model", "litert", "onnx"])
def test_other_backends_export_through_tensorflow(format, tmp_path):
    report, predictor = export(
        tiny_model("vit_moe"), tmp_path, format, class_names=CLASSES
    )
    assert report.largest_difference < 1e-5
    assert report.operators
    assert predictor.class_names == CLASSES
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[format]]


@on_tensorflow
def test_a_lower_precision_and_a_fixed_engine_are_exported_in_float32(tmp_path):
    model = tiny_model(dtype="mixed_bfloat16", engine="slots")
    report, _ = export(model, tmp_path, "litert")
    assert report.largest_difference < 1e-5
    assert model.compute_dtype == "bfloat16"


@on_tensorflow
@pytest.mark.parametrize("format", ["saved_model", "litert", "onnx"])
def test_a_fixed_batch_and_pixels(format, tmp_path):
    model, images = tiny_model(), tiny_images(5)
    report, predictor = export(
        model, tmp_path, format, batch=2, input="uint8", images=images
    )
    assert report.largest_difference < 1e-5
    pixels = np.rint((images + 1) * 127.5).astype("uint8")
    wanted = numpy(model(widenet_keras.scale_pixels(pixels)))
    np.testing.assert_allclose(
        predictor.logits(widenet_keras.scale_pixels(pixels)), wanted, atol=1e-5
    )


@on_tensorflow
@pytest.mark.parametrize("format", ["saved_model", "litert", "onnx"])
@pytest.mark.parametrize(
    ("quantize", "most"), [("none", 1.0), ("float16", 0.5), ("dynamic_int8", 0.25)]
)
def test_weights_are_stored_once_and_small(wide, format, quantize, most, tmp_path):
    images = decided_images(wide)
    report, predictor = export(wide, tmp_path, format, quantize=quantize, images=images)
    # Stored per step, or twice, the weights alone would be over this; a graph is
    # the same few hundred kilobytes whatever the width.
    assert report.size < most * report.parameter_bytes + 700_000
    assert report.agreement >= 0.975
    alone = np.concatenate([predictor.logits(images[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(alone, predictor.logits(images)[:4], atol=1e-4)


@on_tensorflow
@pytest.mark.parametrize("quantize", ["none", "dynamic_int8", "int8"])
def test_litert_has_builtin_operators_only(quantize, tmp_path):
    images = decided_images(tiny_model())
    report, predictor = export(
        tiny_model(), tmp_path, "litert", quantize=quantize, images=images
    )
    assert not [name for name in report.operators if name.upper().startswith("FLEX")]
    assert not [name for name in report.operators if "CUSTOM" in name.upper()]
    [entry] = predictor._interpreter.get_input_details()
    assert list(entry["shape_signature"]) == [-1, 12, 12, 3]


@on_tensorflow
def test_onnx_states_its_opset_and_has_no_weight_twice(wide, tmp_path):
    import onnx

    export(wide, tmp_path, "onnx")
    model = onnx.load(tmp_path / "model.onnx")
    [opset] = [each.version for each in model.opset_import if not each.domain]
    assert opset == 18
    large = [t.raw_data for t in model.graph.initializer if len(t.raw_data) > 1024]
    assert len(set(large)) == len(large) > 4


@on_tensorflow
def test_experts_that_nobody_chose(tmp_path):
    model = tiny_model()
    router = model.encoder.blocks[0].feed_forward.router
    kernel = numpy(router.kernel)
    # Two experts share a column, so the lower index always wins.
    router.kernel.assign(np.repeat(kernel[:, :1], 4, axis=1))
    for format in ("litert", "onnx"):
        report, _ = export(model, tmp_path, format)
        assert report.largest_difference < 1e-5


@on_tensorflow
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
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, options, pieces):
    options = {"format": "saved_model", **options}
    with pytest.raises(ValueError) as error:  # noqa: PT011
        widenet_keras.export(tiny_model(), tmp_path / "file", **options)
    assert not [piece for piece in pieces if piece not in one_line(error)]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "module", "extra"),
    [("saved_model", "tensorflow", "tensorflow"), ("onnx", "tf2onnx", "onnx")],
)
def test_what_is_missing_is_named(tmp_path, monkeypatch, format, module, extra):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == module else name
    )
    with pytest.raises(ImportError) as error:
        widenet_keras.export(tiny_model(), tmp_path / "file", format)
    assert f"pip install 'widenet_keras[{extra}]'" in one_line(error)


@on_tensorflow
def test_the_report_reads_well_and_is_plain(tmp_path):
    said = []
    report, _ = export(tiny_model(), tmp_path, "litert", say=said.append)
    assert said[0].startswith("exporting image_classifier")
    assert "FULLY_CONNECTED" in said[1]
    assert "latency" in said[1]
    facts = json.loads(json.dumps(report.to_dict()))
    assert facts["size"] == (tmp_path / "model.tflite").stat().st_size
    assert export_function is widenet_keras.export
