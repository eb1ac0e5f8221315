"""Weight files of other libraries: what is in them, and those that are refused."""

import argparse
import builtins
import collections
import io
import json
import os
import pickle
import socket
import struct
import zipfile

import h5py
import numpy as np
import pytest
from conftest import one_line, slow

from widenet_keras.conversions.reading import reading
from widenet_keras.conversions.weight_files import read_weights

torch = pytest.importorskip("torch")


@pytest.fixture
def arrays(rng):
    return {
        "a.weight": rng.normal(size=(3, 4)).astype("float32"),
        "a.bias": rng.normal(size=()).astype("float64"),
        "half": rng.normal(size=(2, 3)).astype("float16"),
        "count": np.arange(5),
        "none": np.zeros((0, 3), "float32"),
    }


def safetensors(path, arrays, **header):
    """Writes a file; entries of `header` take the place of those that are right."""
    names = {"f4": "F32", "f8": "F64", "f2": "F16", "i8": "I64", "V2": "BF16"}
    entries, content = {}, b""
    for name, array in arrays.items():
        begin = len(content)
        content += array.tobytes()
        entries[name] = {
            "dtype": names[array.dtype.str[1:]],
            "shape": list(array.shape),
            "data_offsets": [begin, len(content)],
        }
    entries = {"__metadata__": {"format": "pt"}, **entries, **header}
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


def npz(path, arrays):
    np.savez(path, **arrays)
    return path


def hdf5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[f"layers/dense/vars/{name}"] = array
        file["layers/dense/vars"].attrs["name"] = "predictions"
    return path


def checkpoint(path, tree, **options):
    torch.save(tree, path, **options)
    return path


def tensors(arrays):
    return {name: torch.tensor(array) for name, array in arrays.items()}


def old(path, arrays):
    return checkpoint(path, tensors(arrays), _use_new_zipfile_serialization=False)


WRITERS = {
    "m.safetensors": safetensors,
    "m.npz": npz,
    "m.weights.h5": hdf5,
    "m.bin": lambda path, arrays: checkpoint(path, tensors(arrays)),
    "m.pth": old,
}


def check(found, arrays):
    assert sorted(found) == sorted(arrays)
    for name, array in arrays.items():
        right = array.astype("float32") if array.dtype == np.float16 else array
        assert found[name].dtype == right.dtype, name
        assert found[name].flags.aligned
        assert found[name].flags.writeable
        np.testing.assert_array_equal(found[name], right)


def refused(source, match, **options):
    with pytest.raises(ValueError, match=match) as error:
        read_weights(source, **options)
    line = one_line(error)
    assert len(line) < 900
    return line


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_written_is_read(name, arrays, tmp_path):
    path = WRITERS[name](tmp_path / name, arrays)
    before = path.read_bytes()
    found = read_weights(path)
    assert found.origin == str(path)
    prefix = "layers/dense/vars/" if name.endswith("h5") else ""
    check(found.arrays, {prefix + key: value for key, value in arrays.items()})
    layers = {"layers/dense/vars": "predictions"} if prefix else {}
    assert found.attributes == layers
    found.arrays[f"{prefix}a.weight"][:] = 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", WRITERS)
def test_bfloat16(name, tmp_path):
    values = torch.tensor([[1.5, -2.25], [3e38, 1e-3]], dtype=torch.bfloat16)
    if name in ("m.bin", "m.pth"):
        options = {"_use_new_zipfile_serialization": name == "m.bin"}
        path = checkpoint(tmp_path / name, {"w": values}, **options)
    else:
        void = values.view(torch.int16).numpy().view("V2")
        path = WRITERS[name](tmp_path / name, {"w": void})
    [found] = read_weights(path).arrays.values()
    np.testing.assert_array_equal(found, values.float().numpy())


@pytest.mark.parametrize("zipped", [True, False])
def test_views_and_parameters_of_torch(zipped, tmp_path):
    whole = torch.arange(24.0).reshape(4, 6)
    tree = collections.OrderedDict(
        turned=whole.T,
        part=whole[1:3, 2:5],
        same=whole,
        twin=whole if zipped else whole.clone(),
        parameter=torch.nn.Parameter(whole[2] * 2),
    )
    options = {"_use_new_zipfile_serialization": zipped}
    if zipped:
        # Tensors that overlap would be more than the file.
        tree = {k: v.clone() for k, v in tree.items()} | {"turned": whole.T.clone().T}
        tree["same"] = tree["twin"]
    else:
        tree = {k: v.clone().T if v.ndim > 1 else v for k, v in tree.items()}
    path = checkpoint(tmp_path / "m.pth", tree, **options)
    found = read_weights(path).arrays
    for name, right in torch.load(path, weights_only=True).items():
        np.testing.assert_array_equal(found[name], right.detach().numpy())


def test_numbers_of_other_machines(tmp_path):
    """Earlier files have the smallest byte first, whatever wrote them."""
    values = np.array([1.5, -2.25], "float32")
    path = old(tmp_path / "m.pth", {"w": values})
    content = path.read_bytes()
    said = b"little_endianq\x02\x88"
    assert content.count(said) == 1
    path.write_bytes(content.replace(said, said[:-1] + b"\x89"))
    check(read_weights(path).arrays, {"w": values})
    np.savez(tmp_path / "m.npz", w=values.astype(">f2"))
    check(read_weights(tmp_path / "m.npz").arrays, {"w": values})


def test_wrappers_of_checkpoints(tmp_path):
    weights = {"w": torch.ones(2)}
    extra = {"args": argparse.Namespace(lr=0.1), "epoch": 3, "optimizer": {"state": {}}}
    trees = [
        {"model": weights, **extra},
        {"model": {"w": torch.zeros(2)}, "model_ema": weights, **extra},
        {"student": {"w": torch.zeros(2)}, "teacher": weights},
        {"model": {"state_dict": weights}, "loss": torch.zeros(())},
        {"student": weights, "epoch": 3},
        {"model_ema": None, "state_dict": weights},
    ]
    for tree in trees:
        found = read_weights(checkpoint(tmp_path / "m.pth", tree)).arrays
        check(found, {"w": np.ones(2, "float32")})
    itself = {"epoch": 1}
    itself["model"] = itself
    refused(checkpoint(tmp_path / "m.pth", itself), "it holds epoch, model")
    refused(checkpoint(tmp_path / "m.pth", [torch.ones(1)]), "holds a list")


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards(kind, arrays, tmp_path):
    base = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}[kind]
    parts, places = [dict(list(arrays.items())[:2]), dict(list(arrays.items())[2:])], {}
    for i, part in enumerate(parts):
        WRITERS[f"m.{kind}"](tmp_path / f"part-{i}.{kind}", part)
        places |= dict.fromkeys(part, f"part-{i}.{kind}")
    index = tmp_path / f"{base}.index.json"

    def write(places):
        index.write_text(json.dumps({"metadata": {}, "weight_map": places}))

    write(places)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    found = read_weights(tmp_path)
    check(found.arrays, arrays)
    assert found.companions == {"config.json": {"model_type": "vit"}}
    write({**places, "more": f"part-0.{kind}"})
    refused(index, "such as more")
    write({**places, "half": "gone.bin"})
    refused(index, "gone.bin is missing")
    for outside in ("../x.bin", "/etc/passwd", "a/b", "..\\x", "x.json", 5, [["x"]]):
        write({**places, "half": outside})
        refused(index, "index of weight files")


def test_a_preset_of_kerashub(tmp_path):
    ours = {"0": np.ones((2, 2), "float32")}
    hdf5(tmp_path / "model_00000.weights.h5", ours)
    place = {"weight_map": {"/layers/dense/vars": "model_00000.weights.h5"}}
    (tmp_path / "model.weights.json").write_text(json.dumps(place))
    hdf5(tmp_path / "task.weights.h5", ours)
    (tmp_path / "task.json").write_text("{}")
    for _ in range(2):
        found = read_weights(tmp_path)
        names = ["layers/dense/vars/0", "task/layers/dense/vars/0"]
        assert sorted(found.arrays) == names
        assert sorted(found.attributes) == [n.removesuffix("/0") for n in names]
        assert found.companions == {"task.json": {}}
        (tmp_path / "model.weights.json").unlink(missing_ok=True)
        if (tmp_path / "model_00000.weights.h5").exists():
            os.rename(
                tmp_path / "model_00000.weights.h5", tmp_path / "model.weights.h5"
            )


def test_what_is_beside_and_of_nobody_is_not_read(arrays, tmp_path):
    np.savez(tmp_path / "vit.npz", **arrays)
    (tmp_path / "metadata.json").write_text("[1")
    assert not read_weights(tmp_path / "vit.npz").companions
    with pytest.raises(ValueError, match="revision='v2' is of one") as error:
        read_weights(tmp_path / "vit.npz", revision="v2")
    one_line(error)


def test_which_file_of_a_folder(arrays, tmp_path):
    refused(tmp_path, "has no file of weights")
    npz(tmp_path / "b.npz", arrays)
    npz(tmp_path / "a.npz", arrays)
    refused(tmp_path, r"several files of weights \(a.npz, b.npz\)")
    checkpoint(tmp_path / "pytorch_model.bin", tensors({"w": arrays["half"]}))
    assert list(read_weights(tmp_path).arrays) == ["w"]
    safetensors(tmp_path / "model.safetensors", {"v": arrays["half"]})
    assert list(read_weights(tmp_path).arrays) == ["v"]
    (tmp_path / "config.json").write_text("[1]")
    refused(tmp_path, "config.json is damaged or not a JSON object")
    (tmp_path / "config.json").write_text("[" * 100_000)
    refused(tmp_path, "config.json")
    (tmp_path / "config.json").unlink()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    for name in ("x.safetensors", "x.bin"):
        (tmp_path / name).write_bytes(pointer)
        refused(tmp_path / name, "git lfs pull")
    (tmp_path / "x.bin").write_bytes(b"")
    refused(tmp_path / "x.bin", "unknown format")
    refused(tmp_path / "nothing", "does not exist")
    refused(5, "no source of weights")


# Files that somebody made to do harm


class Reduced:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def archive(path, pickled, **members):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", pickled)
        for name, content in members.items():
            file.writestr(f"m/{name}", content)
    return path


CALLS = {
    "posix.system": Reduced(os.system, ("touch ran",)),
    "eval": Reduced(builtins.eval, ("open('ran', 'w')",)),
    "test_weight_files.Reduced": Reduced,
    "torch.nn.modules.linear.Linear": torch.nn.Linear(1, 1),
    "collections.Counter": collections.Counter("a"),
}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_of_a_pickle_runs(name, old, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"_use_new_zipfile_serialization": not old, "pickle_protocol": protocol}
    tree = {"w": torch.ones(1), "x": CALLS[name]}
    line = refused(checkpoint(tmp_path / "m.pth", tree, **options), "calls for")
    assert name in line
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",
        b"(S'touch ran'\nios\nsystem\n.",
        b"\x80\x02(U\x09touch ranios\nsystem\n.",
        b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b"}h\x00K\x01s.",
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x02ccollections\nOrderedDict\n]\x85R.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02K\x01)R.",
        b"\x80\x02ctorch\nFloatStorage\n)\x81.",
        b".",
        b"",
    ],
)
def test_pickles_that_are_no_checkpoints(pickled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(archive(tmp_path / "m.pth", pickled), "not a PyTorch file|holds nothing")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", [b")" + b"q\x00h\x00\x86" * 60, b")" + b"\x85" * 10**6])
def test_storages_of_earlier_files_have_names(key, tmp_path):
    """A list of what takes forever to hash, or more memory than there is for it."""
    path = old(tmp_path / "m.pth", {"w": np.ones(1, "float32")})
    start = [pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {})]
    path.write_bytes(b"".join(start) + pickle.dumps({}, 2) + b"\x80\x02]" + key + b"a.")
    refused(path, "storages are not those")


class Call:
    """Pickles as a call of a function of torch._utils."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value[1:] if isinstance(value, tuple) and value[:1] == ("pid",) else None


def described(path, offset, shape, strides, count=4, content=bytes(16)):
    """Writes an archive with one tensor as it is described."""
    storage = ("pid", "storage", torch.FloatStorage, "0", "cpu", count)
    file = io.BytesIO()
    Pickler(file, 2).dump({"w": Call(storage, offset, shape, strides, False, {})})
    return archive(path, file.getvalue(), **{"data/0": content})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ((0, (10**12,), (1,)), "in a storage of 4 numbers"),
        ((0, (10**12,), (0,)), "in a storage of 4 numbers"),
        ((0, (10**12,), (1,), 10**12), "cut off"),
        ((1, (2, 2), (2, 1)), "in a storage of 4 numbers"),
        ((0, (2, 2), (-1, 1)), "tensor that is none"),
        ((-1, (2,), (1,)), "tensor that is none"),
        ((0, (2,), (1, 1)), "has strides"),
        ((0, (2,), (1,), 4, b"123"), "cut off"),
        ((0, (2.0,), (1,)), "tensor that is none"),
    ],
)
def test_tensors_outside_their_storage(options, match, tmp_path):
    refused(described(tmp_path / "m.pth", *options), match)
    found = read_weights(described(tmp_path / "n.pth", 0, (2, 2), (2, 1)))
    assert found.arrays["w"].shape == (2, 2)


def test_torchscript(tmp_path):
    torch_script = {"code/x.py": b"", "constants.pkl": b""}
    refused(archive(tmp_path / "m.pt", b"\x80\x02}.", **torch_script), "TorchScript")


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({"data_offsets": [0, 12]}, "takes 8"),
        ({"shape": [10**12], "data_offsets": [0, 4 * 10**12]}, "of 8 bytes"),
        ({"shape": [10**12]}, "takes 4000000000000"),
        ({"shape": [-2]}, "the shape of w"),
        ({"shape": [2.0]}, "the shape of w"),
        ({"shape": [True, 2]}, "the shape of w"),
        ({"data_offsets": [8, 0]}, "has -8 bytes"),
        ({"data_offsets": [-8, 0]}, "the data_offsets of w"),
        ({"data_offsets": [4, 12]}, "w is at 4"),
        ({"dtype": "F8_E4M3"}, "is of F8_E4M3"),
        ({"dtype": ["F32"]}, "is of"),
        ({"shape": [0], "data_offsets": [0, 0]}, "end at 0 of 8"),
    ],
)
def test_headers_of_safetensors(entry, match, tmp_path):
    values = {"w": np.ones(2, "float32")}
    path = safetensors(tmp_path / "m.safetensors", values, w={**F32, **entry})
    refused(path, match)


def test_more_headers_of_safetensors(tmp_path):
    path = tmp_path / "m.safetensors"
    refused(safetensors(path, {"w": np.ones(2, "f4")}, v=F32), "ends at 8")
    text = b'{"w\\n": %s, "w\\n": %s}' % ((json.dumps(F32).encode(),) * 2)
    for length, header, match in [
        (len(text), text, r"w\\n is in it twice"),
        (2**63, b"{}", "a header of"),
        (100, b"{}", "a header of 100 bytes"),
        (4, b"[{}]", "no dict"),
        (200_000, b'{"a":' * 40_000, "safetensors"),
        (3, b"{\xff}", "safetensors"),
    ]:
        path.write_bytes(struct.pack("<Q", length) + header + bytes(8))
        refused(path, match)


def test_arrays_that_are_none(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, a=np.array([print], dtype=object))
    refused(path, "m.npz is damaged or not a file of NumPy arrays")
    for array in (np.ones(2, complex), np.array(["a"]), np.ones(2, "i4,i4")):
        npz(path, {"a": array})
        refused(path, "not of real numbers")
    np.savez_compressed(path, a=np.zeros(2**22, "float32"))
    refused(path, "allow more", max_memory=2**23)
    assert len(read_weights(path).arrays["a"]) == 2**22
    with zipfile.ZipFile(path, "w") as file:
        header = io.BytesIO()
        description = {"shape": (10**12,), "fortran_order": False, "descr": "<f4"}
        np.lib.format.write_array_header_1_0(header, description)
        file.writestr("a.npy", header.getvalue())
    refused(path, "its header says")


def test_hdf5_that_points_elsewhere(tmp_path):
    path = hdf5(tmp_path / "other.h5", {"0": np.ones(2)})
    for kind in ("external", "soft", "kept", "huge"):
        path = tmp_path / f"{kind}.weights.h5"
        with h5py.File(path, "w") as file:
            if kind == "external":
                file["vars"] = h5py.ExternalLink("other.h5", "/layers")
            elif kind == "soft":
                file["vars"] = h5py.SoftLink("/layers")
            elif kind == "kept":
                place = [("/etc/passwd", 0, 8)]
                file.create_dataset("x", (8,), "u1", external=place)
            else:
                file.create_dataset("x", (10**12,), "f4", chunks=(1024,))
        match = {"kept": "kept in another", "huge": "allow more"}
        refused(path, match.get(kind, "points somewhere else"))


@pytest.mark.parametrize("times", [100, slow(2000)])
@pytest.mark.parametrize("name", WRITERS)
def test_files_that_are_cut_or_changed(name, times, arrays, rng, tmp_path):
    whole = WRITERS[name](tmp_path / name, arrays).read_bytes()
    path = tmp_path / f"x{name}"

    def survives(content):
        path.write_bytes(content)
        try:
            read_weights(path)
        except (ValueError, OSError) as error:
            line = str(error)
            assert "\n" not in line
            assert str(path) in line
            assert len(line) < 900
            return False
        return True

    for length in rng.integers(0, len(whole) - 1, times):
        assert not (survives(whole[:length]) and name != "m.weights.h5")
    for place in rng.integers(0, len(whole), times):
        content = bytearray(whole)
        content[place] ^= 1 << rng.integers(8)
        survives(bytes(content))


# The Hugging Face Hub

COMMIT = "0123456789" * 4


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache made by hand, and no network."""
    pytest.importorskip("huggingface_hub")

    def unreachable(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    folder = tmp_path / "hub" / "models--some--vit"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    return snapshot


@pytest.mark.parametrize(
    "source", ["hub:some/vit", "hf://some/vit", "hub:some/vit@main"]
)
@pytest.mark.parametrize("offline", [True, False])
def test_a_cache_without_a_network(cache, source, offline, arrays, monkeypatch):
    options = {"cache_dir": cache.parents[2], "local_files_only": not offline}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    refused(source, "has no file of weights", **options)
    (cache / "config.json").write_text('{"architecture": "vit_tiny"}')
    safetensors(cache / "model.safetensors", arrays)
    found = read_weights(source, **options)
    check(found.arrays, arrays)
    assert found.companions == {"config.json": {"architecture": "vit_tiny"}}
    assert found.origin == source


def test_files_that_cannot_be_listed(cache, arrays, monkeypatch):
    def fails(*_, **__):
        raise ConnectionError("no route\nat all")

    monkeypatch.setattr("huggingface_hub.list_repo_files", fails)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    options = {"cache_dir": cache.parents[2]}
    refused("hub:some/vit", r"cannot be listed .*no route.* has no file", **options)
    safetensors(cache / "model.safetensors", arrays)
    found = read_weights("hub:some/vit", **options)
    check(found.arrays, arrays)
    reason = "that its files on the hub are those in the cache (no route)"
    assert found.assumed == (reason,)
    assert read_weights("hub:some/vit", local_files_only=True, **options).assumed == ()


def test_repositories_that_cannot_be_read(cache, monkeypatch):
    options = {"cache_dir": cache.parents[2], "local_files_only": True}
    for source in (
        "hub:vit",
        "hub:a/b/c",
        "hub:",
        "hub:a/..",
        "hub:a/b@",
        "hub:a /b\n",
    ):
        refused(source, "names no repository", **options)
    refused("hub:some/vit@a", "differ", revision="b", **options)
    refused("hub:some/other", "not in the cache", **options)
    refused("hub:some/vit", "not in the cache", revision="v2", **options)
    from huggingface_hub import utils

    for kind, match in [
        (utils.GatedRepoError, "is gated; accept"),
        (utils.RepositoryNotFoundError, "does not exist, or is private"),
        (utils.RevisionNotFoundError, "no such revision"),
        (ConnectionError, "cannot be fetched"),
    ]:
        error = kind.__new__(kind)

        def fails(*_, error=error, **__):
            raise error

        monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
        refused("hub:some/vit", match)


def test_the_hub_without_its_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"huggingface_hub.*pip install.*\[hub\]"):
        read_weights("hub:some/vit")


def test_a_file_that_may_not_be_read_is_not_called_damaged():
    with pytest.raises(PermissionError), reading("a.npz", "an .npz file"):
        raise PermissionError(13, "Permission denied")
    # Of damaged bytes, as h5py and zipfile say it.
    for error in (OSError("no signature"), OSError(22, "Invalid argument")):
        with pytest.raises(ValueError, match="damaged"), reading("a.h5", "HDF5"):
            raise error
