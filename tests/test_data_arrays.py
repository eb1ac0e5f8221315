"""Arrays without TensorFlow: batches and augmentation with NumPy, on every backend."""

import dataclasses
import sys

import keras
import numpy as np
import pytest
from conftest import one_line, slow_on, tiny_config, tiny_model

import widenet_keras
from widenet_keras.data import (
    Augmentation,
    RecordSource,
    batches,
    evaluation_batches,
    labelled_samples,
    numpy_augmentation,
    numpy_reading,
    open_source,
    scale_pixels,
    training_batches,
)
from widenet_keras.data.broken_images import BrokenImages, broken_image_message
from widenet_keras.data.colours import with_channels
from widenet_keras.data.labelled import labelled_images
from widenet_keras.data.layout import Layout
from widenet_keras.data.process_rows import Part
from widenet_keras.inference import images
from widenet_keras.models import resizing
from widenet_keras.models.preprocessing import Preprocessing

STILL = Augmentation(crop="none", flip=False, randaugment_ops=0, mixup=0, smoothing=0)
MOVING = Augmentation(randaugment_ops=0, cutmix=1.0, erasing=0.5)


@pytest.fixture(autouse=True)
def _no_tensorflow(monkeypatch):
    from widenet_keras.data import requirements

    monkeypatch.setattr(batches, "has_tensorflow", lambda: False)
    monkeypatch.setattr(requirements, "has_tensorflow", lambda: False)


@pytest.fixture
def source(tmp_path):
    """Thirteen images 8x8x3 of one grey each, 3 classes in turn."""
    greys = (5 + 18 * np.arange(13)).astype("uint8")[:, None, None, None]
    images, labels = np.tile(greys, (1, 8, 8, 3)), np.arange(13) % 3
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels)
    return open_source(tmp_path / "set.npz", "train")


def indices(images):
    """Returns which image every row is, by its grey."""
    greys = (images.reshape(len(images), -1).mean(axis=1) + 1) * 127.5
    return np.rint((greys - 5) / 18).astype(int).tolist()


def test_a_run_goes_on_from_any_step(source):
    stream = training_batches(source, 10, 3, 3, 4, MOVING, seed=5)
    assert stream.batches_per_epoch == 3
    whole = stream.from_batch(0)
    assert isinstance(whole, keras.utils.PyDataset)
    assert whole.num_batches is None
    for number in (1, 4):
        later = stream.from_batch(number)
        for index in (0, 3):
            for one, other in zip(whole[number + index], later[index], strict=True):
                np.testing.assert_array_equal(one, other)


def test_order_and_labels(source):
    stream = training_batches(source, 8, 3, 3, 4, STILL).from_batch(0)
    found = [stream[index] for index in range(6)]
    rows = indices(np.concatenate([images for images, _ in found]))
    labels = np.concatenate([labels for _, labels in found])
    assert labels.dtype == found[0][0].dtype == "float32"
    np.testing.assert_array_equal(labels, np.eye(3)[np.array(rows) % 3])
    # Three batches of four different images are an epoch.
    assert len(set(rows[:12])) == len(set(rows[12:])) == 12
    assert rows[:12] != rows[12:]


def test_every_image_is_drawn_for_anew(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype="uint8")
    np.savez(tmp_path / "one.npz", x_train=picture, y_train=[0])
    options = Augmentation(randaugment_ops=0, mixup=0)
    stream = training_batches(
        open_source(tmp_path / "one.npz", "train"), 16, 3, 1, 1, options
    ).from_batch(0)
    assert len({stream[index][0].tobytes() for index in range(6)}) == 6


def test_evaluation(source):
    found = evaluation_batches(source, 12, 1, 3, 5)
    assert found.num_batches == 3
    listed = list(found)
    assert [images.shape for images, _ in listed] == [
        (5, 12, 12, 1),
        (5, 12, 12, 1),
        (3, 12, 12, 1),
    ]
    assert indices(np.concatenate([images for images, _ in listed])) == list(range(13))
    np.testing.assert_array_equal(listed[0][1], np.eye(3)[[0, 1, 2, 0, 1]])


@pytest.mark.parametrize("size", [6, 11, 12])
def test_images_are_resized_as_one_by_one(tmp_path, size):
    # From 8 pixels, 11 are less than twice the memory and 12 are more.
    pictures = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype="uint8")
    np.savez(tmp_path / "set.npz", x_train=pictures, y_train=np.arange(7))
    source = open_source(tmp_path / "set.npz", "train")
    wanted = np.stack([numpy_augmentation.resized(each, size) for each in pictures])
    found, _ = next(iter(evaluation_batches(source, size, 3, 7, 7)))
    np.testing.assert_allclose((found + 1) * 127.5, wanted, atol=1e-4)
    taken = Preprocessing(interpolation="bicubic", antialias=True)
    found, _ = next(
        iter(evaluation_batches(source, size, 3, 7, 7, preprocessing=taken))
    )
    cubic = [resizing.evaluated(each, size, taken) for each in pictures]
    np.testing.assert_allclose((found + 1) * 127.5, np.stack(cubic), atol=1e-4)
    images, labels = training_batches(source, size, 3, 7, 7, STILL).from_batch(0)[0]
    wanted = wanted[labels.argmax(axis=1)]
    np.testing.assert_allclose((images + 1) * 127.5, wanted, atol=1e-4)


@slow_on("jax")
def test_fit_reads_on_over_epochs(source, monkeypatch):
    config = tiny_config(image_size=8, num_classes=3)
    model = widenet_keras.ImageClassifier(config)
    model.compile(
        keras.optimizers.SGD(0.1),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    read = []

    def finish(images, targets, augmentation, random):
        read.append(random.bit_generator.seed_seq.entropy[-1])
        return numpy_augmentation.finish(images, targets, augmentation, random)

    monkeypatch.setattr("widenet_keras.data.numpy_batches.finish", finish)
    stream = training_batches(source, 8, 3, 3, 4, STILL).from_batch(2)
    model.fit(stream, epochs=2, steps_per_epoch=2, verbose=0)
    # Keras looks at the first batches before it trains, and may read ahead after.
    start = len(read) - 1 - read[::-1].index(2)
    assert read[start : start + 4] == [2, 3, 4, 5]


def test_what_needs_tensorflow_says_so(source, tmp_path):
    with pytest.raises(ImportError, match=r"\[tensorflow\]") as error:
        training_batches(source, 8, 3, 3, 4, Augmentation())
    assert "RandAugment" in one_line(error)
    names = [field.name for field in dataclasses.fields(RecordSource)]
    shards = RecordSource(**{name: getattr(source, name) for name in names})
    with pytest.raises(ImportError, match=r"\[tensorflow\]") as error:
        evaluation_batches(shards, 8, 3, 3, 4)
    assert "TFRecord" in one_line(error)


class Fixed:
    """A generator whose draws are given, from the first on."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def _draw(self, *args):
        return self.draws.pop(0)

    random = uniform = integers = beta = _draw


def greys(*values):
    images = np.array(values, "uint8").reshape(-1, 1, 1, 1)
    return np.tile(images, (1, 4, 4, 1))


def test_mixup_and_smoothing_by_hand():
    # Nothing is erased in any of the three; then the parts that are kept.
    random = Fixed(0.9, 0.9, 0.9, np.array([1.0, 0.75, 0.25]))
    options = Augmentation(randaugment_ops=0, smoothing=0.3)
    images, labels = numpy_augmentation.finish(
        greys(0, 51, 255), np.eye(3, dtype="float32"), options, random
    )
    # As for tf.data: each with the one before it.
    np.testing.assert_allclose(images[:, 1, 2, 0], [-1.0, -0.7, -0.2], atol=1e-6)
    # Smoothed: 0.8 for the class, 0.1 for the others; then 0.75 and 0.25 of two.
    np.testing.assert_allclose(labels[1], [0.275, 0.625, 0.1], atol=1e-6)


def test_cutmix_and_erasing_by_hand():
    options = Augmentation(
        randaugment_ops=0, mixup=0, cutmix=1.0, erasing=0.5, smoothing=0
    )
    # The first image is spared. Of the second 4 pixels are erased, ratio 1, from
    # (0, 1) on. Then cutmix keeps all of the first image and 3/4 of the second: a
    # box of side 4 * sqrt(1/4) = 2 around (2, 3).
    erased = (0.1, 0.25, 0.0, np.array([0, 1]))
    boxes = (np.array([1.0, 0.75]), np.array([0, 0]), np.array([2, 3]))
    images, labels = numpy_augmentation.finish(
        greys(0, 255), np.eye(2, dtype="float32"), options, Fixed(0.9, *erased, *boxes)
    )
    wanted = np.ones((4, 4))
    wanted[0:2, 1:3] = 0.0
    wanted[1:3, 2:4] = -1.0
    np.testing.assert_allclose(images[1, :, :, 0], wanted, atol=1e-6)
    np.testing.assert_allclose(labels, [[1, 0], [0.25, 0.75]], atol=1e-6)


def test_crops_by_hand():
    image = np.arange(16, dtype="uint8").reshape(4, 4, 1)
    # Two pixels at 0 and 3 become four at -0.25, 0.25, 0.75 and 1.25, inside the row.
    wide = numpy_augmentation.resized(np.array([[[0], [8]]], "uint8"), 4)
    assert wide[0, :, 0].tolist() == [0, 2, 6, 8]
    part = numpy_augmentation.resized(image, 2, (1, 2, 2, 2))
    assert part[..., 0].tolist() == [[6, 7], [10, 11]]
    options = Augmentation(crop="pad", randaugment_ops=0)
    # One up and one to the right, and mirrored; the rim goes on.
    random = Fixed(np.array([[-1, 1], [0, 0]]), np.array([0.1, 0.9]))
    images = np.stack([image, image])
    moved, still = numpy_augmentation.crops_and_flips(images, 4, options, random)
    np.testing.assert_array_equal(still, image)
    assert moved[0, :, 0].tolist() == [3, 3, 2, 1]
    assert moved[1, :, 0].tolist() == [3, 3, 2, 1]
    assert moved[3, :, 0].tolist() == [11, 11, 10, 9]


def test_inception_windows_are_inside():
    image = np.zeros((20, 30, 1), "uint8")
    random = np.random.default_rng(0)
    found = [
        numpy_augmentation._inception_window(image.shape, 0.2, random)
        for _ in range(200)
    ]
    top, left, height, width = np.array(found).T
    assert top.min() >= 0
    assert (top + height).max() <= 20
    assert (left + width).max() <= 30
    # Rounding to whole pixels moves the area a little.
    assert 0.18 < (height * width).min() / 600 < 0.3


def test_inception_windows_are_as_large_as_those_of_tensorflow():
    """By heights that are drawn evenly; by areas that are it would be 0.46."""
    random = np.random.default_rng(0)
    window = numpy_augmentation._inception_window
    found = [window((300, 300, 3), 0.05, random)[2:] for _ in range(3000)]
    # Twenty standard deviations of the mean, and what 300 draws of TensorFlow gave.
    assert abs(np.prod(found, axis=1).mean() / 90_000 - 0.375) < 0.02


def test_channels():
    image = np.array([[[[200, 100, 0]]]], "uint8")
    assert with_channels(image, 1).ravel().tolist() == [118]
    grey = with_channels(image[..., :1], 3)
    assert grey.ravel().tolist() == [200, 200, 200]


@pytest.fixture
def photos(tmp_path):
    """Thirteen images of three classes and of all sizes; the folder, and its source."""
    image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(0)
    for index in range(13):
        path = tmp_path / "photos" / f"class{index % 3}" / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 40, (9 + index, 30 - index, 3)) + 16 * index
        image.fromarray(pixels.astype("uint8")).save(path)
    return open_source(tmp_path / "photos", "train")


@pytest.mark.parametrize("crop", ["inception", "pad", "none"])
def test_image_files_train_without_tensorflow(photos, crop):
    options = dataclasses.replace(MOVING, crop=crop)
    stream = training_batches(photos, 10, 3, 3, 4, options, seed=5)
    whole, later = stream.from_batch(0), stream.from_batch(4)
    assert isinstance(whole, keras.utils.PyDataset)
    for index in (0, 3):
        for one, other in zip(whole[4 + index], later[index], strict=True):
            np.testing.assert_array_equal(one, other)
    images, labels = whole[0]
    assert (images.shape, labels.shape) == ((4, 10, 10, 3), (4, 3))
    assert images.dtype == labels.dtype == "float32"
    other = training_batches(photos, 10, 3, 3, 4, options, seed=6).from_batch(0)
    assert (other[0][0] != images).any()
    part = stream.from_batch(0, Part(1, 2))
    np.testing.assert_array_equal(part[0][0], images[2:])


def test_an_epoch_of_image_files_has_each_once(photos):
    stream = training_batches(photos, 8, 3, 3, 6, STILL).from_batch(0)
    found = [stream[index] for index in range(2)]
    levels = np.concatenate([images.mean(axis=(1, 2, 3)) for images, _ in found])
    which = np.rint(((levels + 1) * 127.5 - 19.5) / 16).astype(int)
    assert len(set(which)) == 12
    labels = np.concatenate([labels for _, labels in found])
    np.testing.assert_array_equal(labels, np.eye(3)[which % 3])


@pytest.mark.parametrize("size", [8, 64])
def test_training_takes_what_the_model_takes(photos, tmp_path, size):
    taken = Preprocessing(crop_pct=0.7)
    pixels = np.random.default_rng(0).integers(0, 256, (13, 20, 40, 3), dtype="uint8")
    np.savez(tmp_path / "set.npz", x_train=pixels, y_train=np.arange(13) % 3)
    for source in (photos, open_source(tmp_path / "set.npz", "train")):
        wanted, _ = evaluation_batches(source, size, 3, 3, 13, preprocessing=taken)[0]
        stream = training_batches(source, size, 3, 3, 13, STILL, preprocessing=taken)
        found, _ = stream.from_batch(0)[0]
        places = [batch.mean(axis=(1, 2, 3)).argsort() for batch in (found, wanted)]
        np.testing.assert_array_equal(found[places[0]], wanted[places[1]])


@pytest.mark.parametrize("size", [12, 64])
def test_image_files_are_evaluated_as_they_are_predicted(photos, size, monkeypatch):
    monkeypatch.setattr(images, "has_tensorflow", lambda: False)
    found = evaluation_batches(photos, size, 1, 3, 5)
    assert found.num_batches == 3
    pixels = np.concatenate([batch for batch, _ in found])
    for row, image in enumerate(pixels):
        wanted = images.read_pixels(photos.path(row), (size, size, 1))
        np.testing.assert_array_equal(image, scale_pixels(wanted))


def test_broken_image_files_without_tensorflow(photos, capsys):
    broken = photos.path(5)
    with open(broken, "wb") as file:
        file.write(b"no image")
    stream = training_batches(photos, 8, 3, 3, 13, STILL).from_batch(0)
    with pytest.raises(ValueError, match=r"class1/01\.png cannot be read \(it is none"):
        stream[0]
    advice = "; replace it, or on_error='skip' leaves it out"
    with pytest.raises(ValueError, match=advice):
        list(evaluation_batches(photos, 8, 3, 3, 4))
    stream = training_batches(photos, 8, 3, 3, 13, STILL, on_error="skip")
    images, _ = stream.from_batch(0)[0]
    assert images.shape == (13, 8, 8, 3)
    # Another one stands in its place.
    assert len({image.tobytes() for image in images}) == 12
    assert list(stream.broken) == ["class1/01.png"]
    capsys.readouterr()
    found = evaluation_batches(photos, 8, 3, 3, 4, on_error="skip")
    assert found.num_batches == 3
    assert sum(len(images) for images, _ in found) == 12
    assert capsys.readouterr().err.count("skipped class1/01.png") == 1


def test_images_of_which_none_can_be_read(photos, tmp_path):
    for row in range(photos.count):
        with open(photos.path(row), "wb") as file:
            file.write(b"no image")
    model = tiny_model("vit", num_classes=3)
    with pytest.raises(ValueError, match="no image can be read") as error:
        labelled_images(model, tmp_path / "photos", "train", None, 20, "skip")
    one_line(error)
    with pytest.raises(ValueError, match="no image can be read") as error:
        labelled_samples(photos, 8, 3, on_error="skip")
    one_line(error)


def test_reading_with_pillow_is_said_once(photos, capsys):
    numpy_reading._say_slower.cache_clear()
    for _ in range(2):
        evaluation_batches(photos, 8, 3, 3, 4)
    [line] = capsys.readouterr().err.splitlines()
    assert "slower" in line
    assert "[tensorflow]" in line


def test_image_files_need_pillow_or_tensorflow(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"\[images\]") as error:
        evaluation_batches(photos, 8, 3, 3, 4)
    one_line(error)


def test_colours_become_grey_before_they_are_resized(tmp_path):
    """Reds of 2 and 0 are greys of 1 and 0; their mean, a red of 1, is a grey of 0."""
    image = np.zeros((1, 2, 2, 3), "uint8")
    image[0, :, 0, 0] = 2
    path = tmp_path / "set.npz"
    labels = np.zeros(1, int)
    np.savez(path, x_train=image, y_train=labels, x_test=image, y_test=labels)
    reader = open_source(str(path), "test").reader(Layout(1, 1, 1, 1), None)
    found, _ = reader.evaluation(slice(0, 1))
    assert found.tolist() == [[[[1]]]]


def test_a_broken_image_of_any_name_is_one_line():
    with pytest.raises(ValueError, match="cannot be read") as error:
        BrokenImages("raise").add("train/x\ny.jpg", "it is empty")
    assert broken_image_message(error.value) == one_line(error)
