"""Batches: order, exact resume, broken images, what the images are."""

import itertools

import keras
import numpy as np
import pytest
from conftest import one_line, tiny_config

import widenet_keras
from widenet_keras.data import (
    Augmentation,
    broken_image_message,
    evaluation_batches,
    open_source,
    training_batches,
    write_tfrecords,
)

tf = pytest.importorskip("tensorflow")

SIZE, COUNT, BATCH = 16, 13, 4
# Nothing is drawn, so an image can be known by its grey.
STILL = Augmentation(crop="none", flip=False, randaugment_ops=0, mixup=0, smoothing=0)
# Everything but RandAugment, which takes a second to compile.
MOVING = Augmentation(randaugment_ops=0, cutmix=1.0, erasing=0.5)


def plain_images():
    """Returns COUNT images, each of one grey: 5, 23, 41 and so on."""
    greys = 5 + 18 * np.arange(COUNT)
    return np.tile(greys.astype("uint8")[:, None, None, None], (1, SIZE, SIZE, 3))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same images as class folders, shards and arrays; 3 classes in turn."""
    root = tmp_path_factory.mktemp("data")
    images, labels = plain_images(), np.arange(COUNT) % 3
    np.savez(
        root / "set.npz", x_train=images, y_train=labels, x_test=images, y_test=labels
    )
    found = {"arrays": open_source(root / "set.npz", "train")}
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / "images" / f"class{label}" / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
    write_tfrecords(root / "images", root / "shards", 3)
    found["folders"] = open_source(root / "images", "train")
    found["tfrecords"] = open_source(root / "shards", "train")
    return found


def stream(source, augmentation=STILL, batch=BATCH, seed=0, **fields):
    return training_batches(source, SIZE, 3, 3, batch, augmentation, seed, **fields)


def first(batches, count):
    """Returns the first batches as NumPy: images, labels."""
    taken = itertools.islice(iter(batches), count)
    return [(np.asarray(images), np.asarray(labels)) for images, labels in taken]


def indices(batches):
    """Returns which image every row is, by its grey."""
    images = np.concatenate([images for images, _ in batches])
    greys = (images.reshape(len(images), -1).mean(axis=1) + 1) * 127.5
    return np.rint((greys - 5) / 18).astype(int).tolist()


@pytest.mark.parametrize("kind", ["arrays", "folders", "tfrecords"])
def test_a_run_goes_on_from_any_step(sources, kind):
    batches = stream(sources[kind], MOVING)
    # 13 // 4 = 3 batches are an epoch, so these cross two ends of one.
    assert batches.batches_per_epoch == 3
    whole = first(batches.from_batch(0), 8)
    for number in (1, 3, 5):
        for one, other in zip(
            whole[number:], first(batches.from_batch(number), 8 - number), strict=True
        ):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


def test_a_run_with_randaugment_goes_on_from_any_step(sources):
    batches = stream(sources["folders"], Augmentation())
    one, other = first(batches.from_batch(0), 3)[2], first(batches.from_batch(2), 1)[0]
    np.testing.assert_array_equal(one[0], other[0])
    assert (one[0] != first(stream(sources["folders"]).from_batch(2), 1)[0][0]).any()


def test_every_image_is_drawn_for_anew(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype="uint8")
    np.savez(tmp_path / "one.npz", x_train=picture, y_train=[0])
    options = Augmentation(randaugment_ops=0, mixup=0)
    source = open_source(tmp_path / "one.npz", "train")
    batches = training_batches(source, SIZE, 3, 1, 1, options).from_batch(0)
    assert len({images.tobytes() for images, _ in first(batches, 6)}) == 6


@pytest.mark.parametrize("kind", ["arrays", "folders", "tfrecords"])
def test_order(sources, kind):
    batches = stream(sources[kind])
    found = indices(first(batches.from_batch(0), 30))
    epochs = [found[12 * e : 12 * (e + 1)] for e in range(10)]
    # Twelve different images in an epoch, another order in the next one; the one
    # that is left over is another one in time.
    assert all(len(set(epoch)) == 12 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) != epochs[0]
    assert set(found) == set(range(COUNT))
    assert len({(set(range(COUNT)) - set(epoch)).pop() for epoch in epochs}) > 3
    # The seed decides, and no other seed has a part in it.
    keras.utils.set_random_seed(77)
    assert indices(first(stream(sources[kind]).from_batch(0), 3)) == epochs[0]
    assert indices(first(stream(sources[kind], seed=1).from_batch(0), 3)) != epochs[0]


def empty_images(number):
    class Fields:
        count, targets = number, np.arange(number)
        images = np.zeros((number, 1, 1, 1), "uint8")

    return Fields


def test_orders_have_nothing_in_common():
    from widenet_keras.data.pipeline.readers import ArrayReader

    count = 50_000
    batches = ArrayReader(empty_images(count)).training(count, 0, 0)
    orders = [rows.numpy() for _, rows, _ in batches.take(3)]
    assert all(len(np.unique(order)) == count for order in orders)
    # The correlation of random orders has a standard deviation of
    # 1 / sqrt(50,000) = 0.0045; with the next epoch, and with the next place.
    for order, after in itertools.pairwise(orders):
        assert abs(np.corrcoef(order, after)[0, 1]) < 5 * 0.0045
        for lag in (1, 2, 64):
            assert abs(np.corrcoef(order[lag:], order[:-lag])[0, 1]) < 5 * 0.0045


def test_orders_are_even():
    from widenet_keras.data.pipeline.readers import ArrayReader

    batches = ArrayReader(empty_images(4)).training(4, 0, 0)
    orders = [rows.numpy() for _, rows, _ in batches.take(600)]
    # Each image is at each place in a quarter of 600 epochs: 150, with a standard
    # deviation of sqrt(600 / 4 * 3 / 4) = 10.6.
    counts = [np.bincount([o[p] for o in orders], minlength=4) for p in range(4)]
    assert np.abs(np.array(counts) - 150).max() < 5 * 10.6


@pytest.mark.parametrize("kind", ["arrays", "folders", "tfrecords"])
def test_images_and_labels(sources, kind):
    source = sources[kind]
    dataset = stream(source).from_batch(0)
    spec = dataset.element_spec
    assert [tuple(s.shape) for s in spec] == [(4, 16, 16, 3), (4, 3)]
    assert all(s.dtype == "float32" for s in spec)
    batches = first(dataset, 6)
    for row, label in zip(
        indices(batches), np.concatenate([y for _, y in batches]), strict=True
    ):
        np.testing.assert_array_equal(label, np.eye(3)[row % 3])
    evaluated = evaluation_batches(source, SIZE, 3, 3, BATCH)
    assert int(evaluated.cardinality()) == 4
    batches = first(evaluated, 9)
    # All of them, the last batch smaller; but for shards, in the order of the files.
    assert [len(images) for images, _ in batches] == [4, 4, 4, 1]
    found = indices(batches)
    assert sorted(found) == list(range(COUNT))
    if kind == "arrays":
        assert found == list(range(COUNT))
        # 5 is scaled to 5 / 127.5 - 1.
        np.testing.assert_allclose(batches[0][0][0], 5 / 127.5 - 1, atol=1e-6)
    labels = np.concatenate([labels for _, labels in batches]).argmax(axis=1)
    np.testing.assert_array_equal(labels, np.array(found) % 3)


def test_more_classes_and_one_channel(sources):
    batches = training_batches(sources["folders"], 8, 1, 5, 2, STILL)
    images, labels = first(batches.from_batch(0), 1)[0]
    assert images.shape == (2, 8, 8, 1)
    assert labels.shape == (2, 5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"batch": 14}, "13 training images, fewer than batch_size=14; use a batch"),
        ({"batch": 0}, "batch_size=0 must be a whole number >= 1"),
        ({"seed": -1}, "seed=-1 must be a whole number >= 0"),
        ({"on_error": "ignore"}, "use one of 'raise', 'skip'"),
    ],
)
def test_values_that_do_not_fit(sources, fields, said):
    with pytest.raises(ValueError, match=said) as error:
        stream(sources["arrays"], **fields)
    one_line(error)


def test_shapes_that_do_not_fit(sources):
    for channels, classes, said in [(2, 3, "1 or 3 channels"), (3, 2, "num_classes=3")]:
        with pytest.raises(ValueError, match=said) as error:
            evaluation_batches(sources["arrays"], SIZE, channels, classes, 4)
        one_line(error)


def test_fit_takes_the_stream(sources):
    # On every backend, through tf.data.
    config = tiny_config(image_size=SIZE, patch_size=8, num_classes=3)
    model = widenet_keras.ImageClassifier(config)
    model.compile(
        keras.optimizers.SGD(0.1),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    batches = stream(sources["arrays"]).from_batch(2)
    history = model.fit(batches, epochs=2, steps_per_epoch=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.fixture
def broken(tmp_path):
    """Eight grey images of which 3 is cut off and 6 is no image."""
    images = plain_images()
    for index in range(8):
        path = tmp_path / f"class{index % 2}" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        encoded = tf.io.encode_png(images[index]).numpy()
        path.write_bytes({3: encoded[:50], 6: b"text"}.get(index, encoded))
    return tmp_path


@pytest.mark.parametrize("training", [True, False])
def test_a_broken_image_ends_the_run_with_its_name(broken, training):
    (broken / "class0" / "6.png").unlink()
    source = open_source(broken, "train")
    if training:
        batches = training_batches(source, SIZE, 3, 2, 7, STILL).from_batch(0)
    else:
        batches = evaluation_batches(source, SIZE, 3, 2, 8)
    with pytest.raises(Exception, match="cannot be read") as error:
        first(batches, 1)
    line = broken_image_message(error.value)
    assert "\n" not in line
    assert line.startswith("The image class1/3.png cannot be read (Invalid PNG data")
    assert line.endswith("; replace it, or on_error='skip' leaves it out.")
    assert broken_image_message(ValueError("something else")) is None


def test_broken_images_are_skipped_in_training(broken, capsys):
    source = open_source(broken, "train")
    fields = {"augmentation": STILL, "on_error": "skip"}
    batches = training_batches(source, SIZE, 3, 2, 4, **fields)
    found = first(batches.from_batch(0), 4)
    for images, labels in found:
        rows = indices([(images, labels)])
        assert images.shape == (4, SIZE, SIZE, 3)
        # The label goes with the image that took the place.
        np.testing.assert_array_equal(labels.argmax(axis=1), np.array(rows) % 2)
    rows = indices(found)
    assert set(rows) == {0, 1, 2, 4, 5, 7}
    # Good rows are where they would be if nothing were broken.
    (broken / "class1" / "3.png").write_bytes(
        tf.io.encode_png(plain_images()[3]).numpy()
    )
    (broken / "class0" / "6.png").write_bytes(
        tf.io.encode_png(plain_images()[6]).numpy()
    )
    whole = indices(
        first(training_batches(source, SIZE, 3, 2, 4, STILL).from_batch(0), 4)
    )
    assert [a for a, b in zip(rows, whole, strict=True) if b not in (3, 6)] == [
        b for b in whole if b not in (3, 6)
    ]
    # Two epochs were read, and each is named once.
    printed = capsys.readouterr().err
    assert printed.count("skipped class1/3.png: Invalid PNG data") == 1
    assert printed.count("skipped class0/6.png: it is none of JPEG") == 1
    assert "(2 so far)" in printed
    assert set(batches.broken) == {"class1/3.png", "class0/6.png"}


def test_broken_images_are_left_out_of_evaluation(broken, capsys):
    source = open_source(broken, "train")
    batches = first(evaluation_batches(source, SIZE, 3, 2, 3, on_error="skip"), 9)
    # Sorted by class: 0 2 4 | 6 1 3 | 5 7, of which 6 and 3 are left out.
    assert [len(images) for images, _ in batches] == [3, 1, 2]
    assert indices(batches) == [0, 2, 4, 1, 5, 7]
    # A batch of which nothing is left is left out as well.
    batches = first(evaluation_batches(source, SIZE, 3, 2, 1, on_error="skip"), 9)
    assert indices(batches) == [0, 2, 4, 1, 5, 7]


def test_nothing_but_broken_images(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"")
    source = open_source(tmp_path, "train")
    batches = training_batches(source, SIZE, 3, 2, 2, STILL, on_error="skip")
    with pytest.raises(Exception, match="None of the images") as error:
        first(batches.from_batch(0), 1)
    assert broken_image_message(error.value).startswith("None of the images of a batch")


def test_records_that_do_not_fit(sources, tmp_path):
    folder = sources["folders"].root
    write_tfrecords(folder, tmp_path, 1)
    facts = tmp_path / "dataset.json"
    whole = facts.read_text()
    # Labels 1 to 3, and only two classes are known.
    facts.write_text(whole.replace(', "class2"', ""))
    batches = training_batches(open_source(tmp_path, "train"), SIZE, 3, 2, 13, STILL)
    with pytest.raises(Exception, match="its label is not one of 2 classes") as error:
        first(batches.from_batch(0), 1)
    assert "The image class2/" in broken_image_message(error.value)
    # Fewer records than were counted.
    facts.write_text(whole.replace(": 13", ": 14"))
    batches = training_batches(open_source(tmp_path, "train"), SIZE, 3, 3, 7, STILL)
    with pytest.raises(Exception, match="expected to contain") as error:
        first(batches.from_batch(0), 3)
    assert "not hold as many records as" in broken_image_message(error.value)
    # A byte that changed.
    facts.write_text(whole)
    shard = tmp_path / "train-00000-of-00001"
    content = bytearray(shard.read_bytes())
    content[30] ^= 255
    shard.write_bytes(content)
    batches = training_batches(open_source(tmp_path, "train"), SIZE, 3, 3, 4, STILL)
    with pytest.raises(Exception, match="corrupted record") as error:
        first(batches.from_batch(0), 3)
    assert broken_image_message(error.value).startswith("A TFRecord shard is damaged")


def test_no_two_purposes_share_their_numbers():
    from widenet_keras.data.pipeline.seeds import PURPOSES, seed_pair

    pairs = {tuple(seed_pair(3, name, 5).numpy().tolist()) for name in PURPOSES}
    assert len(pairs) == len(PURPOSES)


def test_every_lost_image_is_replaced_by_another_one_that_was_read():
    from widenet_keras.data.pipeline.guard import Guard

    # Of five places the first and the third were read, as 10 and 30.
    rows = (tf.constant([10, 30]),)
    [found] = Guard.replaced(tf.constant([0, 2], tf.int64), rows, 5)
    np.testing.assert_array_equal(found, [10, 30, 30, 30, 10])


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_outside_the_classes_is_refused(label):
    from widenet_keras.data.pipeline.guard import Guard

    guard = Guard(None, None, None, 3)
    guard.checked_label(tf.constant(2))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not one of 3 classes"):
        guard.checked_label(tf.constant(label))
