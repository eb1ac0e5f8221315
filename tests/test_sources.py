"""Finding labelled images: class folders, arrays, TFRecord shards."""

import dataclasses
import importlib
import io
import json
import os
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import one_line, tiny_model

from widenet_keras.data import (
    SOURCES,
    Augmentation,
    RecordSource,
    Source,
    batches,
    broken_image_message,
    evaluation_batches,
    evenly_spaced,
    in_classes_of,
    labelled_samples,
    load_digits,
    open_source,
    sample_images,
    scale_pixels,
    training_batches,
    write_tfrecords,
)
from widenet_keras.data.pixels import whole_pixels
from widenet_keras.data.requirements import has_tensorflow
from widenet_keras.data.sources.tfrecords import ShardSource, count_records


def folders(root, files):
    """Writes empty files; finding images does not open them."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def arrays(path, save=np.savez, **fields):
    """Writes an .npz file of 6 training and 4 test images of 3 classes."""
    content = {
        "x_train": np.zeros((6, 5, 4), "uint8"),
        "y_train": np.array([0, 1, 0, 1, 0, 1], "uint8"),
        "x_test": np.zeros((4, 5, 4, 3), "uint8"),
        "y_test": np.array([[0], [1], [2], [1]]),
    }
    content.update(fields)
    save(path, **{k: v for k, v in content.items() if v is not None})
    return path


def test_divided_folders(tmp_path):
    files = ["train/b/2.WebP", "train/a/1.JPEG", "train/a/0.png", "val/b/3.gif"]
    folders(tmp_path, [*files, "train/a/notes.txt", "train/.cache/x.jpg"])
    train = open_source(str(tmp_path), "train")
    assert (train.count, train.num_classes) == (3, 2)
    assert train.class_names == ("a", "b")
    # Sorted by class, then by name, whatever order the disk has.
    assert train.files.tolist() == [b"a/0.png", b"a/1.JPEG", b"b/2.WebP"]
    assert train.labels.tolist() == [0, 0, 1]
    # The validation part lacks class a, and b is still number 1.
    validation = open_source(tmp_path, "validation")
    assert validation.class_names == ("a", "b")
    assert validation.labels.tolist() == [1]
    assert str(tmp_path / "val") in validation.description
    assert "serves" not in validation.description


def test_parts_in_capitals(tmp_path):
    folders(
        tmp_path, ["Train/a/1.jpg", "Train/b/2.jpg", "VAL/b/3.jpg", "Other/x/4.jpg"]
    )
    train = open_source(tmp_path, "train")
    assert (train.class_names, train.count) == (("a", "b"), 2)
    validation = open_source(tmp_path, "validation")
    assert (validation.class_names, validation.labels.tolist()) == (("a", "b"), [1])
    assert str(tmp_path / "VAL") in validation.description
    with pytest.raises(ValueError, match="has Train, VAL and no part for 'test'"):
        open_source(tmp_path, "test")
    if (tmp_path / "val").exists():
        return  # The disk takes both for one.
    folders(tmp_path, ["val/a/5.jpg"])
    with pytest.raises(ValueError, match="has VAL and val, and only one") as error:
        open_source(tmp_path, "validation")
    one_line(error)


def test_shards_in_a_folder_in_capitals(shards, tmp_path):
    (tmp_path / "data").mkdir()
    shutil.copytree(shards, tmp_path / "data" / "Train")
    source = open_source(tmp_path / "data", "train")
    assert (type(source), source.count) == (ShardSource, 5)


def test_a_test_folder_serves_as_validation(tmp_path):
    folders(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg"])
    source = open_source(tmp_path, "validation")
    assert "serves as validation" in source.description
    folders(tmp_path, ["validation/a/3.jpg"])
    assert open_source(tmp_path, "validation").files.tolist() == [b"a/3.jpg"]
    assert open_source(tmp_path, "test").files.tolist() == [b"a/2.jpg"]


def test_class_folders_alone_serve_both(tmp_path):
    # A class of trains is not a training part: no folders are in it.
    folders(tmp_path, ["train/1.jpg", "boat/2.jpg"])
    for split in ("train", "validation"):
        source = open_source(tmp_path, split)
        assert source.class_names == ("boat", "train")
        assert "not divided" in source.description


def test_names_that_are_not_text(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    folders(tmp_path, [f"a/{name}"])
    assert open_source(tmp_path, "test").files.tolist() == [b"a/caf\xe9.jpg"]


@pytest.mark.parametrize(
    ("files", "split", "said"),
    [
        ([], "train", "has no images (.jpg, .jpeg, .png, .bmp, .gif, .webp)"),
        (["a/1.tif"], "train", "has no images (.jpg"),
        (["1.jpg"], "train", "has no images (.jpg"),
        (["a/1.jpg"], "train", "a, and one class is nothing to tell apart; give the"),
        (["train/a/1.jpg", "test/a/1.jpg"], "test", "one class is nothing to tell"),
        (
            ["a/1.jpg", "b/2.jpg", "c/2.txt", "d/.x.jpg"],
            "test",
            "(.jpg, .jpeg, .png, .bmp, .gif, .webp): c, d; add",
        ),
        (
            ["a/1.jpg", "b/sub/2.jpg"],
            "train",
            "b has no images; images lie one folder deeper, in b/sub; move them up",
        ),
        (
            ["all/a/1.jpg", "all/b/2.jpg"],
            "train",
            "images lie one folder deeper, in all/a; give",
        ),
        (
            [os.fsdecode(b"caf\xe9/1.jpg"), "b/1.jpg"],
            "train",
            r"caf\xe9 has a name that is not UTF-8",
        ),
        (["val/a/1.jpg"], "train", "has val and no part for 'train'; add a folder tr"),
        (["train/a/1.jpg"], "validation", "no part for 'validation'"),
        (["train/cat/1.jpg", "val/cats/2.jpg"], "validation", "Did you mean 'cat'?"),
    ],
)
def test_folders_that_do_not_fit(tmp_path, files, split, said):
    folders(tmp_path, files)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        open_source(tmp_path, split)
    one_line(error)


def test_what_is_left_out_is_said_once(tmp_path, capsys):
    files = ["a/1.jpg", "a/1.txt", "a/2.HEIC", "a/x/3.jpg", "a/x/4.jpg", "b/1.bmp"]
    hidden = ["a/.DS_Store", "b/Thumbs.db", "b/._1.bmp", "__MACOSX/a/1.jpg", ".x/1.jpg"]
    folders(tmp_path, [*files, *hidden, "b/5.txt"])
    for split in ("train", "test"):
        source = open_source(tmp_path, split)
        assert source.class_names == ("a", "b")
        assert source.files.tolist() == [b"a/1.jpg", b"b/1.bmp"]
    assert capsys.readouterr().err.splitlines() == [
        f"left out 2 images one folder deeper, in {tmp_path}/a/x",
        f"left out 3 files of {tmp_path}: 2 .txt, 1 .heic",
    ]


def test_evaluation_may_be_of_one_class(tmp_path):
    folders(tmp_path, ["a/1.jpg"])
    assert open_source(tmp_path, "test").class_names == ("a",)


@pytest.mark.parametrize("name", ["missing", "missing.npz", "file.txt"])
def test_data_that_do_not_exist(tmp_path, name):
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(ValueError, match=r"give a folder of class folders") as error:
        open_source(tmp_path / name, "train")
    assert name in one_line(error)
    with pytest.raises(ValueError, match="Did you mean 'train'"):
        open_source(tmp_path, "trian")


def test_arrays(tmp_path):
    path = arrays(tmp_path / "set.npz")
    train, test = open_source(path, "train"), open_source(path, "validation")
    assert (train.in_memory, train.count) == (True, 6)
    assert train.images.shape == (6, 5, 4, 1)
    assert test.images.shape == (4, 5, 4, 3)
    # Class 2 is in the test part only, and both have three classes.
    assert train.class_names == test.class_names == ("0", "1", "2")
    assert test.labels.tolist() == [0, 1, 2, 1]
    assert "serves as validation" in test.description


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"x_train": np.zeros((6, 5, 4))}, "x_train is float64 of shape (6, 5, 4)"),
        ({"x_train": np.zeros((6, 20), "uint8")}, "of shape (6, 20)"),
        ({"x_train": np.zeros((6, 5, 4, 2), "uint8")}, "has 2 channels"),
        ({"x_train": np.zeros((0, 5, 4), "uint8")}, "of shape (0, 5, 4)"),
        ({"y_train": np.zeros(5, "uint8")}, "6 images and y_train has 5 labels"),
        ({"y_train": np.zeros(6)}, "y_train is float64"),
        ({"y_train": np.array(3)}, "y_train is int64 of shape ()"),
        ({"y_train": np.full(6, -1)}, "whole numbers from 0"),
        ({"y_train": None}, "both are needed for 'train'"),
        ({"x_train": None}, "both are needed for 'train'"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, fields, said):
    path = arrays(tmp_path / "set.npz", **fields)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        open_source(path, "train")
    one_line(error)


@pytest.mark.parametrize("kind", ["text", "npy", "damaged"])
def test_a_file_that_is_no_npz(tmp_path, kind):
    path = tmp_path / "set.npz"
    if kind == "text":
        path.write_bytes(b"nonsense")
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        # What is deflated ends in an invalid block.
        arrays(path, save=np.savez_compressed)
        content = bytearray(path.read_bytes())
        start = content.index(b"x_train.npy") + len("x_train.npy")
        content[start : start + 60] = b"\xff" * 60
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"read as an \.npz file") as error:
        open_source(tmp_path / "set.npz", "train")
    one_line(error)


@pytest.fixture
def shards(tmp_path):
    """Five files of two classes as two training shards."""
    for index in range(5):
        path = tmp_path / "images" / ("a" if index < 2 else "b") / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture %d" % index)
    assert write_tfrecords(tmp_path / "images", tmp_path / "out", 2) == 5
    return tmp_path / "out"


def test_shards(shards):
    source = open_source(shards, "train")
    assert (type(source), source.count) == (ShardSource, 5)
    assert source.class_names == ("a", "b")
    assert [os.path.basename(f) for f in source.files] == [
        "train-00000-of-00002",
        "train-00001-of-00002",
    ]
    # 5 images over two shards are 3 and 2; counted by their lengths as well.
    assert [count_records(file) for file in source.files] == [3, 2]
    (shards / "dataset.json").unlink()
    plain = open_source(shards, "train")
    assert plain.count == 5
    # Nobody said what the classes are, so they are ImageNet's 1 to 1000.
    assert (plain.num_classes, plain.class_names[0]) == (1000, "1")


def test_records_have_the_usual_schema(shards):
    import tensorflow as tf

    found = {}
    for file in open_source(shards, "train").files:
        for record in tf.data.TFRecordDataset(file):
            feature = tf.train.Example.FromString(record.numpy()).features.feature
            name = feature["image/filename"].bytes_list.value[0]
            found[name] = (
                feature["image/encoded"].bytes_list.value[0],
                feature["image/class/label"].int64_list.value[0],
                feature["image/class/text"].bytes_list.value[0],
            )
    assert len(found) == 5
    assert found[b"a/1.jpg"] == (b"picture 1", 1, b"a")
    assert found[b"b/4.jpg"] == (b"picture 4", 2, b"b")


def test_shards_of_two_splits_share_their_facts(shards, tmp_path):
    write_tfrecords(tmp_path / "images", shards, 1, split="validation")
    facts = json.loads((shards / "dataset.json").read_text())
    assert facts["records"]["validation-00000-of-00001"] == 5
    assert facts["records"]["train-00000-of-00002"] == 3
    assert open_source(shards, "validation").count == 5


def test_two_splits_that_are_written_at_once(shards, tmp_path, monkeypatch):
    writing = importlib.import_module("widenet_keras.data.write_tfrecords")
    path, example = shards / "dataset.json", writing._example

    def meanwhile(*args):
        facts = json.loads(path.read_text())
        facts["records"]["test-00000-of-00001"] = 7
        path.write_text(json.dumps(facts))
        return example(*args)

    monkeypatch.setattr(writing, "_example", meanwhile)
    write_tfrecords(tmp_path / "images", shards, 1, split="validation")
    records = json.loads(path.read_text())["records"]
    assert records["test-00000-of-00001"] == 7
    assert records["validation-00000-of-00001"] == 5


def test_another_number_of_shards_is_refused_beside_the_first(shards, tmp_path):
    with pytest.raises(ValueError, match="such as train-00000-of-00002") as error:
        write_tfrecords(tmp_path / "images", shards, 1)
    one_line(error)
    assert open_source(shards, "train").count == 5


def test_shards_of_other_classes_are_not_written_beside(shards, tmp_path):
    folders(tmp_path / "other", ["b/1.jpg"])
    before = (shards / "dataset.json").read_text()
    with pytest.raises(ValueError, match="2 classes that are not the 1 of") as error:
        write_tfrecords(tmp_path / "other", shards, 1, split="validation")
    one_line(error)
    assert (shards / "dataset.json").read_text() == before
    assert not list(shards.glob("validation*"))


@pytest.mark.parametrize("facts", ['{"classes": 10, "records": 5}', "[1]", "{}"])
def test_facts_of_something_else_are_passed_over(shards, facts):
    (shards / "dataset.json").write_text(facts)
    assert open_source(shards, "train").count == 5
    assert open_source(shards, "train").num_classes == 1000


def test_shards_that_are_missing_or_damaged(shards):
    with pytest.raises(ValueError, match="none of 'validation'") as error:
        open_source(shards, "validation")
    one_line(error)
    (shards / "dataset.json").unlink()
    second = shards / "train-00001-of-00002"
    content = second.read_bytes()
    second.write_bytes(content[:-3])
    with pytest.raises(ValueError, match="ends in the middle of record 1") as error:
        open_source(shards, "train")
    assert "train-00001-of-00002" in one_line(error)
    second.unlink()
    with pytest.raises(ValueError, match="1 train shards are missing") as error:
        open_source(shards, "train")
    assert "train-00001" in one_line(error)


def test_more_shards_than_images(tmp_path):
    folders(tmp_path, ["a/1.jpg", "b/1.jpg"])
    with pytest.raises(ValueError, match="use at most as many shards"):
        write_tfrecords(tmp_path, tmp_path / "out", 3)


def test_shards_of_a_split_that_is_none(tmp_path):
    folders(tmp_path, ["a/1.jpg", "b/1.jpg"])
    with pytest.raises(ValueError, match="split='val' is not known; use one of"):
        write_tfrecords(tmp_path, tmp_path / "out", 1, split="val")
    assert not (tmp_path / "out").exists()


def test_labels_that_are_ids_are_refused(tmp_path):
    images, path = np.zeros((2, 4, 4), "uint8"), tmp_path / "set.npz"
    arrays(path, x_train=images, y_train=np.array([1, 4_000_000_000]))
    with pytest.raises(ValueError, match="number the classes from 0") as error:
        open_source(str(path), "train")
    one_line(error)
    # What is no part of the data may be anything; the test images have three classes.
    arrays(path, x_train=images, y_train=[0, 1], y_names=np.array(["cat", "dog"]))
    assert open_source(str(path), "train").num_classes == 3


def test_samples_are_of_all_classes(tmp_path):
    labels = np.repeat(np.arange(5), 4)
    images = np.broadcast_to(
        (labels * 50).astype("uint8")[:, None, None, None], (20, 8, 8, 3)
    )
    arrays(tmp_path / "set.npz", x_test=images, y_test=labels)
    source = open_source(str(tmp_path / "set.npz"), "test")
    found = sample_images(source, 8, 3, count=5)
    # Images 0, 4, 9, 14 and 19 of 20: gray levels 0, 50, 100, 150 and 200.
    levels = (found[:, 0, 0, 0] + 1) * 127.5
    np.testing.assert_allclose(levels, [0, 50, 100, 150, 200], atol=0.01)
    assert len(sample_images(source, 8, 3, count=64)) == 20
    same, labels = labelled_samples(source, 8, 3, count=5)
    np.testing.assert_array_equal(same, found)
    assert labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.skipif(not has_tensorflow(), reason="needs TensorFlow")
def test_samples_of_class_folders_are_of_all_classes(tmp_path):
    for index in range(12):
        path = tmp_path / "test" / f"class{index // 4}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((8, 8, 3), 20 * index)
        keras.utils.save_img(path, image, scale=False)
    source = open_source(str(tmp_path), "test")
    levels = (sample_images(source, 8, 3, count=3)[:, 0, 0, 0] + 1) * 127.5
    # The classes have levels from 0, 80 and 160 on.
    assert len(set((levels // 80).tolist())) == 3


def test_a_part_of_the_images_keeps_its_labels(tmp_path):
    labels = np.repeat(np.arange(3), 4)
    images = np.arange(12, dtype="uint8")[:, None, None] * np.ones((8, 8), "uint8")
    arrays(tmp_path / "set.npz", x_train=images, y_train=labels)
    part = evenly_spaced(open_source(str(tmp_path / "set.npz"), "train"), 6)
    # 12 images at distances of 11 / 5 = 2.2, the places rounded down.
    assert part.images[:, 0, 0, 0].tolist() == [0, 2, 4, 6, 8, 11]
    assert part.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (part.count, part.num_classes) == (6, 3)
    assert part.description.startswith("6 of 12 images")


def test_images_that_cannot_be_picked(tmp_path):
    source = open_source(str(folders(tmp_path, ["a/1.jpg", "b/2.jpg"])), "train")
    with pytest.raises(ValueError, match="ask for at most 2") as error:
        evenly_spaced(source, 3)
    one_line(error)
    facts = {"name": "x", "class_names": ("a", "b"), "description": "two"}
    source = RecordSource(**facts, count=2)
    with pytest.raises(ValueError, match="record by record") as error:
        evenly_spaced(source, 1)
    one_line(error)


class Stripes(Source):
    """Images of stripes that lie or stand, in greys that differ."""

    def image(self, row):
        image = np.zeros((16, 16, 3), "uint8")
        image[::2] = np.random.default_rng(row).integers(64, 256)
        return image if self.labels[row] == 0 else image.swapaxes(0, 1)


def open_stripes(data, split, data_dir):
    """Returns the source for "stripes:COUNT", and None for all other data."""
    if not str(data).startswith("stripes:"):
        return None
    count = int(data.removeprefix("stripes:"))
    labels, names = np.arange(count) % 2, ("lying", "standing")
    facts = {"name": data, "class_names": names, "description": f"{count} stripes"}
    return Stripes(**facts, count=count, labels=labels)


@pytest.fixture
def stripes(monkeypatch):
    monkeypatch.setitem(SOURCES, "stripes:COUNT", open_stripes)
    return open_source("stripes:7", "train")


def all_of(found):
    """Returns all images, as pixels, and labels."""
    images, labels = zip(*[map(np.asarray, batch) for batch in found], strict=True)
    return whole_pixels(np.concatenate(images)), np.concatenate(labels)


WITH = pytest.mark.parametrize("tensorflow", [True, False])


@WITH
def test_a_source_of_a_script_is_read_as_those_of_the_package(
    stripes, tensorflow, monkeypatch
):
    monkeypatch.setattr(batches, "has_tensorflow", lambda: tensorflow)
    images, labels = all_of(evaluation_batches(stripes, 16, 3, 2, 3))
    np.testing.assert_array_equal(images, [stripes.image(row) for row in range(7)])
    np.testing.assert_array_equal(labels, np.eye(2)[stripes.labels])
    # In the classes of a model, which has others and in another order.
    model = tiny_model(image_size=16, num_classes=3)
    model.class_names = ("standing", "none", "lying")
    some = evenly_spaced(in_classes_of(stripes, model), 3)
    images, labels = all_of(evaluation_batches(some, 16, 3, 3, 2))
    np.testing.assert_array_equal(images, [stripes.image(row) for row in (0, 3, 6)])
    np.testing.assert_array_equal(labels, np.eye(3)[[2, 0, 2]])
    # In their own order again, where a model turns it round twice.
    model.class_names = ("none", "lying", "standing")
    assert in_classes_of(some, model).targets.tolist() == [1, 2, 1]
    grey, _ = all_of(evaluation_batches(stripes, 16, 1, 2, 7))
    np.testing.assert_array_equal(
        grey[..., 0], [stripes.image(row)[..., 0] for row in range(7)]
    )
    model.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy(True))
    augmentation = Augmentation(randaugment_ops=0)
    stream = training_batches(some, 16, 3, 3, 2, augmentation).from_batch(0)
    found = model.fit(stream, steps_per_epoch=1, verbose=0)
    assert np.isfinite(found.history["loss"]).all()


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Files(Source):
    """Files that are held as bytes, the last of which is no image."""

    files: list[bytes]
    encoded = True

    def image(self, row):
        return self.files[row]


@WITH
def test_a_source_of_files_and_one_that_breaks_its_word(
    stripes, tensorflow, monkeypatch, capsys
):
    monkeypatch.setattr(batches, "has_tensorflow", lambda: tensorflow)
    image = pytest.importorskip("PIL.Image")
    buffers = [io.BytesIO() for _ in range(3)]
    for row, buffer in enumerate(buffers):
        image.fromarray(stripes.image(row)).save(buffer, "PNG")
    files = [buffer.getvalue() for buffer in buffers]
    facts = {"name": "f", "class_names": ("a", "b"), "description": "files"}
    facts |= {"count": 4, "labels": np.array([0, 1, 0, 1])}
    source = Files(**facts, files=[*files, b"none\0"])
    images, labels = all_of(evaluation_batches(source, 16, 3, 2, 4, "skip"))
    np.testing.assert_array_equal(images, [stripes.image(row) for row in range(3)])
    assert labels.argmax(axis=1).tolist() == [0, 1, 0]
    assert "skipped number 3 of f" in capsys.readouterr().err
    for wrong in (stripes.image(3), "text"):
        source = Files(**facts, files=[*files, wrong])
        with pytest.raises(Exception, match=r"number 3 of f") as error:
            all_of(evaluation_batches(source, 16, 3, 2, 4))
        line = broken_image_message(error.value)
        assert "(image(row) returned" in line
        assert "must return the bytes of a file" in line
    with pytest.raises(ValueError, match="4 images and 3 labels") as error:
        dataclasses.replace(source, labels=np.zeros(3, int))
    one_line(error)


def test_the_command_line_lets_through_what_is_opened():
    from widenet_keras.cli.checks import check_data

    for word in SOURCES:
        if not word.startswith(("a ", "an ")):
            check_data(word, "test")
    with pytest.raises(ValueError, match="digitz does not exist") as error:
        check_data("digitz", "test")
    with pytest.raises(ValueError, match="digitz does not exist") as other:
        open_source("digitz", "test")
    assert one_line(error) == one_line(other)


def test_digits_are_a_source_like_the_others(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    train, test = open_source("digits", "train"), open_source("digits", "validation")
    assert (train.count, test.count, train.class_names[3]) == (1347, 450, "3")
    (images, labels), _ = load_digits()
    np.testing.assert_array_equal(train.targets, labels)
    # 17 levels of grey, each at most half a pixel from where it was.
    assert np.abs(scale_pixels(train.images) - images).max() <= 0.5 / 127.5 + 1e-6
    # A folder of that name is one.
    monkeypatch.chdir(folders(tmp_path, ["digits/a/1.jpg", "digits/b/1.jpg"]))
    assert open_source("digits", "test").count == 450
    assert open_source("./digits", "test").count == 2


@pytest.mark.parametrize(
    "labels", [[0, -1, 1], [0, 2, 1], [0.0, 1.0, 1.0], [[0], [1], [1]]]
)
def test_labels_of_no_class_are_refused(labels):
    facts = {"name": "mine", "count": 3, "class_names": ("a", "b"), "description": ""}
    with pytest.raises(ValueError, match="whole numbers from 0 to 1") as error:
        Source(**facts, labels=labels)
    one_line(error)
    assert Source(**facts, labels=[0, 1, 1]).targets.dtype == "int64"


def test_digits_is_a_word_and_no_path(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    with pytest.raises(ValueError, match="digits"):
        open_source(Path("./digits"), "train")
    assert open_source("digits", "train").count == 1347
    assert "./digits" in capsys.readouterr().err
