"""Files are replaced whole or not at all."""

import errno
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

import keras
import pytest
from conftest import one_line, tiny_model

import widenet_keras
from widenet_keras.utils import files, leftovers, locks
from widenet_keras.utils.files import (
    check_file,
    check_folder,
    check_place,
    replaced_when_done,
)
from widenet_keras.utils.leftovers import remove_leftovers


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_writes_a_file_in_a_new_folder(tmp_path):
    path = tmp_path / "deep" / "er" / "notes.txt"
    with replaced_when_done(path) as fresh:
        fresh.write_text("new")
        assert not path.exists()
        assert fresh.name == path.name
    assert path.read_text() == "new"
    assert names(path.parent) == ["notes.txt"]


def test_takes_a_string_and_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with replaced_when_done("notes.txt") as fresh:
        fresh.write_text("new")
    assert names(tmp_path) == ["notes.txt"]


def test_replaces_a_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with replaced_when_done(path) as fresh:
        fresh.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["notes.txt"]


def test_replaces_a_folder_with_all_that_was_in_it(tmp_path):
    path = tmp_path / "export"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with replaced_when_done(path) as fresh:
        fresh.mkdir()
        (fresh / "new.txt").write_text("new")
        assert names(path) == ["old.txt"]
    assert names(path) == ["new.txt"]
    assert names(tmp_path) == ["export"]


def write_half(path, is_folder):
    """Fails in the middle of writing a file, or a folder of files."""
    with replaced_when_done(path) as fresh:
        if is_folder:
            fresh.mkdir()
        (fresh / "half.txt" if is_folder else fresh).write_text("half")
        raise RuntimeError("crash")


def test_keeps_the_old_file_when_the_block_raises(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="crash"):
        write_half(path, is_folder=False)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["notes.txt"]


def test_keeps_the_old_folder_when_the_block_raises(tmp_path):
    path = tmp_path / "export"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with pytest.raises(RuntimeError, match="crash"):
        write_half(path, is_folder=True)
    assert names(path) == ["old.txt"]
    assert names(tmp_path) == ["export"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_leaves_nothing_new_when_the_block_raises(tmp_path, is_folder):
    with pytest.raises(RuntimeError, match="crash"):
        write_half(tmp_path / "export", is_folder)
    assert names(tmp_path) == []


@pytest.mark.parametrize("is_folder", [False, True])
def test_keeps_the_old_one_when_nothing_was_written(tmp_path, is_folder):
    path = tmp_path / "export"
    if is_folder:
        path.mkdir()
    else:
        path.write_text("old")
    with pytest.raises(FileNotFoundError), replaced_when_done(path):
        pass
    assert path.is_dir() == is_folder
    assert names(tmp_path) == ["export"]


def test_a_file_takes_the_place_of_a_folder(tmp_path):
    path = tmp_path / "model.keras"
    path.mkdir()
    with replaced_when_done(path) as fresh:
        fresh.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["model.keras"]


def test_a_folder_with_something_in_it_is_no_file(tmp_path):
    path = tmp_path / "export"
    path.mkdir()
    (path / "kept.txt").write_text("kept")
    with (
        pytest.raises(ValueError, match="export is a folder; give"),
        replaced_when_done(path) as fresh,
    ):
        fresh.write_text("new")
    model = tiny_model("vit", steps=1)
    for save in (model.save, model.save_weights):
        other = path.with_name("a.keras" if save == model.save else "a.weights.h5")
        other.mkdir()
        with pytest.raises(ValueError, match=r"a\.\w.* is a folder; give the path"):
            save(other)
        other.rmdir()
    assert names(tmp_path) == ["export"]
    assert (path / "kept.txt").read_text() == "kept"


def test_where_a_disk_is_mounted_is_told_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: path.name == "out")
    with pytest.raises(ValueError, match="out is where a disk is mounted"):
        check_place(tmp_path / "out")
    check_folder(tmp_path / "out")


@pytest.mark.parametrize("name", ["../other/a.txt", "..", "/a.txt"])
def test_a_leftover_that_leads_elsewhere_stays(tmp_path, monkeypatch, name):
    left = killed_while_writing(tmp_path / "model.keras", monkeypatch)
    (left / ".widenet-part").write_text(name)
    (left / "old" / "a.txt").parent.mkdir()
    (left / "old" / "a.txt").write_text("theirs")
    before = names(tmp_path)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == before
    assert left.exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no such owners")
def test_a_leftover_of_somebody_else_stays(tmp_path, monkeypatch):
    left = killed_while_writing(tmp_path / "model.keras", monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr(os, "getuid", lambda: os.stat(left).st_uid + 1)
        remove_leftovers(tmp_path)
    assert left.exists()
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_the_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    with replaced_when_done(tmp_path / "notes.txt") as fresh:
        fresh.write_text("new")
    usual = (tmp_path / "usual").stat().st_mode
    assert (tmp_path / "notes.txt").stat().st_mode == usual


def crash_half_way(path, *args, **kwargs):
    """Stands in for Keras' own saving on a full disk."""
    with open(path, "wb") as file:
        file.write(b"half")
    raise OSError("disk full")


@pytest.mark.parametrize(
    ("method", "name"),
    [("save", "model.keras"), ("save_weights", "model.weights.h5")],
)
def test_a_crash_in_saving_keeps_the_old_file(tmp_path, monkeypatch, method, name):
    model = tiny_model("vit", steps=1)
    path = tmp_path / name
    getattr(model, method)(path)
    old = path.read_bytes()
    monkeypatch.setattr(
        keras.Model, method, lambda self, *args, **kwargs: crash_half_way(*args)
    )
    with pytest.raises(OSError, match="disk full"):
        getattr(model, method)(path)
    assert path.read_bytes() == old
    assert names(tmp_path) == [name]


def test_save_replaces_an_older_model(tmp_path):
    path = tmp_path / "model.keras"
    tiny_model("vit", steps=1).save(path)
    tiny_model("vit", steps=2).save(path)
    assert widenet_keras.load_model(path).config.steps == 2
    assert names(tmp_path) == ["model.keras"]


def test_save_weights_can_be_loaded(tmp_path):
    path = tmp_path / "model.weights.h5"
    model = tiny_model("vit", steps=1)
    model.save_weights(path)
    other = tiny_model("vit", steps=1)
    other.set_weights([weight * 0 for weight in model.get_weights()])
    other.load_weights(path)
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        assert (mine == theirs).all()


def test_a_crash_in_a_first_save_leaves_nothing(tmp_path, monkeypatch):
    model = tiny_model("vit", steps=1)
    monkeypatch.setattr(
        keras.Model, "save", lambda self, *args, **kwargs: crash_half_way(*args)
    )
    with pytest.raises(OSError, match="disk full"):
        model.save(tmp_path / "model.keras", overwrite=False)
    assert names(tmp_path) == []


def killed_while_writing(path, monkeypatch):
    """Leaves what a process leaves that is killed while it writes."""

    class Killed(tempfile.TemporaryDirectory):
        def __exit__(self, *_):
            self._finalizer.detach()

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "TemporaryDirectory", Killed)
        with pytest.raises(RuntimeError, match="crash"):
            write_half(path, is_folder=False)
    [left] = path.parent.glob(".widenet-part-*")
    return left


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path, monkeypatch):
    killed_while_writing(tmp_path / "model.keras", monkeypatch)
    mine = [
        ".config",
        ".export.ab3d_f9h",
        ".git.disabled",
        ".ssh.20261101",
        ".widenet-part-of-mine",
        "plain.ab3d_f9h",
    ]
    for name in mine:
        (tmp_path / name / "old").mkdir(parents=True)
        (tmp_path / name / "kept.txt").write_text("kept")
    (tmp_path / ".widenet-part-file").write_text("a file")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([*mine, ".widenet-part-file"])
    for name in mine:
        assert (tmp_path / name / "kept.txt").read_text() == "kept"


@pytest.mark.parametrize("replaced", [False, True])
def test_an_older_folder_that_was_moved_aside_comes_back(
    tmp_path, monkeypatch, replaced
):
    path = tmp_path / "export"
    left = killed_while_writing(path, monkeypatch)
    (left / "old" / "export").mkdir(parents=True)
    (left / "old" / "export" / "model.txt").write_text("old")
    if replaced:
        path.mkdir()
        (path / "model.txt").write_text("new")
    remove_leftovers(tmp_path)
    expected = "new" if replaced else "old"
    assert (path / "model.txt").read_text() == expected
    # Of two whole ones neither is deleted.
    assert left.exists() == replaced


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced_without_a_moment_without_one(
    tmp_path, monkeypatch, exchanges
):
    path = tmp_path / "export"
    path.mkdir()
    (path / "old.txt").write_text("old")
    renamed = []
    real = files.os.replace
    monkeypatch.setattr(
        files.os, "replace", lambda a, b: (renamed.append((a, b)), real(a, b))
    )
    if not exchanges:
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    with replaced_when_done(path) as fresh:
        fresh.mkdir()
        (fresh / "new.txt").write_text("new")
    assert names(path) == ["new.txt"]
    assert names(tmp_path) == ["export"]
    assert bool(renamed) != (exchanges and sys.platform.startswith("linux"))


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_link_is_followed(tmp_path, is_folder):
    real, link = tmp_path / "real", tmp_path / "link"
    if is_folder:
        real.mkdir()
    else:
        real.write_text("old")
    link.symlink_to(real)
    with replaced_when_done(link) as fresh:
        if is_folder:
            fresh.mkdir()
            (fresh / "new.txt").write_text("new")
        else:
            fresh.write_text("new")
    assert link.is_symlink()
    assert (real / "new.txt" if is_folder else real).read_text() == "new"


def test_where_there_are_no_locks_no_open_file_is_renamed(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(leftovers, "try_lock", tried.append)
    with replaced_when_done(tmp_path / "export") as fresh:
        # As on Windows, which would refuse.
        assert [each.closed for each in tried] == [True]
        fresh.write_text("new")
        # What a process that is killed now would leave.
        shutil.copytree(fresh.parent, tmp_path / f"{leftovers.PREFIX}left")
    remove_leftovers(tmp_path)
    assert tried[-1].closed
    assert names(tmp_path) == ["export"]


def test_a_long_name_works_and_a_longer_one_is_refused_before_the_work(tmp_path):
    with replaced_when_done(tmp_path / ("a" * 245)) as fresh:
        fresh.write_text("new")
    for wrong, why in (
        ("a" * 256, "cannot be written: File name too long"),
        ("a" * 245 + "/model.keras", "Not a directory|File exists"),
    ):
        with pytest.raises(ValueError, match=why):
            write_half(tmp_path / wrong, is_folder=False)
    assert names(tmp_path) == ["a" * 245]


@pytest.mark.parametrize("is_folder", [True, False])
def test_all_is_on_the_disk_before_it_takes_a_place(tmp_path, monkeypatch, is_folder):
    path, synced = tmp_path / "export", []
    monkeypatch.setattr(files, "_sync", lambda each: synced.append(Path(each).name))
    with replaced_when_done(path) as fresh:
        if is_folder:
            (fresh / "deep").mkdir(parents=True)
            (fresh / "deep" / "a.txt").write_text("a")
        else:
            fresh.write_text("a")
    inside = ["export", "a.txt", "deep"] if is_folder else ["export"]
    assert sorted(synced[:-1]) == sorted(inside)
    assert synced[-1] == tmp_path.name


@pytest.mark.skipif(locks.fcntl is None, reason="the system has no such locks")
def test_what_is_being_written_is_no_leftover(tmp_path):
    """Another process cleans up where this one writes."""
    with replaced_when_done(tmp_path / "model.keras") as fresh:
        fresh.write_text("new")
        remove_leftovers(tmp_path)
        with replaced_when_done(tmp_path / "other.keras") as other:
            other.write_text("other")
        assert fresh.read_text() == "new"
    assert names(tmp_path) == ["model.keras", "other.keras"]


@pytest.mark.skipif(locks.fcntl is None, reason="the system has no such locks")
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, monkeypatch):
    left = killed_while_writing(tmp_path / "model.keras", monkeypatch)
    with replaced_when_done(tmp_path / "other.keras") as other:
        assert not left.exists()
        other.write_text("other")
    assert names(tmp_path) == ["other.keras"]


def test_without_locks_only_who_is_alone_removes(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "try_lock", lambda file: None)
    left = killed_while_writing(tmp_path / "model.keras", monkeypatch)
    with replaced_when_done(tmp_path / "other.keras") as other:
        other.write_text("other")
    assert left.exists()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["other.keras"]


# What Python, HDF5 and TensorFlow say of a full disk.
FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError("Can't write data (errno = 28, error message = 'No space left on device'"),
    RuntimeError("Unable to flush file's cached data\n No space left on device, buf"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_disk_is_told_in_one_line(tmp_path, error):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with (
        pytest.raises(OSError, match="was not written") as told,
        replaced_when_done(path),
    ):
        raise error
    assert one_line(told).startswith(f"{path} was not written: ")
    assert one_line(told).endswith("What was there before is whole.")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["notes.txt"]


def test_a_disk_that_is_found_full_by_the_sync_keeps_the_old_file(
    tmp_path, monkeypatch
):
    path = tmp_path / "notes.txt"
    path.write_text("old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), replaced_when_done(path) as new:
        new.write_text("new")
    assert path.read_text() == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_keras_meets_a_full_disk(tmp_path):
    import resource

    model, path = tiny_model("vit", steps=1), tmp_path / "model.keras"
    model.save(path)
    old = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(old) // 2, before[1]))
    try:
        with pytest.raises(OSError, match="was not written: File too large") as error:
            model.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    one_line(error)
    assert path.read_bytes() == old
    assert names(tmp_path) == ["model.keras"]


def test_places_are_tried_before_the_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for check, wrong, why in (
        (check_file, "folder", "is a folder; give the path of a file"),
        (check_folder, "file", "is a file; give the path of a folder"),
        (check_file, "file/new.txt", "cannot be written: "),
        (check_folder, "file/new", "cannot be written: "),
        (check_place, "b" * 256, "cannot be written: File name too long"),
    ):
        with pytest.raises(ValueError, match=why) as error:
            check(tmp_path / wrong)
        assert one_line(error).startswith(str(tmp_path / wrong))
    check_file(tmp_path / "file")
    check_file(tmp_path / "new" / "file")
    check_place(tmp_path / "folder")
    check_folder(tmp_path / "made" / "here")
    assert names(tmp_path) == ["file", "folder", "made", "new"]
    assert names(tmp_path / "new") == names(tmp_path / "made" / "here") == []
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="modes are others there")
def test_a_folder_that_is_read_only_is_told(tmp_path, monkeypatch):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(tmp_path, os.W_OK):
        # Root may write there.
        def refused(*args, **kwargs):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(tempfile, "TemporaryDirectory", refused)
    for check in (check_file, check_place):
        with pytest.raises(ValueError, match="cannot be written: Permission denied"):
            check(tmp_path / "new")
    tmp_path.chmod(stat.S_IRWXU)


def test_names_that_are_not_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.txt")
    with replaced_when_done(path) as fresh:
        fresh.write_text("new")
    assert path.read_text() == "new"
