"""Augmentation: its options, RandAugment's operations, crops, mixing."""

import math

import numpy as np
import pytest
import tensorflow as tf
from conftest import one_line

from widenet_keras.data import Augmentation
from widenet_keras.data.layout import Layout
from widenet_keras.data.pipeline import (
    fast_operations,
    keras_cv_operations,
    mixing,
    randaugment,
)
from widenet_keras.data.pipeline.policy import OPERATIONS, amount

MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def picture(height=33, width=47, channels=3):
    """Returns an uint8 image that is smooth in one half and noise in the other."""
    random = np.random.default_rng(0)
    image = random.integers(15, 240, (height, width, channels))
    ramp = np.linspace(20, 210, width // 2)[None, :, None]
    image[:, : width // 2] = ramp + np.arange(height)[:, None, None] / 2
    return image.astype("uint8")


def apply(name, image, value):
    """Applies one of our operations, compiled as in the pipeline."""
    function = tf.function(fast_operations.operation(name), jit_compile=True)
    if isinstance(value, float):
        value = tf.constant(value)
    return function(tf.constant(image), value).numpy()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"crop": "centre"}, "use one of 'inception', 'pad', 'none'"),
        ({"min_area": 0.0}, "min_area=0.0 must be a number above 0 and at most 1.0"),
        ({"min_area": 1.5}, "at most 1.0"),
        ({"flip": 1}, "flip=1 must be True or False"),
        ({"randaugment": "pil"}, "use one of 'widenet', 'keras_cv'"),
        ({"randaugment_ops": 9}, "must be a whole number from 0 to 8"),
        ({"randaugment_ops": 1.0}, "must be a whole number from 0 to 8"),
        ({"randaugment_magnitude": 31}, "must be a number from 0 to 30.0"),
        ({"mixup": -0.1}, "mixup=-0.1 must be a number >= 0.0"),
        ({"cutmix": math.nan}, "cutmix=nan must be a number"),
        ({"erasing": 1.1}, "erasing=1.1 must be a number from 0 to 1.0"),
        ({"smoothing": 1.0}, r"smoothing=1.0 must be a number in \[0.0, 1.0\)"),
    ],
)
def test_options_that_do_not_fit(fields, said):
    with pytest.raises(ValueError, match=said) as error:
        Augmentation(**fields)
    one_line(error)


def test_options():
    augmentation = Augmentation()
    # Magnitude 15 of 30.
    assert (augmentation.level, augmentation.operations) == (0.5, 2)
    assert Augmentation(randaugment_magnitude=0).operations == 0
    assert Augmentation(randaugment_ops=0).operations == 0


def test_amounts():
    # Half of each range: 30 degrees, 256 values, 4 bits, 0.9, 0.3, 0.45 of the side.
    found = {name: amount(name, 0.5, -1.0) for name in OPERATIONS}
    assert found["rotate"] == pytest.approx(-math.radians(15))
    assert found["solarize"] == 128
    assert found["posterize"] == 6
    assert found["brightness"] == pytest.approx(-0.5 * 0.45 * 255)
    for name in ("color", "contrast", "sharpness"):
        assert found[name] == pytest.approx(1 - 0.45)
        assert amount(name, 0.5, 1.0) == pytest.approx(1.45)
    assert found["shear_x"] == found["shear_y"] == pytest.approx(-0.15)
    assert found["translate_x"] == found["translate_y"] == pytest.approx(-0.225)
    assert len(OPERATIONS) == 14


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_keras_cv_s(name, sign):
    pytest.importorskip("keras_cv")
    image = picture()
    value = amount(name, 0.5, sign)
    ours = apply(name, image, value)
    theirs = tf.function(keras_cv_operations.operation(name))
    if isinstance(value, float):
        value = tf.constant(value)
    wanted = theirs(tf.constant(image), value).numpy()
    assert ours.dtype == wanted.dtype == "uint8"
    difference = np.abs(ours.astype(int) - wanted)
    if name in MOVES:
        # A place half way between two pixels may round to either.
        assert (difference.max(axis=-1) > 0).mean() < 0.005
    else:
        assert difference.max() <= 1
    if name != "identity":
        assert (ours != image).mean() > 0.2


def test_randaugment_is_keras_cv_s_as_a_whole():
    pytest.importorskip("keras_cv")
    image = tf.constant(picture(), tf.float32)
    ours = randaugment.image_function(Augmentation(flip=False))
    theirs = randaugment.image_function(
        Augmentation(flip=False, randaugment="keras_cv")
    )
    # Equalize, then shear to the left; solarize, then contrast.
    for operations, signs in [((2, 10), (0.1, 0.2)), ((4, 7), (0.9, 0.9))]:
        places = [(place + 0.5) / len(OPERATIONS) for place in operations]
        draws = tf.constant([0.0, *places, *signs])
        one, other = ours(image, draws).numpy(), theirs(image, draws).numpy()
        assert (np.abs(one.astype(int) - other).max(axis=-1) > 2).mean() < 0.01
        assert (one != picture()).mean() > 0.5


def test_point_operations_by_hand():
    image = np.array([0, 100, 127, 128, 200, 255], "uint8").reshape(1, 6, 1)

    def of(name, value):
        return apply(name, image, value).ravel().tolist()

    # From the threshold on, 255 - x.
    assert of("solarize", 128) == [0, 100, 127, 127, 55, 0]
    # The two lowest bits are cut off: 255 = 0b11111111 is 252.
    assert of("posterize", 6) == [0, 100, 124, 128, 200, 252]
    assert of("brightness", 57.0) == [57, 157, 184, 185, 255, 255]
    assert of("brightness", -110.0) == [0, 0, 17, 18, 90, 145]
    # The mean is 810 / 6 = 135: half way to it, and 1.5 times as far from it.
    assert of("contrast", 0.5) == [68, 118, 131, 132, 168, 195]
    assert of("contrast", 1.5) == [0, 83, 123, 125, 233, 255]
    low = np.array([50, 60, 100], "uint8").reshape(1, 3, 1)
    # 255 / 50 = 5.1 for every value above 50.
    assert apply("auto_contrast", low, None).ravel().tolist() == [0, 51, 255]
    flat = np.full((2, 2, 1), 7, "uint8")
    for name in ("auto_contrast", "equalize"):
        assert apply(name, flat, None).ravel().tolist() == [7] * 4


def test_equalize_by_hand():
    # Sixteen rows of 64 values, 16 of each: step = (1024 - 16) // 255 = 3, and a
    # value that n pixels are below becomes (n + 1) // 3.
    image = np.tile(np.arange(64, dtype="uint8")[None, :, None], (16, 1, 1))
    wanted = [(16 * below + 1) // 3 if below else 0 for below in range(64)]
    found = apply("equalize", image, None)
    np.testing.assert_array_equal(found[3, :, 0], np.minimum(wanted, 255))


def test_colors_by_hand():
    image = np.array([[[200, 100, 0]]], "uint8")
    # 0.2989 * 200 + 0.587 * 100 = 118.48.
    assert apply("color", image, 0.0).ravel().tolist() == [118, 118, 118]
    assert apply("color", image, 0.5).ravel().tolist() == [159, 109, 59]
    assert apply("color", image, 1.5).ravel().tolist() == [241, 91, 0]
    grey = picture(channels=1)
    np.testing.assert_array_equal(apply("color", grey, 0.5), grey)


def test_sharpness_by_hand():
    image = np.zeros((3, 3, 1), "uint8")
    image[1, 1] = 130
    # 5 / 13 of 130 is 50 in the smooth image; the rim stays as it is.
    assert apply("sharpness", image, 0.0)[1, 1, 0] == 50
    assert apply("sharpness", image, 0.5)[1, 1, 0] == 90
    assert apply("sharpness", image, 2.0)[1, 1, 0] == 210
    rim = picture()
    sharp = apply("sharpness", rim, 1.45)
    np.testing.assert_array_equal(sharp[0], rim[0])
    np.testing.assert_array_equal(sharp[:, -1], rim[:, -1])


def test_moves_by_hand():
    image = picture(40, 40)
    right = apply("translate_x", image, 0.25)
    np.testing.assert_array_equal(right[:, 10:], image[:, :30])
    assert (right[:, :10] == 128).all()
    up = apply("translate_y", image, -0.1)
    np.testing.assert_array_equal(up[:36], image[4:])
    assert (up[36:] == 128).all()
    # The point at x is taken from x + amount * y.
    shear = apply("shear_x", image, 0.5)
    np.testing.assert_array_equal(shear[20, :30], image[20, 10:])
    assert (shear[20, 30:] == 128).all()
    turned = apply("rotate", image, math.pi / 2)
    np.testing.assert_array_equal(turned, np.rot90(image))


def test_flip_and_choice():
    image = picture()
    function = randaugment.image_function(Augmentation(randaugment_ops=1))

    def of(*draws):
        return function(tf.constant(image, tf.float32), tf.constant(draws)).numpy()

    # Identity is the first of 14, translate_y the last.
    np.testing.assert_array_equal(of(0.6, 0.01, 0.0), image)
    np.testing.assert_array_equal(of(0.4, 0.01, 0.0), image[:, ::-1])
    value = amount("translate_y", 0.5, 1.0)
    np.testing.assert_array_equal(
        of(0.6, 0.99, 0.7), apply("translate_y", image, value)
    )
    # 0.4 is round 0, and 0.6 is 1.
    off = randaugment.image_function(Augmentation(randaugment_ops=0, flip=False))
    rounded = off(tf.constant([[[0.4], [0.6], [254.6]]]), tf.zeros(1))
    assert rounded.numpy().ravel().tolist() == [0, 1, 255]


def layout(size=8, batch=4, channels=1, classes=4):
    return Layout(size, channels, classes, batch)


def finished(images, labels, plan, classes=4, smoothing=0.0):
    function = tf.function(mixing.finish, jit_compile=True)
    found = function(tf.constant(images), tf.constant(labels), plan, classes, smoothing)
    return [tensor.numpy() for tensor in found]


def greys(*values):
    """Returns 4x4 images of one grey each."""
    images = np.array(values, "uint8").reshape(-1, 1, 1, 1)
    return np.tile(images, (1, 4, 4, 1))


def test_scale_and_smoothing_by_hand():
    images, labels = finished(greys(0, 51, 255), [0, 2, 3], {}, smoothing=0.2)
    np.testing.assert_allclose(images[:, 0, 0, 0], [-1.0, -0.6, 1.0], atol=1e-6)
    assert images.max() <= 1.0
    # 0.8 for the class and 0.2 / 4 for each.
    np.testing.assert_allclose(labels[1], [0.05, 0.05, 0.85, 0.05], atol=1e-6)


def test_mixup_by_hand():
    plan = {"kept": tf.constant([1.0, 0.75, 0.25])}
    images, labels = finished(greys(0, 51, 255), [0, 1, 2], plan)
    # Each with the one before it; the first is alone: 1.0, -0.6 * 0.75 - 1 * 0.25,
    # 1 * 0.25 - 0.6 * 0.75.
    np.testing.assert_allclose(images[:, 1, 2, 0], [-1.0, -0.7, -0.2], atol=1e-6)
    wanted = [[1, 0, 0, 0], [0.25, 0.75, 0, 0], [0, 0.75, 0.25, 0]]
    np.testing.assert_allclose(labels, wanted, atol=1e-6)


def test_cutmix_by_hand():
    plan = {"replaced": tf.constant([[0, 0, 0, 0], [1, 0, 3, 2]])}
    images, labels = finished(greys(0, 255), [0, 1], plan)
    wanted = np.ones((4, 4))
    wanted[1:3, 0:2] = -1.0
    np.testing.assert_allclose(images[0, :, :, 0], -1.0, atol=1e-6)
    np.testing.assert_allclose(images[1, :, :, 0], wanted, atol=1e-6)
    # Four of sixteen pixels are the neighbour's.
    np.testing.assert_allclose(labels[1], [0.25, 0.75, 0, 0], atol=1e-6)


def test_erasing_by_hand():
    plan = {"erased": tf.constant([[0, 1, 2, 4], [0, 0, 0, 0]])}
    images, _ = finished(greys(255, 255), [0, 1], plan)
    assert (images[0, :2, 1:4] == 0.0).all()
    assert (images[0] == 0.0).sum() == 6
    assert (images[1] == 1.0).all()


def plans(augmentation, count=40, **fields):
    """Draws the plans of some batches."""
    made = [
        mixing.draw_plan(layout(**fields), augmentation, 3, tf.constant(step, tf.int64))
        for step in range(count)
    ]
    return {name: np.array([plan[name] for plan in made]) for name in made[0]}


def test_plans():
    assert plans(Augmentation(mixup=0)) == {}
    kept = plans(Augmentation(mixup=0.5), batch=50)["kept"]
    # Beta(a, a) has mean 1/2 and variance 1 / (8 a + 4) = 1/8; 2,000 draws.
    assert kept.mean() == pytest.approx(0.5, abs=5 * (0.125 / 2000) ** 0.5)
    assert kept.var() == pytest.approx(0.125, rel=0.1)
    assert len(np.unique(kept)) == kept.size
    # So small that the draws underflow, and so large that nothing is random.
    assert np.isfinite(plans(Augmentation(mixup=1e-4))["kept"]).all()
    assert plans(Augmentation(mixup=1e4))["kept"] == pytest.approx(0.5, abs=0.05)


def test_plans_of_mixup_and_cutmix():
    found = plans(Augmentation(mixup=1.0, cutmix=1.0), size=32)
    areas = (found["replaced"][..., 2] - found["replaced"][..., 0]) * (
        found["replaced"][..., 3] - found["replaced"][..., 1]
    )
    by_cutmix = (areas > 0).any(axis=1)
    # One of the two for a whole batch, each in about half of 40 batches.
    assert 10 <= by_cutmix.sum() <= 30
    assert (found["kept"][by_cutmix] == 1.0).all()
    assert (found["kept"][~by_cutmix] < 1.0).all()
    boxes = found["replaced"]
    assert boxes.min() >= 0
    assert boxes.max() <= 32


def test_plans_of_erasing():
    boxes = plans(Augmentation(mixup=0, erasing=0.25), size=32, batch=50)["erased"]
    height, width = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    area = (height * width)[height * width > 0]
    # A quarter of 2,000, with a standard deviation of sqrt(2000 * 3 / 16) = 19.
    assert abs(area.size - 500) < 5 * 19
    # 2 % to a third of 1,024 pixels, sides rounded.
    assert area.min() > 10
    assert area.max() < 380
    assert boxes.min() >= 0
    assert boxes.max() <= 32
