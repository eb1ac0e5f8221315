"""Image files: TensorFlow and Pillow give the same pixels of every kind."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
tf = pytest.importorskip("tensorflow")

from encoded_images import (  # noqa: E402
    HEIGHT,
    WIDTH,
    all_kinds,
    alphas,
    encoded,
    pixels,
    with_orientation,
)
from PIL import ImageOps  # noqa: E402

from widenet_keras.data import pillow_images  # noqa: E402
from widenet_keras.data.orientation import orientation_of  # noqa: E402
from widenet_keras.data.pipeline import decoding, orientation  # noqa: E402
from widenet_keras.inference import images  # noqa: E402
from widenet_keras.models import resizing, resizing_tensorflow  # noqa: E402
from widenet_keras.models.preprocessing import (  # noqa: E402
    INTERPOLATIONS,
    Preprocessing,
)

KINDS = all_kinds()
ENCODED = tf.TensorSpec((), tf.string)


@pytest.fixture(scope="module", params=[3, 1], ids=["colour", "grey"])
def decoded(request):
    """Number of channels, and TensorFlow's reader as a graph."""

    @tf.function(input_signature=[ENCODED])
    def graph(content):
        return decoding.decoded(content, request.param)

    return request.param, lambda content: graph(content).numpy()


def test_both_readers_give_the_same_pixels(decoded):
    channels, read = decoded
    for name, content in KINDS.items():
        found = read(content)
        wanted = pillow_images.decoded(content, channels)
        np.testing.assert_array_equal(found, wanted, err_msg=name)
        assert sorted(found.shape) == [channels, HEIGHT, WIDTH], name


def test_pixels_are_those_of_pillow():
    for name in ("PNG", "BMP", "WebP lossless", "JPEG 4:2:0", "GIF", "BMP palette"):
        with Image.open(io.BytesIO(KINDS[name])) as image:
            wanted = np.asarray(image.convert("RGB"))
        found = pillow_images.decoded(KINDS[name], 3)
        np.testing.assert_array_equal(found, wanted, err_msg=name)
    grey = np.asarray(Image.fromarray(pixels()).convert("L"))
    for name in ("PNG", "PNG grey", "BMP", "WebP lossless", "PNG 16 bits"):
        found = pillow_images.decoded(KINDS[name], 1)
        np.testing.assert_array_equal(found[..., 0], grey, err_msg=name)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
def test_images_are_upright(kind):
    for number in range(1, 9):
        content = KINDS[f"{kind} held {number}"]
        with Image.open(io.BytesIO(content)) as image:
            wanted = np.asarray(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(pillow_images.decoded(content, 3), wanted)
    assert wanted.shape == (WIDTH, HEIGHT, 3)


def test_transparent_parts_are_white():
    for name in ("PNG alpha", "WebP hidden colours"):
        found = pillow_images.decoded(KINDS[name], 3)
        assert (found[:10] == 255).all()
        np.testing.assert_array_equal(found[-10:], pixels()[-10:])
    part = alphas()[..., None] / 255
    wanted = part * pixels() + (1 - part) * 255
    found = pillow_images.decoded(KINDS["PNG alpha"], 3)
    np.testing.assert_allclose(found, wanted, atol=0.5)


def test_a_part_is_cut_from_the_upright_image():
    random = np.random.default_rng(0)

    @tf.function(input_signature=[ENCODED, tf.TensorSpec((4,), tf.int32)])
    def cut(content, window):
        return decoding._window(content, lambda shape: window, 3)

    kinds = [n for n in KINDS if n.startswith("JPEG")] + ["PNG held 6", "WebP held 7"]
    for name in kinds:
        wanted = pillow_images.decoded(KINDS[name], 3)
        for _ in range(12):
            size = random.integers(1, np.array(wanted.shape[:2]) + 1)
            top, left = random.integers(0, wanted.shape[:2] - size + 1)
            window = tf.constant([top, left, *size], tf.int32)
            part = wanted[top : top + size[0], left : left + size[1]]
            found = cut(KINDS[name], window).numpy()
            np.testing.assert_array_equal(found, part, err_msg=f"{name} {window}")


def test_little_more_than_the_part_of_a_jpeg_is_decoded(monkeypatch):
    decoders, asked = tf.io.decode_and_crop_jpeg, []

    def watched(content, window, **options):
        asked.append(window.numpy())
        return decoders(content, window, **options)

    monkeypatch.setattr(tf.io, "decode_and_crop_jpeg", watched)
    for name in ("JPEG 4:2:0", "JPEG held 6"):
        window = tf.constant([3, 5, 8, 10])
        decoding._window(tf.constant(KINDS[name]), lambda shape, w=window: w, 3)
    assert [window[2:].tolist() for window in asked] == [[8, 14], [10, 12]]


CUBIC = Preprocessing(crop_pct=0.9, interpolation="bicubic", antialias=True)


@pytest.mark.parametrize(
    ("size", "taken"), [(16, None), (63, None), (64, None), (100, None), (24, CUBIC)]
)
def test_predictions_are_of_the_same_pixels(tmp_path, monkeypatch, size, taken):
    path, differ = tmp_path / "image", 0
    for name in ["JPEG 4:2:0", "JPEG held 6", "PNG alpha", "BMP palette", "GIF"]:
        path.write_bytes(KINDS[name])
        for channels in (3, 1):
            shape = (size, size, channels)
            wanted = images.read_pixels(path, shape, taken).astype(int)
            with monkeypatch.context() as patch:
                patch.setattr(images, "has_tensorflow", lambda: False)
                found = images.read_pixels(path, shape, taken).astype(int)
            assert np.abs(found - wanted).max() <= 1, name
            differ += (found != wanted).sum()
    # Where a processor multiplies and adds in one step, a sum at a half may round the
    # other way.
    assert differ <= 2


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_numpy_resizes_as_tensorflow_and_pillow(interpolation, antialias):
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3)).astype("uint8")
    how = interpolation, antialias
    # Sums at a half round either way, and simple fractions have many; bicubic without
    # antialiasing TensorFlow takes its weights from a table.
    plain, table = how == ("bilinear", False), how == ("bicubic", False)
    farthest, most = (2, 0.07) if table else (1, 1e-3 if plain else 0.01)
    for size in (1, 7, 37, 53, 80, 106):
        found = resizing.resized(image, size, *how).astype(int)
        wanted = resizing_tensorflow.resized(image, size, *how) + 0.5
        differ = np.abs(found - tf.cast(wanted, tf.uint8).numpy())
        assert differ.max() <= farthest
        assert (differ > 0).mean() < most
        if antialias:
            method = Image.Resampling[interpolation.upper()]
            wanted = Image.fromarray(image).resize((size, size), method)
            differ = np.abs(found - np.asarray(wanted))
            assert differ.max() <= 1
            assert (differ > 0).mean() < most
    both = resizing.resized(np.stack([image, image[::-1]]), 9, *how)
    np.testing.assert_array_equal(both[0], resizing.resized(image, 9, *how))


def test_orientations_in_odd_exif_data():
    good = with_orientation(6)
    texts = {
        good: 6,
        good[6:]: 6,
        with_orientation(8, ">", 40): 8,
        with_orientation(9): 1,
        with_orientation(0): 1,
        b"": 1,
        b"Exif\0\0": 1,
        good[:20]: 1,
        good[:14] + b"\xff\xff\xff\xff": 1,
        b"Exif\0\0II*\0\xff\xff\xff\xff" + good[14:]: 1,
        b"Exif\0\0XX*\0" + good[10:]: 1,
        good.replace(b"\x12\x01\x03\0", b"\x12\x01\x04\0"): 1,
    }
    for text, wanted in texts.items():
        assert orientation_of(text) == wanted, text
        assert orientation._parsed(tf.constant(text)) == wanted, text


def test_exif_data_behind_other_segments():
    exif = with_orientation(3)
    content = encoded(
        Image.fromarray(pixels()), "JPEG", exif=exif, comment=b"x" * 3000, dpi=(9, 9)
    )
    assert orientation.orientation_of(tf.constant(content)) == 3
    # Cut anywhere, it has an orientation or none, and no error.
    for end in range(2, 3300, 97):
        assert orientation.orientation_of(tf.constant(content[:end])) in (1, 3)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", "tiff", "half"])
def test_what_is_no_image_is_named(tmp_path, monkeypatch, content):
    if content == "tiff":
        content = encoded(Image.fromarray(pixels()), "TIFF")
    elif content == "half":
        content = KINDS["PNG"][: len(KINDS["PNG"]) // 2]
    path = tmp_path / "odd.jpg"
    path.write_bytes(content)
    for reader in (images.has_tensorflow, lambda: False):
        monkeypatch.setattr(images, "has_tensorflow", reader)
        with pytest.raises(ValueError, match=r"odd\.jpg cannot be read") as error:
            images.read_pixels(path, (8, 8, 3))
        assert "\n" not in str(error.value)
        assert "{{" not in str(error.value)


def test_images_of_a_folder(tmp_path, capsys):
    names = ["a.JPG", "b/c.webp", "b/d.gif", "e.bmp", "f.png", "g.jpeg"]
    others = ["x.txt", "b/y.HEIC", "b/z.txt", "README"]
    hidden = [".DS_Store", "._a.JPG", "Thumbs.db", "desktop.ini", "__MACOSX/a.jpg"]
    for name in names + others + hidden:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    found = [str(path.relative_to(tmp_path)) for path in images.image_files(tmp_path)]
    assert found == sorted(names)
    said = capsys.readouterr().err
    assert said == (
        f"left out 4 files of {tmp_path}: 2 .txt, 1 without a suffix, 1 .heic\n"
    )


def test_a_folder_that_may_not_be_read_is_not_passed_over(tmp_path, monkeypatch):
    closed, scandir = tmp_path / "closed", os.scandir
    closed.mkdir()
    (tmp_path / "a.png").write_bytes(b"")

    def refusing(folder):
        if Path(folder) == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    # Whoever runs the tests may be allowed to read everything.
    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PermissionError, match="closed"):
        images.image_files(tmp_path)


def test_a_folder_without_images_says_what_it_holds(tmp_path, capsys):
    for name in ("a.txt", "b.heic", "notes"):
        (tmp_path / name).write_text("no image")
    with pytest.raises(
        ValueError, match=r"holds 1 without a suffix, 1 \.heic, 1 \.txt"
    ):
        images.image_files(tmp_path)
    assert capsys.readouterr().err == ""
