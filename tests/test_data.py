"""The digits, their augmentation, and the scale of pixels."""

import keras
import numpy as np
import pytest
from conftest import numpy, one_line

from widenet_keras import scale_pixels
from widenet_keras.data.pixels import as_floats
from widenet_keras.data.sources.digits import AugmentedDigits, augment, load_digits

STILL = {"turn": 0.0, "scale": 0.0, "slant": 0.0, "shift": 0.0}


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def some_images(count=6, channels=1):
    random = np.random.default_rng(0)
    return random.uniform(-1, 1, (count, 8, 8, channels)).astype("float32")


def batches(seed, epochs=1, **fields):
    """Returns all images and all labels of some epochs."""
    data = AugmentedDigits(some_images(7), np.arange(7), 3, seed=seed, **fields)
    found = []
    for _ in range(epochs):
        found += [data[index] for index in range(data.num_batches)]
        data.on_epoch_end()
    return [np.concatenate(part) for part in zip(*found, strict=True)]


def test_split_sizes_shapes_and_ranges(digits):
    (x_train, y_train), (x_test, y_test) = digits
    assert x_train.shape == (1347, 8, 8, 1)
    assert x_test.shape == (450, 8, 8, 1)
    assert x_train.dtype == x_test.dtype == "float32"
    assert y_train.shape == (1347,)
    assert y_test.shape == (450,)
    assert y_train.dtype == y_test.dtype == "int32"
    assert (x_train.min(), x_train.max()) == (-1.0, 1.0)
    assert (x_test.min(), x_test.max()) == (-1.0, 1.0)


def test_split_is_the_same_every_time(digits):
    np.random.seed(1)
    again = load_digits()
    for one, other in zip(digits, again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    # A fixed start, so that published accuracies stay comparable.
    assert digits[1][1][:8].tolist() == [2, 0, 4, 9, 4, 1, 2, 4]


def test_split_is_stratified(digits):
    (_, y_train), (_, y_test) = digits
    parts = np.bincount(y_test) / (np.bincount(y_train) + np.bincount(y_test))
    assert len(parts) == 10
    np.testing.assert_allclose(parts, 0.25, atol=0.01)


def test_split_takes_a_fraction():
    (x_train, _), (x_test, _) = load_digits(test_fraction=0.5)
    assert (len(x_train), len(x_test)) == (898, 899)


def test_augmented_digits_repeat_under_a_seed():
    one, other = batches(seed=3, epochs=2), batches(seed=3, epochs=2)
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


def test_augmented_digits_differ_between_seeds_and_epochs():
    images, labels = batches(seed=3, epochs=2)
    assert (images != batches(seed=4, epochs=2)[0]).any()
    assert (images[:6] != images[6:]).any()
    assert (labels[:6] != labels[6:]).any()


def test_an_epoch_has_full_batches_of_different_images():
    images, labels = batches(seed=0)
    assert images.shape == (6, 8, 8, 1)
    assert images.dtype == labels.dtype == "float32"
    assert len(set(labels.argmax(axis=1))) == 6


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_label_smoothing_sums_to_one(smoothing):
    _, labels = batches(seed=0, smoothing=smoothing)
    assert labels.shape == (6, 10)
    np.testing.assert_allclose(labels.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(labels.max(axis=1), 1 - 0.9 * smoothing, atol=1e-6)
    np.testing.assert_allclose(labels.min(axis=1), smoothing / 10, atol=1e-6)


def test_labels_stay_with_their_images(monkeypatch):
    monkeypatch.setattr(
        "widenet_keras.data.sources.digits.augment", lambda images, _: images
    )
    images, labels = batches(seed=5)
    for image, label in zip(images, labels.argmax(axis=1), strict=True):
        np.testing.assert_array_equal(image, some_images(7)[label])


@pytest.mark.parametrize("channels", [1, 3])
def test_augment_without_ranges_is_the_identity(rng, channels):
    images = some_images(channels=channels)
    same = augment(images, rng, **STILL)
    assert same.dtype == images.dtype
    np.testing.assert_allclose(same, images, atol=1e-6)


class Fixed:
    """A generator whose every draw is the upper end of its range."""

    def uniform(self, low, high, size):
        return np.full(size, high)


@pytest.mark.parametrize("field", list(STILL))
def test_augment_moves_images_and_stays_in_range(field):
    images = some_images()
    moved = augment(images, Fixed(), **{**STILL, field: 0.3})
    assert moved.shape == images.shape
    assert moved.dtype == images.dtype
    assert (np.abs(moved - images) > 0.1).any(axis=(1, 2, 3)).all()
    assert moved.min() >= -1.0
    assert moved.max() <= 1.0


def test_augment_moves_each_image_its_own_way(rng):
    images = np.repeat(some_images(1), 3, axis=0)
    moved = augment(images, rng)
    assert (np.abs(moved[0] - moved[1:]) > 0.1).any(axis=(1, 2, 3)).all()


def test_augment_shifts_by_whole_pixels():
    images = some_images()
    moved = augment(images, Fixed(), **{**STILL, "shift": 1.0})
    np.testing.assert_allclose(moved[:, :-1, :-1], images[:, 1:, 1:], atol=1e-6)


def test_augment_turns_by_a_right_angle():
    images = some_images()
    turned = augment(images, Fixed(), **{**STILL, "turn": np.pi / 2})
    wanted = np.rot90(images, axes=(2, 1))
    np.testing.assert_allclose(turned, wanted, atol=1e-6)


@pytest.mark.parametrize("shift", [(9, 0), (-9, 0), (0, 9), (0, -9), (9, -9)])
def test_augment_sees_black_outside(shift):
    images = np.ones((2, 8, 8, 1), "float32")
    rows_and_columns = np.reshape(shift, (2, 1, 1, 1))
    moved = augment(images, Fixed(), **{**STILL, "shift": rows_and_columns})
    np.testing.assert_allclose(moved, -1.0, atol=1e-6)


def test_scale_pixels_of_an_array():
    pixels = np.array([[0, 51, 255]], dtype="uint8")
    scaled = scale_pixels(pixels)
    assert isinstance(scaled, np.ndarray)
    assert scaled.dtype == "float32"
    np.testing.assert_allclose(scaled, [[-1.0, -0.6, 1.0]], atol=1e-6)


def test_scale_pixels_of_a_tensor():
    pixels = np.arange(256, dtype="uint8").reshape(1, 16, 16)
    scaled = scale_pixels(keras.ops.convert_to_tensor(pixels))
    assert keras.ops.is_tensor(scaled)
    assert keras.backend.standardize_dtype(scaled.dtype) == "float32"
    np.testing.assert_allclose(numpy(scaled), scale_pixels(pixels), atol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint16"])
def test_integers_are_pixels(dtype):
    pixels = np.arange(128, dtype="uint8").reshape(1, 16, 8)
    np.testing.assert_array_equal(
        scale_pixels(pixels.astype(dtype)), scale_pixels(pixels)
    )
    np.testing.assert_array_equal(as_floats(pixels.astype(dtype)), as_floats(pixels))
    if dtype != "int8":
        with pytest.raises(ValueError, match="run from 0 to 256 and must be 0 to 255"):
            scale_pixels(np.array([0, 256], dtype))


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_scale_pixels_refuses_what_is_no_integer(dtype):
    with pytest.raises(ValueError, match="scale_pixels takes whole") as error:
        scale_pixels(np.zeros((1, 2, 2, 3), dtype))
    assert dtype in one_line(error)
