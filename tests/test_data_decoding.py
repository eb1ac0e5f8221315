"""From encoded images to crops: windows, sizes, odd files."""

import numpy as np
import pytest
import tensorflow as tf

from widenet_keras.data import Augmentation
from widenet_keras.data.layout import Layout
from widenet_keras.data.pipeline import decoding
from widenet_keras.models import resizing


def layout(size, channels=3):
    return Layout(size, channels, 4, 4)


def picture(height, width):
    """Returns a random uint8 image."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (height, width, 3)).astype("uint8")


def test_inception_windows():
    windows = []
    for place in range(300):
        pair = tf.constant([1, place], tf.int64)
        shape = tf.constant([300, 400, 3])
        windows.append(decoding._inception_window(shape, 0.1, pair).numpy())
    top, left, height, width = np.array(windows).T
    assert top.min() >= 0
    assert (top + height).max() <= 300
    assert (left + width).max() <= 400
    part = height * width / 120000
    # Rounding to whole pixels moves both a little.
    assert 0.095 < part.min() < 0.2
    assert part.max() > 0.8
    # All of the image is what is left when ten tries fail.
    ratio = (width / height)[part < 0.99]
    assert 0.73 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.36


def test_inception_windows_are_as_large_as_those_of_numpy():
    shape, areas = tf.constant([300, 300, 3]), []
    for place in range(600):
        pair = tf.constant([1, place], tf.int64)
        areas.append(np.prod(decoding._inception_window(shape, 0.05, pair).numpy()[2:]))
    # As `test_data_arrays.py` has it; three standard deviations of this mean.
    assert abs(np.mean(areas) / 90_000 - 0.375) < 0.03


@pytest.mark.parametrize("channels", [1, 3])
def test_only_the_window_of_a_jpeg_is_decoded(channels):
    image = tf.image.resize(picture(6, 8), (60, 80), "bicubic")
    encoded = tf.io.encode_jpeg(tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8))
    window = [10, 20, 30, 40]
    found = decoding._window(encoded, lambda shape: tf.constant(window), channels)
    whole = decoding.decoded(encoded, channels)
    # Colours are stored at half the width; at the right edge the decoder has no
    # neighbour to smooth with.
    np.testing.assert_array_equal(found[:, :39], whole[10:40, 20:59])
    assert found.shape == (30, 40, channels)


def test_evaluation_crop_is_the_middle():
    image = np.zeros((100, 160, 3), "uint8")
    image[:, 80:] = 250
    image[50:, :, 0] = 100
    image[..., 2] = np.arange(160)
    found = decoding.evaluation_crop(tf.constant(image), layout(64))
    # The crop has 0.875 of 100 pixels, so the edges are in the middle of 64.
    usual = tf.image.resize(image, (73, 117))[4:68, 26:90]
    assert np.abs(found - usual).mean() < 2.0
    assert found.shape == (64, 64, 3)
    # A small image keeps its rim.
    found = decoding.evaluation_crop(tf.constant(image), layout(4))
    np.testing.assert_allclose(found[:, 0, 1], 0.0)
    np.testing.assert_allclose(found[:, 3, 1], 250.0)
    np.testing.assert_allclose(found[0, ::3, 2], [19.5, 139.5], atol=0.51)


@pytest.mark.parametrize("size", [63, 64])
def test_numpy_sees_the_same_in_evaluation(size):
    image = picture(90, 70)
    found = decoding.evaluation_crop(tf.constant(image), layout(size)).numpy()
    # NumPy's is rounded to bytes.
    wanted = resizing.evaluated(image, size, layout(size).preprocessing)
    np.testing.assert_allclose(found, wanted, atol=0.51)


def test_pad_crop_by_hand():
    image = picture(16, 16)
    options = Augmentation(crop="pad")

    def of(*draws):
        pair, draws = tf.zeros(2, tf.int64), tf.constant(draws)
        shape = layout(16)
        found = decoding.training_crop(tf.constant(image), shape, options, pair, draws)
        return found.numpy()

    # An eighth of 16 is 2: places 0 to 4, of which 2 is the image itself.
    np.testing.assert_array_equal(of(0.5, 0.5), image)
    np.testing.assert_array_equal(of(0.0, 0.99)[2:, :14], image[:14, 2:])
    # The rim goes on.
    np.testing.assert_array_equal(of(0.0, 0.5)[:3], image[[0, 0, 0]])
    np.testing.assert_array_equal(of(0.99, 0.5)[13:], image[[15, 15, 15]])


def odd_images():
    """Yields names and encoded images such as ImageNet has."""
    colour = picture(20, 30)
    yield "grey JPEG", tf.io.encode_jpeg(colour[..., :1])
    yield "one pixel", tf.io.encode_jpeg(colour[:1, :1])
    yield "thin", tf.io.encode_jpeg(colour[:, :2])
    yield "PNG", tf.io.encode_png(colour)
    yield "grey PNG", tf.io.encode_png(colour[..., :1])
    yield (
        "PNG with alpha",
        tf.io.encode_png(np.concatenate([colour, colour], 2)[..., :4]),
    )
    yield "PNG of 16 bits", tf.io.encode_png(colour.astype("uint16") * 257)


@pytest.mark.parametrize("channels", [1, 3])
def test_odd_images(channels):
    shape = layout(64, channels)
    pair, draws = tf.zeros(2, tf.int64), tf.zeros(2)
    for name, encoded in odd_images():
        for crop in ("inception", "pad", "none"):
            options = Augmentation(crop=crop)
            found = decoding.training_crop(encoded, shape, options, pair, draws)
            assert found.shape == (64, 64, channels), name
        assert decoding.evaluation_crop(encoded, shape).shape == (64, 64, channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_cmyk_images(channels, tmp_path):
    image = pytest.importorskip("PIL.Image")
    ink = np.zeros((20, 30, 4), "uint8")
    ink[..., 0] = 255
    image.fromarray(ink, "CMYK").save(tmp_path / "cyan.jpg", quality=95)
    encoded = tf.constant((tmp_path / "cyan.jpg").read_bytes())
    found = decoding.evaluation_crop(encoded, layout(64, channels))
    # Cyan is (0, 255, 255), and 0.587 * 255 + 0.114 * 255 = 178.8 in grey.
    wanted = [0, 255, 255] if channels == 3 else [178.8]
    np.testing.assert_allclose(found[32, 32], wanted, atol=4)
