"""Writing class folders as TFRecord shards in the usual ImageNet schema."""

import json
import os
from pathlib import Path

from widenet_keras.data.requirements import require_tensorflow
from widenet_keras.data.sources.class_folders import open_folders
from widenet_keras.data.sources.tfrecords import FACTS, SHARD, read_facts
from widenet_keras.data.splits import SPLITS
from widenet_keras.utils.checks import check_choice, check_integer
from widenet_keras.utils.files import check_folder, replaced_when_done
from widenet_keras.utils.locks import in_turn
from widenet_keras.utils.progress import Progress


def write_tfrecords(
    folder: str | os.PathLike,
    output: str | os.PathLike,
    shards: int,
    split: str = "train",
    seed: int = 0,
) -> int:
    """Writes the images of class folders as TFRecord shards, in a random order.

    The shards are named train-00000-of-00008 and so on (validation-..., test-...);
    a record has image/encoded, the bytes of the file as they are, image/class/label
    from 1, image/class/text and image/filename. Beside them is dataset.json with the
    class names and the number of records of every shard, so that nobody counts them.

    Args:
        folder: Folder of class folders, as for `open_source`.
        output: Folder to write to; what is there of other splits stays.
        shards: Number of shards.
        split: "train", "validation" or "test".
        seed: Seed of the order.

    Returns:
        Number of records.

    Raises:
        ValueError: If there is no such split, no images, or fewer than shards, or
            shards of other classes are there, or another number of shards of this
            split.
        ImportError: If TensorFlow is not installed.
    """
    check_choice("write_tfrecords", "split", split, tuple(SPLITS))
    tf = require_tensorflow("TFRecord shards are written and")
    import numpy as np

    source = open_folders(str(folder), Path(folder).expanduser(), split)
    check_integer("write_tfrecords", "shards", shards, 1)
    if source.count < shards:
        raise ValueError(
            f"write_tfrecords: shards={shards} and there are {source.count} images in "
            f"{folder}; use at most as many shards."
        )
    order = np.random.default_rng(seed).permutation(source.count)
    output, counts = Path(output).expanduser(), {}
    check_folder(output)
    classes = list(source.class_names)
    _records_of(output, classes, folder)
    names = [f"{split}-{index:05d}-of-{shards:05d}" for index in range(shards)]
    there = filter(SHARD.fullmatch, os.listdir(output))
    of_split = {name for name in there if name.startswith(f"{split}-")}
    if others := sorted(of_split - set(names)):
        raise ValueError(
            f"{output} has shards of another set, such as {others[0]}; remove these "
            f"{len(others)}, or give another folder."
        )
    progress = Progress(f"writing {split} shards to {output}", source.count)
    for name, rows in zip(names, np.array_split(order, shards), strict=True):
        with (
            replaced_when_done(output / name) as path,
            tf.io.TFRecordWriter(str(path)) as writer,
        ):
            for row in rows:
                writer.write(_example(tf, source, row).SerializeToString())
                progress.add()
        counts[name] = len(rows)
    # Another process may write another split, and have ended meanwhile.
    with in_turn(output):
        records = _records_of(output, classes, folder)
        facts = {"classes": classes, "records": {**records, **counts}}
        with replaced_when_done(output / FACTS) as fresh:
            fresh.write_text(json.dumps(facts) + "\n")
    return source.count


def _records_of(output, classes, folder):
    """Returns the records of each shard that is there, which must be of these classes.

    Raises:
        ValueError: If they are of others.
    """
    known = read_facts(str(output), remote=False)
    if known.get("classes", classes) != classes:
        raise ValueError(
            f"{output} has shards of {len(known['classes'])} classes that are not the "
            f"{len(classes)} of {folder}; give another folder, or both splits the same "
            "class folders."
        )
    return known.get("records", {})


def _example(tf, source, row):
    """Returns a `tf.train.Example`."""

    def values(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    label = int(source.labels[row])
    number = tf.train.Int64List(value=[label + 1])
    fields = {
        "image/encoded": values(source.image(row)),
        "image/class/label": tf.train.Feature(int64_list=number),
        "image/class/text": values(source.class_names[label].encode()),
        "image/filename": values(os.fsencode(source.image_name(row))),
    }
    return tf.train.Example(features=tf.train.Features(feature=fields))
