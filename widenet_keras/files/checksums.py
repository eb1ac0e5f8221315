"""Checksums, so that no loader of another library ever meets a damaged file."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

from widenet_keras.files.archives import check_members
from widenet_keras.files.manifest import damaged, labels_content, read_manifest

MANIFEST = "manifest.json"
LABELS = "labels.txt"
# A LiteRT file ends with a zip, and an ONNX file with one entry of metadata.
_DIGEST_KEY = b"sha256"
_DIGEST_LENGTH = 64
# The digest that the manifest of a folder has of itself.
_OWN = "manifest_sha256"
GRAPH = "saved_model.pb"


def seal_folder(folder, manifest):
    """Writes the manifest of a folder with the digest of each file and its own."""
    folder = Path(folder)
    files = {
        each.relative_to(folder).as_posix(): _digest(each.read_bytes())
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }
    manifest = {**manifest, "sha256": files}
    text = json.dumps({**manifest, _OWN: _own_digest(manifest)}, indent=2)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def open_folder(folder):
    """Returns the manifest of a folder whose files are as they were sealed.

    Raises:
        ValueError: If a file is missing or changed.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / "model.weights.h5").is_file():
            raise ValueError(
                f"{folder} is a preset and no export; load it with "
                "ImageClassifier.from_preset()."
            )
        raise damaged(folder, f"it has no {MANIFEST}")
    manifest = read_manifest(_text(path.read_bytes(), path), path)
    if _OWN not in manifest:
        raise damaged(folder, f"{MANIFEST} has no checksum of its own")
    if manifest.pop(_OWN) != _own_digest(manifest):
        raise damaged(folder, f"{MANIFEST} has changed")
    files = manifest.get("sha256")
    if not isinstance(files, dict) or GRAPH not in files:
        raise damaged(folder, f"{MANIFEST} has no checksums")
    for name, digest in files.items():
        file = folder / name
        outside = Path(name).is_absolute() or ".." in Path(name).parts
        if outside or not file.is_file():
            raise damaged(folder, f"{name} is missing")
        if _digest(file.read_bytes()) != digest:
            raise damaged(folder, f"{name} has changed")
    return manifest


def sealed_with_zip(content, manifest):
    """Returns bytes with a zip of manifest and labels behind them.

    Args:
        content: Bytes of a format that ignores what follows, such as LiteRT.
        manifest: Dict.
    """
    packed = io.BytesIO()
    text = json.dumps({**manifest, "sha256": _digest(content)}, indent=2)
    with zipfile.ZipFile(packed, "w") as archive:
        # With a fixed date, the same model gives the same file.
        labels = labels_content(manifest["class_names"])
        for name, value in ((MANIFEST, text), (LABELS, labels)):
            archive.writestr(zipfile.ZipInfo(name), value)
    return content + packed.getvalue()


def open_with_zip(path):
    """Returns (content, manifest) of a file that `sealed_with_zip` made.

    Raises:
        ValueError: If the file is damaged.
    """
    whole = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            check_members(archive)
            start = min(each.header_offset for each in archive.infolist())
            text = archive.read(MANIFEST)
    # What zipfile raises on bytes that are no zip is not all BadZipFile.
    except Exception as error:
        raise damaged(path, f"no manifest at its end: {error}") from error
    manifest = read_manifest(_text(text, path), path)
    if manifest.get("sha256") != _digest(whole[:start]):
        raise damaged(path, "its bytes have changed")
    return whole[:start], manifest


def sealed_onnx(content):
    """Returns a serialised ONNX model with its digest as a last metadata entry.

    Fields of a serialised message may follow in any order, so that bytes can be
    checked before anything parses them.
    """
    return content + _onnx_entry(_digest(content))


def check_onnx(path):
    """Returns the bytes of a file that `sealed_onnx` made.

    Raises:
        ValueError: If the file is damaged.
    """
    whole = Path(path).read_bytes()
    length = len(_onnx_entry("0" * _DIGEST_LENGTH))
    content = whole[:-length]
    if whole[-length:] != _onnx_entry(_digest(content)):
        raise damaged(path, "its bytes have changed")
    return whole


def _onnx_entry(digest):
    """ModelProto.metadata_props is field 14, its key field 1 and its value field 2."""
    value = digest.encode()
    entry = b"\x0a" + bytes([len(_DIGEST_KEY)]) + _DIGEST_KEY
    entry += b"\x12" + bytes([len(value)]) + value
    return b"\x72" + bytes([len(entry)]) + entry


def _own_digest(manifest):
    """Returns the digest of a manifest, however its text is laid out."""
    return _digest(json.dumps(manifest, sort_keys=True).encode())


def _digest(content):
    return hashlib.sha256(content).hexdigest()


def _text(content, path):
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise damaged(path, error) from error
