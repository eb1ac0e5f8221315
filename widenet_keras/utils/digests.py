"""What a file holds as a few digits that tell it from every other one."""

import hashlib
import os


def sha256_of(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file, which is read piece by piece, in hexadecimal.

    Args:
        path: The file.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
