"""TFRecord shards in the usual ImageNet schema: finding and counting them."""

import dataclasses
import json
import os
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from widenet_keras.data.sources.records import RecordSource
from widenet_keras.data.splits import SPLITS, part_folders, served
from widenet_keras.utils.plain_errors import first_line
from widenet_keras.utils.progress import Progress

SHARD = re.compile(r"(?P<part>\w+)-(?P<index>\d{5})-of-(?P<shards>\d{5})(\.tfrecord)?")
# What `write_tfrecords` puts beside the shards: class names, records of each shard.
FACTS = "dataset.json"
# ImageNet-1K as it is published: images of a part, by its number of shards.
PUBLISHED = {("train", 1024): 1281167, ("validation", 128): 50000}
# A record is a length, its checksum, the data and their checksum.
_HEADER, _FOOTER = 12, 4


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ShardSource(RecordSource):
    """Images in TFRecord shards.

    Attributes:
        files: Paths of the shards, in order.
    """

    files: tuple[str, ...]

    def tensorflow_reader(self):
        """Returns what reads records of the ImageNet schema."""
        from widenet_keras.data.pipeline.record_readers import ShardReader

        return ShardReader(self)


def opened(data, split: str, data_dir) -> ShardSource | None:
    """Returns the images of shards, or None if there are none; see `SOURCES`.

    Args:
        data: Address of a folder, or path of one with shards, or with a folder of
            shards for each split.
        split: "train", "validation" or "test".
        data_dir: Not for shards.
    """
    name = str(data)
    if "://" in name:
        return open_shards(name, name, split)
    path = Path(name).expanduser()
    parts = part_folders(path)
    for folder in (path, *(parts[part] for part in SPLITS[split] if part in parts)):
        if has_shards(folder):
            return open_shards(name, str(folder), split)
    return None


def has_shards(folder: Path) -> bool:
    """Whether a folder has TFRecord shards in it."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(SHARD.fullmatch(entry.name) for entry in entries)


def open_shards(name: str, folder: str, split: str) -> ShardSource:
    """Returns the images of a folder of shards.

    Args:
        name: What the user called the data.
        folder: Path or address of the folder.
        split: "train", "validation" or "test".

    Raises:
        ValueError: If shards are missing or damaged.
    """
    remote = "://" in folder
    found = {}
    for file in _listing(folder) if remote else sorted(os.listdir(folder)):
        match = SHARD.fullmatch(file)
        if match:
            found.setdefault(match["part"], []).append(match)
    parts = [part for part in SPLITS[split] if part in found]
    if not parts:
        raise ValueError(
            f"{folder} has shards of {', '.join(sorted(found)) or 'nothing'} and none "
            f"of {split!r}; add {SPLITS[split][0]}-00000-of-0000N and so on."
        )
    part = parts[0]
    shards = _all_shards(folder, part, found[part])
    facts = read_facts(folder, remote)
    files = [f"{folder.rstrip('/')}/{shard}" for shard in shards]
    if set(shards) <= set(facts.get("records", ())):
        count = sum(facts["records"][shard] for shard in shards)
    elif remote:
        count = PUBLISHED.get((part, len(shards)))
        if count is None:
            raise ValueError(
                f"{folder} has no {FACTS}, and counting the records of remote shards "
                "would read them whole; write the shards with "
                "widenet_keras.data.write_tfrecords, or copy them here."
            )
    else:
        count = sum(_counts(files))
    if not count:
        raise ValueError(f"The {part} shards of {folder} hold no records.")
    named = "classes" in facts
    classes = facts["classes"] if named else [str(index) for index in range(1, 1001)]
    return ShardSource(
        name=name,
        count=count,
        class_names=tuple(classes),
        description=(
            f"{count} images of {len(classes)} classes in {len(files)} {part} shards "
            f"of {folder}{served(split, part)}"
        ),
        named=named,
        files=tuple(files),
    )


def _listing(address):
    from widenet_keras.data.requirements import require_tensorflow

    tf = require_tensorflow("Remote files are")
    try:
        return sorted(tf.io.gfile.listdir(address))
    except tf.errors.OpError as error:
        reason = first_line(error)
        raise ValueError(f"{address} cannot be listed: {reason}") from None


def _all_shards(folder, part, matches):
    """Returns the names of all shards of a part, of which none may be missing."""
    shards = {int(match["shards"]) for match in matches}
    if len(shards) > 1:
        raise ValueError(
            f"{folder} has {part} shards of {len(shards)} sets "
            f"(of {', '.join(map(str, sorted(shards)))}); keep one."
        )
    names = {int(match["index"]): match.group(0) for match in matches}
    missing = [index for index in range(shards.pop()) if index not in names]
    if missing:
        raise ValueError(
            f"{folder}: {len(missing)} {part} shards are missing, the first is "
            f"{part}-{missing[0]:05d}; copy them there."
        )
    return [names[index] for index in sorted(names)]


def read_facts(folder: str, remote: bool) -> dict:
    """Returns what `write_tfrecords` noted of shards: class names and records.

    Args:
        folder: Path or address of the folder.
        remote: Whether it is an address.

    Returns:
        Dict with "classes", a list of names, and "records", counts by shard; of a
        file that something else wrote, what there is of them.

    Raises:
        ValueError: If the file is not JSON.
    """
    if remote:
        from widenet_keras.data.requirements import require_tensorflow

        gfile = require_tensorflow("Remote files are").io.gfile
        path = f"{folder.rstrip('/')}/{FACTS}"
        text = gfile.GFile(path).read() if gfile.exists(path) else "{}"
    else:
        path = Path(folder) / FACTS
        text = path.read_text() if path.exists() else "{}"
    try:
        facts = json.loads(text)
    except json.JSONDecodeError:
        raise ValueError(f"{path} is not JSON; delete it, or write it anew.") from None
    facts = facts if isinstance(facts, dict) else {}
    classes, records = facts.get("classes"), facts.get("records")
    known = {}
    if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
        known["classes"] = classes
    if isinstance(records, dict) and all(
        isinstance(count, int) for count in records.values()
    ):
        known["records"] = records
    return known


def _counts(files):
    """Returns the number of records of every shard."""
    progress = Progress("counting the records of TFRecord shards", len(files))
    counts = []
    with ThreadPoolExecutor(16) as pool:
        for count in pool.map(count_records, files):
            counts.append(count)
            progress.add()
    return counts


def count_records(file: str) -> int:
    """Returns the number of records of a shard, by the lengths it holds.

    Args:
        file: Path of the shard.

    Raises:
        ValueError: If the shard ends in the middle of a record.
    """
    size, place, count = os.path.getsize(file), 0, 0
    # Without a buffer only the lengths are read.
    with open(file, "rb", buffering=0) as shard:
        while place < size:
            shard.seek(place)
            header = shard.read(_HEADER)
            if len(header) == _HEADER:
                place += _HEADER + struct.unpack("<Q", header[:8])[0] + _FOOTER
            if len(header) < _HEADER or place > size:
                raise ValueError(
                    f"{file} ends in the middle of record {count}; copy it again."
                )
            count += 1
    return count
