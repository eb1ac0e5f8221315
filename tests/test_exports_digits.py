"""A trained model in every format and quantisation: what it answers, and its size."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import slow
from test_exports import NAMES, export, silent

import widenet_keras
from widenet_keras.data.sources.digits import load_digits
from widenet_keras.exports.options import FORMATS, QUANTIZATIONS
from widenet_keras.inference import open_predictor

pytest.importorskip("tensorflow")

MODEL = Path(__file__).parents[1] / "saved_models" / "digits" / "model.keras"
FILES = [
    (format, quantize)
    for format in FORMATS
    for quantize in QUANTIZATIONS
    if format != "keras" and (quantize != "int8" or format in ("litert", "onnx"))
]


@pytest.fixture(scope="module")
def trained():
    """The committed model, the 450 test digits, their labels and the model's logits."""
    model = widenet_keras.load_model(MODEL, compile=False)
    images, labels = load_digits()[1]
    return model, images, labels, model.predict(images, verbose=0)


@pytest.mark.parametrize(
    ("format", "quantize"),
    # Smaller weights are that in any format; those of LiteRT stand for all.
    [slow(f, q, when=q not in ("none", "int8") and f != "litert") for f, q in FILES],
)
@pytest.mark.parametrize(
    ("batch", "count"), [("dynamic", 150), slow("dynamic", 450), slow(7, 450)]
)
def test_answers_on_test_digits(trained, format, quantize, batch, count, tmp_path):
    check_answers(trained, format, quantize, batch, count, tmp_path)


@pytest.mark.parametrize("quantize", ["none", "float16", "dynamic_int8"])
def test_answers_of_keras_files_on_all_test_digits(trained, quantize, tmp_path):
    check_answers(trained, "keras", quantize, "dynamic", 450, tmp_path)


@pytest.mark.parametrize(
    ("format", "count"),
    [("litert", 4000), *(slow(format, 4000) for format in FORMATS)],
)
def test_threads_of_a_server_get_their_own_answers(trained, format, count, tmp_path):
    model, images, *_ = trained
    _, predictor = export(model, tmp_path, format, images=images[:20])
    truth = [predictor.logits(images[i : i + 1]) for i in range(64)]

    def ask(number):
        mine = number % 64
        found = predictor.logits(images[mine : mine + 1])
        return np.abs(found - truth[mine]).max()

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(ask, range(count))) < 1e-4


def check_answers(trained, format, quantize, batch, count, tmp_path):
    """Exports the model and holds its answers to those of the model."""
    model, *arrays = trained
    images, labels, wanted = (array[:count] for array in arrays)
    report, predictor = export(
        model, tmp_path, format, quantize=quantize, batch=batch, images=images
    )
    assert report.images >= len(images)
    logits = predictor.logits(images)
    assert logits.shape == (count, 10)
    assert predictor.logits(images[:0]).shape == (0, 10)
    with pytest.raises(ValueError, match=r"for one image give images\[None\]"):
        predictor.logits(images[0])
    alike = (logits.argmax(-1) == wanted.argmax(-1)).mean()
    if quantize == "none":
        assert report.largest_difference <= 1e-4
        np.testing.assert_allclose(logits, wanted, atol=1e-4)
    elif quantize == "float16":
        assert min(report.agreement, alike) >= 0.995
    elif quantize == "dynamic_int8":
        assert min(report.agreement, alike) >= 0.99
    else:
        found, right = ((x.argmax(-1) == labels).mean() for x in (logits, wanted))
        assert abs(found - right) <= 0.015
    # Of batches of any size, a single image included, and of any company.
    for first, end in ((0, 1), (5, 8), (140, 141)):
        alone = predictor.logits(images[first:end])
        np.testing.assert_allclose(alone, logits[first:end], atol=1e-4)


def test_int8_on_the_interpreter_of_tensorflow(trained, tmp_path, monkeypatch):
    model, images, labels, _ = trained
    export(model, tmp_path, "litert", quantize="int8", images=images[:150])
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == "ai_edge_litert" else find(name),
    )
    predictor = open_predictor(tmp_path / NAMES["litert"])
    assert "tensorflow" in type(predictor._interpreter).__module__
    # One by one from the start: where an expert had no rows, it went wrong.
    found = [predictor.logits(image[None]).argmax() for image in images[:100]]
    assert (found == labels[:100]).mean() >= 0.97


# Bytes over those of the float32 weights. Of a model of 4 MB the graph is a larger
# part than of any that is worth shrinking: those of ViT-B and WideNet-B are in
# `benchmarks/results/exports.json`.
SIZES = {
    ("saved_model", "none"): 1.09,
    ("saved_model", "dynamic_int8"): 0.36,
    ("litert", "none"): 1.03,
    ("litert", "float16"): 0.54,
    ("litert", "dynamic_int8"): 0.31,
    ("onnx", "none"): 1.03,
    ("onnx", "float16"): 0.53,
    ("onnx", "dynamic_int8"): 0.30,
    ("keras", "none"): 1.03,
    ("keras", "float16"): 0.53,
    ("keras", "dynamic_int8"): 0.30,
}


@pytest.mark.slow
def test_sizes_of_a_small_model(tmp_path, monkeypatch):
    # Random weights may change their mind about a class, which is not the subject.
    bounds = dict.fromkeys(("float16", "dynamic_int8", "int8"), 0.0)
    monkeypatch.setattr("widenet_keras.exports.compare._AGREEMENT", bounds)
    model = widenet_keras.ImageClassifier.from_preset("widenet_small_32")
    found = {}
    for format, quantize in SIZES:
        path = tmp_path / NAMES[format]
        report = widenet_keras.export(
            model, path, format, quantize=quantize, say=silent
        )
        found[format, quantize] = report.size_ratio
    assert not {name: size for name, size in found.items() if size > SIZES[name]}
