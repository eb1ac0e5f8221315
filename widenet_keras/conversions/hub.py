"""Weights from the Hugging Face Hub, or from its cache on this machine."""

import importlib
import re
from pathlib import Path

from widenet_keras.conversions.weight_folders import (
    COMPANIONS,
    INDEXES,
    files_of,
    first_weights,
)
from widenet_keras.utils.install import install_command, is_installed
from widenet_keras.utils.plain_errors import first_line
from widenet_keras.utils.printable import printable

_PREFIXES = ("hub:", "hf://")
_ID = re.compile(r"[A-Za-z0-9_.-]{1,96}/[A-Za-z0-9_.-]{1,96}")
_REVISION = re.compile(r"[A-Za-z0-9_./-]{1,200}")


def is_on_hub(source) -> bool:
    """Returns whether a source names a repository: "hub:owner/name[@revision]"."""
    return isinstance(source, str) and source.startswith(_PREFIXES)


def fetched(
    source: str, revision: str | None, cache_dir, local_files_only: bool
) -> tuple[Path, str, tuple[str, ...]]:
    """Returns the folder of a repository's snapshot and the name of its weights there.

    The third is what was assumed, short phrases: where the files of a repository cannot
    be listed, those in the cache serve.

    Small files come first and tell which of weights there are; of these one is fetched.

    Args:
        source: "hub:owner/name", with "@revision" where it is not the main one.
        revision: The same, apart; None for what the source says.
        cache_dir: Folder of the cache; None for the usual one.
        local_files_only: Whether only the cache is looked at.

    Raises:
        ValueError: If there is no such repository, or it cannot be fetched.
        ImportError: If huggingface_hub is not installed.
    """
    name, revision = _parsed(source, revision)
    if not is_installed("huggingface_hub"):
        raise ImportError(
            f"{source} needs huggingface_hub, which is not installed; run "
            f"{install_command('hub')}."
        )
    hub = importlib.import_module("huggingface_hub")
    options = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    try:
        folder = hub.snapshot_download(
            name, revision=revision, allow_patterns=[*COMPANIONS, *INDEXES], **options
        )
        folder = Path(folder)
        # Of one commit, whatever is changed there meanwhile.
        commit = folder.name
        names, reason = _names(hub, name, commit, folder, local_files_only)
    except Exception as error:
        raise _told(hub, source, name, error) from None
    where = f"{source} (in {folder})"
    if reason:
        where += f", whose files cannot be listed on the hub ({reason}),"
    first = first_weights(names, where)
    files = files_of(folder, first, names)
    try:
        for each in files:
            hub.hf_hub_download(name, each, revision=commit, **options)
    except Exception as error:
        raise _told(hub, source, name, error) from None
    assumed = f"that its files on the hub are those in the cache ({reason})"
    return folder, first, (assumed,) if reason else ()


def _parsed(source, revision):
    """Returns the repository and the revision of a source."""
    prefix = next(each for each in _PREFIXES if source.startswith(each))
    name, at, said = source.removeprefix(prefix).partition("@")
    whole = _ID.fullmatch(name) and not re.search(r"--|\.\.|/[-.]|^[-.]|[-.]$", name)
    if not whole or (at and not _REVISION.fullmatch(said)):
        raise ValueError(
            f"{printable(source)} names no repository; give hub:owner/name, or "
            "hub:owner/name@revision."
        )
    if at and revision not in (None, said):
        raise ValueError(
            f"{source} and revision={revision!r} differ; give one of them."
        )
    return name, said if at else revision


def _names(hub, name, commit, folder, local_files_only):
    """Returns the names of the files there are, and why they are those in the cache."""
    reason = ""
    if not local_files_only:
        try:
            return hub.list_repo_files(name, revision=commit), reason
        except hub.utils.RepositoryNotFoundError:
            raise
        except Exception as error:
            # Not reached: then what was fetched before serves.
            reason = printable(first_line(error))
    return [each.name for each in folder.iterdir()], reason


def _told(hub, source, name, error):
    """Returns the line about what huggingface_hub raised."""
    errors = hub.utils
    if isinstance(error, errors.GatedRepoError):
        return ValueError(
            f"{source} is gated; accept its terms on https://huggingface.co/{name} and "
            "log in with huggingface_hub.login()."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ValueError(f"{source} has no such revision; see its page for them.")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return ValueError(
            f"{source} is not in the cache of this machine and was not fetched; try "
            "again with a network, and without local_files_only or HF_HUB_OFFLINE."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ValueError(
            f"{source} does not exist, or is private; see "
            f"https://huggingface.co/{name}, and log in with "
            "huggingface_hub.login() if it is yours."
        )
    reason = printable(first_line(error))
    return ValueError(f"{source} cannot be fetched ({reason}); try again later.")
