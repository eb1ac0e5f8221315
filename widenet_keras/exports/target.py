"""Where an export may be written, before anything is made or replaced."""

from widenet_keras.inference.checksums import MANIFEST
from widenet_keras.inference.manifest import read_manifest

_SUFFIXES = {"litert": ".tflite", "onnx": ".onnx", "keras": ".keras"}


def check_target(path, format):
    """Raises `ValueError` unless an export of a format can stand at a path.

    A folder is replaced only if it is an earlier export, or empty.

    Args:
        path: `Path` of the export.
        format: Its format.
    """
    suffix = _SUFFIXES.get(format)
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
    if any(path.iterdir()) and not _is_export(path / MANIFEST):
        raise ValueError(
            f"export: {path} is a folder of something else, which would be lost; give "
            "the path of an earlier export, or of a folder that does not exist."
        )


def _is_export(path):
    """Whether a file is the manifest of an export."""
    try:
        read_manifest(path.read_text(encoding="utf-8"), path)
    except (ValueError, OSError):
        return False
    return True
