"""Data sets of TensorFlow Datasets: prepared, mocked, missing."""

import itertools
import re
import unittest.mock

import numpy as np
import pytest
import tensorflow as tf
from conftest import one_line
from pictures import stored_by_tfds

from widenet_keras.data import (
    Augmentation,
    broken_image_message,
    evaluation_batches,
    open_source,
    training_batches,
)
from widenet_keras.data.sources.tfds import _shards

tfds = pytest.importorskip("tensorflow_datasets")

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
STILL = Augmentation(crop="none", flip=False, randaugment_ops=0, mixup=0, smoothing=0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Ten training and five test images of one grey each, two classes in turn."""
    root = tmp_path_factory.mktemp("folders")
    for part, count in (("train", 10), ("test", 5)):
        for index in range(count):
            path = root / part / f"class{index % 2}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = np.full((9, 11, 3), 20 * index, "uint8")
            path.write_bytes(tf.io.encode_png(image).numpy())
    return root


@pytest.fixture(scope="module")
def prepared(folders, tmp_path_factory):
    """Returns where TFDS keeps the images of the folders as a data set of its own."""
    data_dir = tmp_path_factory.mktemp("tfds")
    stored_by_tfds(folders, data_dir, "my_greys")
    return data_dir


def taken(batches, count):
    found = itertools.islice(iter(batches), count)
    return [(np.asarray(images), np.asarray(labels)) for images, labels in found]


def check_reading(source):
    """Checks the images and labels of the ten greys, and going on from a batch."""
    assert (source.count, source.num_classes) == (10, 2)
    stream = training_batches(source, 8, 3, 2, 3, STILL, seed=4)
    whole = taken(stream.from_batch(0), 7)
    for number in (2, 4):
        later = taken(stream.from_batch(number), 2)
        for one, other in zip(whole[number : number + 2], later, strict=True):
            np.testing.assert_array_equal(one[0], other[0])
    images = np.concatenate([images for images, _ in whole])
    greys = np.rint((images[:, 0, 0, 0] + 1) * 127.5 / 20).astype(int)
    # Three batches of three are an epoch.
    assert len(set(greys[:9])) == len(set(greys[9:18])) == 9
    labels = np.concatenate([labels for _, labels in whole]).argmax(axis=1)
    np.testing.assert_array_equal(labels, greys % 2)
    evaluated = taken(evaluation_batches(source, 8, 3, 2, 4), 9)
    assert [len(images) for images, _ in evaluated] == [4, 4, 2]


def test_a_prepared_data_set(prepared):
    source = open_source("tfds:my_greys", "train", prepared)
    assert len(source.files) == 1
    assert "train of my_greys/1.0.0" in source.description
    check_reading(source)
    test = open_source("tfds:my_greys", "validation", data_dir=str(prepared))
    assert test.count == 5
    assert "serves as validation" in test.description


def test_a_builder_made_from_folders(folders):
    source = open_source(tfds.ImageFolder(str(folders)), "train")
    assert source.class_names == ("class0", "class1")
    check_reading(source)


def test_imagenet_by_tfds_s_own_mock(tmp_path):
    with tfds.testing.mock_data(num_examples=6):
        train = open_source("tfds:imagenet2012", "train", tmp_path)
        validation = open_source("tfds:imagenet2012", "validation", tmp_path)
        assert (train.count, train.num_classes) == (6, 1000)
        assert train.class_names[0] == "n01440764"
        options = Augmentation(randaugment_ops=0)
        stream = training_batches(train, 16, 3, 1000, 4, options)
        images, labels = taken(stream.from_batch(1), 2)[1]
        assert images.shape == (4, 16, 16, 3)
        assert labels.sum(axis=1) == pytest.approx(1.0)
        evaluated = evaluation_batches(validation, 16, 3, 1000, 4)
        assert [len(images) for images, _ in taken(evaluated, 9)] == [4, 2]


def test_a_broken_image_of_a_data_set_is_named(prepared):
    source = open_source("tfds:my_greys", "train", prepared)
    features, image = source.features, source.image_key

    class Cut:
        """Cuts every image off, as if it were written so."""

        def __contains__(self, name):
            return name in features

        def deserialize_example(self, record, decoders=None):
            row = features.deserialize_example(record, decoders=decoders)
            return {**row, image: tf.strings.substr(row[image], 0, 40)}

    object.__setattr__(source, "features", Cut())
    batches = evaluation_batches(source, 8, 3, 2, 10)
    with pytest.raises(Exception, match="cannot be read") as error:
        taken(batches, 1)
    assert broken_image_message(error.value).startswith(
        "The image number 0 of tfds:my_greys cannot be read (Invalid PNG"
    )
    # In training the place of an image is not known, so its bytes name it.
    stream = training_batches(source, 8, 3, 2, 10, STILL)
    with pytest.raises(Exception, match="cannot be read") as error:
        taken(stream.from_batch(0), 1)
    assert re.match(
        "The image with checksum [0-9a-f]{8} of tfds:my_greys cannot be read",
        broken_image_message(error.value),
    )


def test_a_broken_image_has_the_name_of_its_file(prepared):
    """Also where all of a record cannot be decoded because of it."""
    source = open_source("tfds:my_greys", "train", prepared)
    features, image = source.features, source.image_key

    class Broken:
        def __contains__(self, name):
            return name in ("image", "label", "file_name")

        def deserialize_example(self, record, decoders=None):
            how = {image: tfds.decode.SkipDecoding()}
            row = features.deserialize_example(record, decoders=how)
            row |= {image: tf.constant(b"no image"), "file_name": tf.constant(b"n.png")}
            return row if decoders else {**row, image: tf.io.decode_png(row[image])}

    object.__setattr__(source, "features", Broken())
    with pytest.raises(Exception, match="cannot be read") as error:
        taken(evaluation_batches(source, 8, 3, 2, 10), 1)
    line = broken_image_message(error.value)
    assert line.startswith("The image n.png cannot be read")


def test_imagenet_that_is_not_there(tmp_path):
    def message():
        with pytest.raises(ValueError, match="is not prepared in") as error:
            open_source("tfds:imagenet2012", "train", tmp_path)
        return one_line(error)

    folder = tmp_path / "downloads" / "manual"
    both = message()
    assert "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar are missing" in both
    assert f"from {folder}" in both
    folder.mkdir(parents=True)
    (folder / "ILSVRC2012_img_train.tar").touch()
    assert "and ILSVRC2012_img_val.tar is missing" in message()
    (folder / "ILSVRC2012_img_val.tar").touch()
    assert message().endswith(f"run tfds build imagenet2012 --data_dir {tmp_path}.")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tfds:imagenet2013", "is not a data set of TFDS"),
        ("tfds:cifar10:9.9.9", "is not a data set of TFDS"),
        ("tfds:", "is not a data set of TFDS"),
        ("tfds:cifar10", "run tfds build cifar10 --data_dir"),
        ("tfds:imdb_reviews", "0 images and 1 class labels per example"),
    ],
)
def test_data_sets_that_do_not_fit(tmp_path, name, said):
    with pytest.raises(ValueError, match=said) as error:
        open_source(name, "train", tmp_path)
    one_line(error)


def test_a_data_set_with_configs_is_prepared_where_it_is_looked_for(tmp_path):
    with pytest.raises(ValueError, match="is not prepared in") as error:
        open_source("tfds:imagenet_resized/8x8", "train", tmp_path)
    assert f"imagenet_resized/8x8 --data_dir {tmp_path}." in one_line(error)


def test_a_missing_shard_is_named(prepared):
    builder = tfds.builder("my_greys", data_dir=str(prepared))
    [path] = builder.info.splits["train"].filepaths
    info = unittest.mock.Mock(filepaths=[path, f"{path}-2"])
    builder = unittest.mock.Mock()
    builder.info.file_format.value = "tfrecord"
    builder.info.splits = {"train": info}
    with pytest.raises(ValueError, match="1 of 2 files of train are missing") as error:
        _shards("tfds:my_greys", builder, "train")
    assert f"the first is {path}-2" in one_line(error)


def test_a_missing_part(prepared, tmp_path):
    source = open_source("tfds:my_greys", "test", prepared)
    assert "serves" not in source.description
    with pytest.raises(ValueError, match="Did you mean") as error:
        open_source("tfds:my_greys", "validations", prepared)
    one_line(error)
