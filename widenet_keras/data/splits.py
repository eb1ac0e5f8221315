"""The parts of data, such as those to train and to test on, and their names."""

import os
from pathlib import Path

# Names that a part of the data goes by, in order of preference.
SPLITS = {
    "train": ("train",),
    "validation": ("validation", "val", "test"),
    "test": ("test",),
}


def part_folders(path: Path) -> dict[str, Path]:
    """Returns the folders inside a folder that are named for parts of the data.

    Args:
        path: The folder.

    Returns:
        Dict from the name of a part, such as "train", to the folder, such as `Train/`.

    Raises:
        ValueError: If two are named for the same part.
    """
    known = {name for names in SPLITS.values() for name in names}
    found = {}
    names = os.listdir(path) if path.is_dir() else []
    for name in sorted(name for name in names if name.lower() in known):
        if not (path / name).is_dir():
            continue
        twin = found.setdefault(name.lower(), path / name)
        if twin.name != name:
            raise ValueError(
                f"{path} has {twin.name} and {name}, and only one can be the part "
                f"{name.lower()!r}; rename or join them."
            )
    return found


def served(split: str, part: str) -> str:
    """Returns what to say where another part of the data serves as a split."""
    same = part == split or (split, part) == ("validation", "val")
    return "" if same else f" (serves as {split})"
