"""Folders of the Hugging Face hub, fetched or found in its cache."""

import re
from pathlib import Path

from widenet_keras.utils.install import install_command
from widenet_keras.utils.plain_errors import first_line

_PREFIXES = ("hub:", "hf://")
_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def hub_name(source) -> str | None:
    """Returns "owner/name[@revision]" of a source on the hub, None for a path.

    Raises:
        ValueError: If it says that it is on the hub and names nothing there.
    """
    text = str(source)
    for prefix in _PREFIXES:
        if text.startswith(prefix):
            name = text.removeprefix(prefix)
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{text!r} names nothing on the hub; give hub:owner/name, or "
                    "hub:owner/name@revision."
                )
            return name
    return None


def hub_folder(name, weights, revision=None, cache_dir=None, local_files_only=False):
    """Returns the folder of a repository, with its JSON files and one weight file.

    Args:
        name: "owner/name[@revision]".
        weights: Names of weight files, of which the first that is there is fetched.
        revision: Branch, tag or commit; that of the name comes first.
        cache_dir: Where files are kept; None for the usual place.
        local_files_only: Whether nothing may be fetched.

    Raises:
        ImportError: If `huggingface_hub` is not installed.
        OSError: If it cannot be fetched, or is not in the cache; one line says why.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise ImportError(
            "Weights of the hub need huggingface_hub; install it with "
            f"{install_command('hub')}."
        ) from None
    repository, _, after = name.partition("@")
    how = {
        "revision": after or revision,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
    }

    def fetched(patterns):
        found = huggingface_hub.snapshot_download(
            repository, allow_patterns=patterns, **how
        )
        return Path(found)

    try:
        folder = fetched(["*.json"])
        wanted = next((each for each in weights if (folder / each).exists()), None)
        offline = local_files_only or huggingface_hub.constants.HF_HUB_OFFLINE
        if not offline:
            there = huggingface_hub.list_repo_files(
                repository, revision=how["revision"]
            )
            wanted = next((each for each in weights if each in there), None)
            others = [each for each in there if each.endswith((".npz", ".safetensors"))]
            wanted = wanted or (others[0] if len(others) == 1 else None)
            if wanted:
                stem = wanted.removesuffix(".index.json")
                parts = f"{stem.rpartition('.')[0]}-*"
                patterns = [wanted, "*.json", "task.weights.h5"]
                folder = fetched([*patterns, *([parts] if stem != wanted else [])])
    # Of many kinds, all of which say in their first line what is wrong.
    except Exception as error:
        raise OSError(
            f"hub:{name} cannot be taken from the hub ({first_line(error)}); check "
            "name and network, or fetch the files by hand and give their folder."
        ) from None
    if wanted is None and not any(folder.glob("*.npz")):
        raise OSError(
            f"hub:{name} has no weight file {'in the cache ' if offline else ''}"
            f"({', '.join(weights)}); fetch it by hand and give its path."
        )
    return folder
