"""Weight files of others: read whole, or refused in one line; nothing of them runs."""

import argparse
import json
import os
import zipfile

import h5py
import numpy as np
import pytest
from conftest import one_line

from widenet_keras.conversions.safetensors_files import write_safetensors
from widenet_keras.conversions.weight_files import read_weights

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "a": RANDOM.normal(size=(3, 4)).astype("float32"),
    "b.c": RANDOM.normal(size=5).astype("float32"),
    "empty": np.zeros((0, 2), "float32"),
}


def assert_read(path, arrays=ARRAYS):
    found = read_weights(path).arrays
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable


def refused(path, word):
    """Checks that a file is refused in a line that has a word."""
    with pytest.raises((ValueError, OSError), match=word) as error:
        read_weights(path)
    assert len(one_line(error)) < 500


def safetensors(path, header, data=b""):
    """Writes a safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


# --- What is read


def test_safetensors(tmp_path):
    write_safetensors(ARRAYS, tmp_path / "a.safetensors")
    assert_read(tmp_path / "a.safetensors")


def test_halves_become_floats(tmp_path):
    values = np.array([1.5, -2.0, 3.0e-5], "float32")
    bits = (values.view("uint32") >> 16).astype("<u2").tobytes()
    header = {
        "half": {"dtype": "F16", "shape": [3], "data_offsets": [0, 6]},
        "brain": {"dtype": "BF16", "shape": [3], "data_offsets": [6, 12]},
        "double": {"dtype": "F64", "shape": [], "data_offsets": [12, 20]},
        "__metadata__": {"format": "pt"},
    }
    half, double = values.astype("<f2").tobytes(), np.float64(0.1).tobytes()
    safetensors(tmp_path / "a.safetensors", header, half + bits + double)
    found = read_weights(tmp_path / "a.safetensors").arrays
    np.testing.assert_array_equal(found["half"], values.astype("float16"))
    np.testing.assert_allclose(found["brain"], values, rtol=1e-2)
    assert {name: each.dtype.name for name, each in found.items()} == {
        "half": "float32",
        "brain": "float32",
        "double": "float64",
    }


def test_files_of_several_parts(tmp_path):
    names = list(ARRAYS)
    for number, part in enumerate((names[:1], names[1:])):
        arrays = {name: ARRAYS[name] for name in part}
        write_safetensors(arrays, tmp_path / f"part{number}.safetensors")
    places = {name: f"part{int(name != names[0])}.safetensors" for name in names}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert_read(tmp_path)
    for wrong, word in (
        ({"a": "../part0.safetensors"}, "no weight_map"),
        ({"a": "absent.safetensors"}, "not there"),
        ({"z": "part0.safetensors"}, "z, which no file has"),
        ([], "no weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": wrong}))
        refused(tmp_path, word)


def test_arrays_of_numpy(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **ARRAYS, **{"params/x": np.ones(2)})
    assert_read(tmp_path / "a.npz", {**ARRAYS, "params/x": np.ones(2)})
    np.savez(tmp_path / "a.npz", x=np.array([{}], object))
    refused(tmp_path / "a.npz", "a.npz")


def test_hdf5_with_its_task(tmp_path):
    for name in ("model", "task"):
        with h5py.File(tmp_path / f"{name}.weights.h5", "w") as file:
            group = file.create_group("layers/dense/vars")
            group.attrs["name"] = f"of {name}"
            group["0"] = ARRAYS["a"]
    (tmp_path / "config.json").write_text('{"class_name": "ViTBackbone"}')
    (tmp_path / "unknown.json").write_text("no JSON")
    found = read_weights(tmp_path)
    path = "layers/dense/vars"
    assert found.attributes == {path: "of model", f"task/{path}": "of task"}
    assert found.arrays.keys() == {f"{path}/0", f"task/{path}/0"}
    assert found.companions == {"config.json": {"class_name": "ViTBackbone"}}
    with h5py.File(tmp_path / "model.weights.h5", "a") as file:
        file["link"] = h5py.ExternalLink("/etc/hostname", "/x")
    refused(tmp_path, "somewhere else")


# --- PyTorch


def checkpoint(torch):
    """Returns tensors of every kind that a state dict has."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(4, 3, generator=generator)
    return {
        "plain": draw,
        "half": draw.half(),
        "brain": draw.bfloat16(),
        "turned": draw.t(),
        "part": draw.flatten()[3:7],
        "count": torch.tensor(3),
        "parameter": torch.nn.Parameter(draw),
        "empty": draw[:0],
    }


def test_checkpoints(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = checkpoint(torch)
    expected = {
        name: (each.float() if each.element_size() == 2 else each).detach().numpy()
        for name, each in tensors.items()
    }
    whole = {
        "model": tensors,
        "args": argparse.Namespace(lr=0.1, betas=[1, (2, "x")]),
        "optimizer": {"state": {0: {"m": torch.zeros(3)}}},
        "epoch": 3,
    }
    teacher = {"student": {"plain": torch.zeros(1)}, "teacher": tensors}
    for content in (tensors, whole, teacher):
        torch.save(content, tmp_path / "a.pth")
        assert_read(tmp_path / "a.pth", expected)
    torch.save(whole, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert_read(tmp_path / "a.pth", expected)


class Runs:
    """What runs a program where a pickle is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_checkpoints_with_code(tmp_path):
    torch = pytest.importorskip("torch")
    ran = tmp_path / "ran"
    for new in (True, False):
        options = {"_use_new_zipfile_serialization": new}
        torch.save({"a": torch.zeros(2), "b": Runs(ran)}, tmp_path / "a.pth", **options)
        refused(tmp_path / "a.pth", "a.pth is damaged or not a PyTorch checkpoint")
        torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth", **options)
        refused(tmp_path / "a.pth", "Linear" if new else "more than tensors")
    assert not ran.exists()
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"a/{name}", b"")
    refused(tmp_path / "a.pt", "TorchScript")
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "no dict of tensors")


def test_a_tensor_of_more_numbers_than_its_storage(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.zeros(77)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    [name] = [each for each in members if each.endswith("data.pkl")]
    # 77 as one byte; 2^40 as a long number.
    huge = b"\x8a\x06" + (2**40).to_bytes(6, "little")
    pickled = members[name]
    for content in (
        pickled.replace(b"K\x4d", huge),
        pickled[::-1].replace(b"\x4dK", huge[::-1], 1)[::-1],
        pickled.replace(b"K\x4d", b"K\x4e"),
    ):
        with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
            for each, data in {**members, name: content}.items():
                archive.writestr(each, data)
        refused(tmp_path / "b.pth", "storage")


# --- What is no such file


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 8]}}, "takes"),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, "takes 12"),
        ({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, "shape of a"),
        ({"a": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}, "F8_E4M3"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}, "ends at 0"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "end at 4"),
        ({"a": {"shape": [2], "data_offsets": [0, 8]}}, "no dtype"),
        (
            {
                "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            },
            "ends at 8",
        ),
        (b'{"a": {}, "a": {}}', "a is in it twice"),
        (b"[]", "no dict"),
        (b"{", "damaged"),
        ({"\x1b[31mx\n": 3}, r"x1b\[31mx"),
    ],
)
def test_headers_that_do_not_fit(header, word, tmp_path):
    safetensors(tmp_path / "a.safetensors", header, bytes(8))
    refused(tmp_path / "a.safetensors", word)


def test_a_header_longer_than_the_file(tmp_path):
    (tmp_path / "a.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    refused(tmp_path / "a.safetensors", "a header of")


def test_what_is_not_there(tmp_path):
    refused(tmp_path / "absent.bin", "does not exist")
    refused(tmp_path, "no files of weights")
    (tmp_path / "a.tflite").write_bytes(b"")
    refused(tmp_path / "a.tflite", "no file of weights by its name")
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, **ARRAYS)
    refused(tmp_path, "has 2 files")
    (tmp_path / "config.json").write_text("[1]")
    refused(tmp_path / "a.npz", "config.json is damaged or not a JSON object")


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.weights.h5", "a.pth"])
def test_damaged_files(name, count, tmp_path):
    path = tmp_path / name
    if name == "a.safetensors":
        write_safetensors(ARRAYS, path)
    elif name == "a.npz":
        np.savez_compressed(path, **ARRAYS)
    elif name == "a.pth":
        torch = pytest.importorskip("torch")
        torch.save(checkpoint(torch), path)
    else:
        with h5py.File(path, "w") as file:
            file["layers/dense/vars/0"] = ARRAYS["a"]
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for number in range(count):
        content = bytearray(whole)
        if number % 2:
            content = content[: random.integers(len(whole))]
        else:
            for place in random.integers(len(whole), size=3):
                content[place] ^= 1 << random.integers(8)
        path.write_bytes(content)
        lines = []
        try:
            read_weights(path)
        except (ValueError, OSError) as error:
            lines = str(error).split("\n")
        assert len(lines) <= 1, lines


# --- The hub


def cache(folder, files, name="models--owner--name"):
    """Makes a cache of the hub by hand."""
    commit = "0123456789" * 4
    snapshot = folder / name / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (folder / name / "refs").mkdir()
    (folder / name / "refs" / "main").write_text(commit)
    for file, write in files.items():
        write(snapshot / file)
    return snapshot


def test_a_cache_of_the_hub(tmp_path):
    pytest.importorskip("huggingface_hub")
    where = {"cache_dir": tmp_path, "local_files_only": True}
    snapshot = cache(
        tmp_path,
        {
            "model.safetensors": lambda path: write_safetensors(ARRAYS, path),
            "config.json": lambda path: path.write_text('{"architecture": "vit"}'),
        },
    )
    found = read_weights("hub:owner/name", **where)
    assert found.arrays.keys() == ARRAYS.keys()
    assert found.companions["config.json"] == {"architecture": "vit"}
    assert found.origin == "owner/name (model.safetensors)"
    (snapshot / "model.safetensors").unlink()
    for source, word in (
        ("hub:owner/name", "no weight file in the cache"),
        ("hub:owner/other", "cannot be taken from the hub"),
        ("hub:owner/name@old", "cannot be taken from the hub"),
    ):
        with pytest.raises(OSError, match=word) as error:
            read_weights(source, **where)
        one_line(error)


def test_names_of_the_hub():
    for source in ("hub:name", "hub:../x/y", "hub:a/b c"):
        refused(source, "names nothing on the hub")
