"""Where an export may be written, before anything is made or replaced."""

from widenet_keras.exports.options import SUFFIXES
from widenet_keras.files.checksums import MANIFEST
from widenet_keras.files.manifest import read_manifest


def check_target(path, format):
    """Raises `ValueError` unless an export of a format can stand at a path.

    A folder is replaced only if it is an earlier export, or empty.

    Args:
        path: `Path` of the export.
        format: Its format.
    """
    suffix = SUFFIXES[format]
    if suffix and path.suffix != suffix:
        raise ValueError(
            f"export: {path} must end in {suffix} for format={format!r}; rename it."
        )
    if suffix and path.is_dir():
        raise ValueError(f"export: {path} is a folder; give the path of a file.")
    if suffix or not path.exists():
        return
    if not path.is_dir():
        raise ValueError(
            f"export: {path} is a file and format={format!r} writes a folder; give "
            "another path."
        )
    others = sorted(_files(path) - _exported(path))
    if others:
        raise ValueError(
            f"export: {path} is a folder with {others[0]}, which no export wrote and "
            "which would be lost; give the path of an earlier export, or of a folder "
            "that does not exist."
        )


def _files(folder):
    """Returns the names of all files in a folder and below."""
    return {
        each.relative_to(folder).as_posix()
        for each in folder.rglob("*")
        if not each.is_dir()
    }


def _exported(folder):
    """Returns the names of the files of an earlier export, none if it is none."""
    path = folder / MANIFEST
    try:
        manifest = read_manifest(path.read_text(encoding="utf-8"), path)
    except (ValueError, OSError):
        return set()
    return {MANIFEST, *manifest.get("sha256", ())}
