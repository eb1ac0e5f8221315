"""Encoded images in, the answers of the recipes' evaluation out."""

import io

import numpy as np
import pytest
from conftest import numpy, slow, tiny_images, tiny_model

import widenet_keras
from widenet_keras.data import evaluation_batches, open_source
from widenet_keras.inference.graph_operations import OPERATIONS
from widenet_keras.models.preprocessing import Preprocessing

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from encoded_images import all_kinds, with_orientation  # noqa: E402

# Large enough for evaluation to crop.
SIZE = 64
# As timm and Hugging Face resize.
CUBIC = Preprocessing(crop_pct=0.9, interpolation="bicubic", antialias=True)
# (mode, height, width, format)
KINDS = {
    "colour": ("RGB", 90, 140, "JPEG"),
    "grey": ("L", 140, 70, "JPEG"),
    "cmyk": ("CMYK", 80, 80, "JPEG"),
    "tiny": ("RGB", 1, 1, "JPEG"),
    "line": ("L", 1, 200, "JPEG"),
    "held": ("RGB", 90, 140, "JPEG"),
    "png": ("RGB", 70, 65, "PNG"),
    "seen through": ("RGBA", 70, 65, "PNG"),
    "bitmap": ("RGB", 70, 65, "BMP"),
    "still": ("L", 70, 65, "GIF"),
}


def encoded(kind):
    """Returns the bytes of a smooth image of a kind, and its suffix."""
    mode, height, width, format = KINDS[kind]
    channels = len(Image.new(mode, (1, 1)).getbands())
    ramp = (
        np.linspace(0, 255, height)[:, None, None] * np.linspace(0.2, 1, width)[:, None]
    )
    ramp = ramp * np.linspace(0.5, 1, channels)
    pixels = ramp.astype("uint8")
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode=mode)
    file = io.BytesIO()
    image.save(
        file, format, **({"exif": with_orientation(6)} if kind == "held" else {})
    )
    return file.getvalue()


@pytest.fixture(scope="module", params=[slow(1), 3], ids=["grey_model", "colour_model"])
def served(request, tmp_path_factory):
    """A model and its SavedModel."""
    model = tiny_model(image_size=SIZE, patch_size=16, channels=request.param)
    if request.param == 3:
        model.preprocessing = CUBIC
    path = tmp_path_factory.mktemp("served") / "model"
    images = tiny_images(2, SIZE)[..., : request.param]
    widenet_keras.export(model, path, images=images, say=lambda line: None)
    return model, tf.saved_model.load(str(path))


def test_answers_are_those_of_evaluation(served, tmp_path):
    model, loaded = served
    for label, kind in enumerate(KINDS):
        folder = tmp_path / str(label)
        folder.mkdir()
        # The name says nothing: ImageNet has a PNG that ends in .JPEG.
        (folder / "image.jpg").write_bytes(encoded(kind))
    (tmp_path / "0" / "again.jpg").write_bytes(encoded("colour"))
    source = open_source(tmp_path, "validation")
    shape = (SIZE, model.config.channels, source.num_classes)
    wanted = np.concatenate(
        [
            numpy(model(np.asarray(images)))
            for images, _ in evaluation_batches(
                source, *shape, 4, preprocessing=model.preprocessing
            )
        ]
    )
    names = ["colour", *KINDS]
    found = loaded.serve_jpeg(tf.constant([encoded(kind) for kind in names]))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    # One request at a time, by the signature's name.
    serve = loaded.signatures["serve_jpeg"]
    for row, kind in enumerate(names):
        alone = serve(encoded=tf.constant([encoded(kind)]))["logits"]
        np.testing.assert_allclose(alone, wanted[row : row + 1], atol=1e-5)


@pytest.mark.parametrize("name", ["GIF one hidden"])
def test_what_tensorflow_reads_otherwise_is_refused(served, name):
    _, loaded = served
    with pytest.raises(tf.errors.InvalidArgumentError, match="send a JPEG or a PNG"):
        loaded.serve_jpeg(tf.constant([all_kinds()[name]]))


def test_its_graph_holds_what_strangers_files_may(served):
    """So that it is opened without trust; nothing there is Python."""
    _, loaded = served
    graph = loaded.signatures["serve_jpeg"].graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    assert {node.op for node in nodes} <= OPERATIONS


@pytest.mark.parametrize("broken", [b"", b"no image", "half"])
def test_a_broken_image_is_an_error_of_its_request(served, broken):
    _, loaded = served
    good = encoded("colour")
    broken = good[: len(good) // 2] if broken == "half" else broken
    with pytest.raises(tf.errors.InvalidArgumentError):
        loaded.serve_jpeg(tf.constant([good, broken]))
    assert np.isfinite(loaded.serve_jpeg(tf.constant([good]))).all()
