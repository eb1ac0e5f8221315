"""Data sets of TensorFlow Datasets (TFDS), prepared on disk."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from widenet_keras.data.requirements import require_tensorflow
from widenet_keras.data.source import Source
from widenet_keras.data.sources.records import RecordSource
from widenet_keras.data.sources.tfrecords import ShardSource
from widenet_keras.data.splits import SPLITS, served
from widenet_keras.utils.install import install_command
from widenet_keras.utils.plain_errors import first_line

# What TFDS makes ImageNet from: for the licence everybody fetches these alone.
ARCHIVES = {
    "imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BuilderSource(RecordSource):
    """Images of a TFDS builder that are not in TFRecord shards.

    Attributes:
        dataset: `tf.data.Dataset` of dicts, images as they are encoded.
        image_key: Name of the image in these.
        label_key: Name of the label.
    """

    dataset: Any
    image_key: str
    label_key: str

    def tensorflow_reader(self):
        """Returns what reads the data set."""
        from widenet_keras.data.pipeline.record_readers import BuilderReader

        return BuilderReader(self)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BuilderShardSource(ShardSource):
    """Images of a TFDS builder in TFRecord shards.

    Attributes:
        features: What TFDS reads a record with.
        image_key: Name of the image in a record.
        label_key: Name of the label.
    """

    features: Any
    image_key: str
    label_key: str

    def tensorflow_reader(self):
        """Returns what reads records as TFDS writes them."""
        from widenet_keras.data.pipeline.record_readers import BuilderShardReader

        return BuilderShardReader(self)


def opened(data, split: str, data_dir: str | os.PathLike | None) -> Source | None:
    """Returns the images of TFDS, or None if they are of something else.

    Args:
        data: A builder, or "tfds:NAME".
        split: "train", "validation" or "test".
        data_dir: Where TFDS keeps its data sets; None for its default.
    """
    if hasattr(data, "as_dataset"):
        return source_of_builder(f"tfds:{data.name}", data, split)
    if str(data).startswith("tfds:"):
        return open_builder(str(data), split, data_dir)
    return None


def open_builder(name: str, split: str, data_dir: str | os.PathLike | None) -> Source:
    """Returns the images of a data set that TFDS has prepared; downloads nothing.

    Args:
        name: "tfds:NAME", NAME as `tfds.builder` takes it.
        split: "train", "validation" or "test".
        data_dir: Where TFDS keeps its data sets; None for its default.

    Raises:
        ValueError: If there is no such data set, it is not prepared, or it is not
            for image classification.
        ImportError: If tensorflow-datasets is not installed.
    """
    require_tensorflow("TFDS data sets are")
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise ImportError(
            f"{name}: tensorflow-datasets is not installed; run "
            f"{install_command('tfds')}."
        ) from None
    short = name.removeprefix("tfds:")
    try:
        builder = tfds.builder(short, data_dir=data_dir and Path(data_dir).expanduser())
    except (
        tfds.core.DatasetNotFoundError,
        AssertionError,
        ImportError,
        ValueError,
    ) as error:
        reason = first_line(error)
        raise ValueError(f"{name} is not a data set of TFDS ({reason}).") from None
    return source_of_builder(name, builder, split)


def source_of_builder(name: str, builder, split: str) -> Source:
    """Returns the images of a TFDS builder.

    Args:
        name: What to call it.
        builder: A `tfds.core.DatasetBuilder`, prepared.
        split: "train", "validation" or "test".

    Raises:
        ValueError: If it is not prepared, or is not for image classification.
    """
    import tensorflow_datasets as tfds

    image, label = _features(name, builder.info.features, tfds)
    part = _part(name, builder, split)
    shared = {
        "name": name,
        "image_key": image,
        "label_key": label,
        "class_names": tuple(builder.info.features[label].names),
    }
    shards = _shards(name, builder, part)
    if shards is not None:
        count = builder.info.splits[part].num_examples
        more = {"files": shards, "features": builder.info.features}
        source = BuilderShardSource
    else:
        dataset = _dataset(name, builder, part, image, tfds)
        count = int(dataset.cardinality())
        source, more = BuilderSource, {"dataset": dataset}
    if count <= 0:
        raise ValueError(f"{name}: {part} holds no images, or TFDS cannot count them.")
    description = (
        f"{count} images of {len(shared['class_names'])} classes in {part} of "
        f"{builder.info.full_name} in {builder.data_dir}{served(split, part)}"
    )
    return source(**shared, **more, count=count, description=description)


def _features(name, features, tfds):
    """Returns the names of the image and of the label."""
    images = [k for k, f in features.items() if isinstance(f, tfds.features.Image)]
    labels = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    if len(images) != 1 or len(labels) != 1:
        raise ValueError(
            f"{name} has {len(images)} images and {len(labels)} class labels per "
            "example and must have one of each; give one for image classification."
        )
    return images[0], labels[0]


def _part(name, builder, split):
    """Returns the name of the part that serves as a split."""
    known = list(builder.info.splits)
    parts = [part for part in SPLITS[split] if part in known]
    if known and not parts:
        raise ValueError(
            f"{name} has {', '.join(sorted(known))} and no part for {split!r}."
        )
    return parts[0] if parts else split


def _shards(name, builder, part):
    """Returns the TFRecord files of a part, or None if it is not in such files."""
    file_format = getattr(builder.info.file_format, "value", None)
    if file_format != "tfrecord" or part not in builder.info.splits:
        return None
    info = builder.info.splits[part]
    files = tuple(str(file) for file in getattr(info, "filepaths", ()))
    missing = [file for file in files if not ("://" in file or Path(file).exists())]
    if missing and len(missing) < len(files):
        raise ValueError(
            f"{name}: {len(missing)} of {len(files)} files of {part} are missing, the "
            f"first is {missing[0]}; copy them there, or prepare the data set anew."
        )
    return files if files and not missing else None


def _dataset(name, builder, part, image, tfds):
    """Returns the examples in their order, with encoded images."""
    try:
        return builder.as_dataset(
            split=part,
            shuffle_files=False,
            decoders={image: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(try_autocache=False),
        )
    except (AssertionError, FileNotFoundError, ValueError):
        raise ValueError(_not_prepared(name, builder)) from None


def _not_prepared(name, builder):
    """Returns the line that says how to prepare a data set."""
    # The folder of a builder is data_dir/name[/config]/version.
    root = Path(builder.data_dir).parents[builder.info.full_name.count("/")]
    build = f"tfds build {name.removeprefix('tfds:')} --data_dir {root}"
    folder = root / "downloads" / "manual"
    archives = ARCHIVES.get(builder.name, ())
    missing = [file for file in archives if not (folder / file).exists()]
    if missing:
        return (
            f"{name} is not prepared in {root}, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing from {folder}; get "
            f"{'it' if len(missing) == 1 else 'them'} from image-net.org, put "
            f"{'it' if len(missing) == 1 else 'them'} there, then run {build}."
        )
    return f"{name} is not prepared in {root}; run {build}."
