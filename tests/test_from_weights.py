"""Weights of other libraries become a classifier that gives their answers."""

import json
import shutil

import keras
import numpy as np
import pytest
from conftest import numpy, one_line, shake, tiny_config, tiny_images

import widenet_keras
from widenet_keras.cli.main import main
from widenet_keras.conversions.safetensors_files import write_safetensors
from widenet_keras.models.preprocessing import Preprocessing

NAMES = ["cat", "dog", "owl", "fox", "bee"]


@pytest.fixture(scope="module")
def source():
    """A ViT with class names."""
    fields = {"representation": False, "activation": "gelu", "pooling": "token"}
    model = widenet_keras.ImageClassifier(tiny_config("vit", **fields), seed=0)
    shake(model.weights, 0.3)
    model.class_names = NAMES
    model.preprocessing = Preprocessing(
        crop_pct=0.9, interpolation="bicubic", antialias=True
    )
    return model


@pytest.fixture
def folder(source, tmp_path):
    """The same as a folder of timm."""
    widenet_keras.to_timm(source, tmp_path / "theirs" / "model.safetensors")
    return tmp_path / "theirs"


def arrays_of(folder):
    """Returns the tensors of such a folder, to be changed and written again."""
    from widenet_keras.conversions.weight_files import read_weights

    # Not mapped from the file, which is written again.
    return {name: array.copy() for name, array in read_weights(folder).arrays.items()}


def test_one_line_says_what_was_found(folder, source):
    said = []
    model = widenet_keras.from_weights(folder, heads=3, say=said.append)
    [line] = said
    assert "timm" in line
    assert "2 steps of width 12, 3 heads" in line
    assert f"{source.count_params():,} parameters" in line
    assert model.class_names == tuple(NAMES)
    images = tiny_images(3)
    np.testing.assert_allclose(numpy(model(images)), numpy(source(images)), atol=1e-5)
    assert "converted from" in model.trained_on
    assert model.preprocessing == source.preprocessing


def test_a_json_file_that_may_be_of_another_file_is_told(folder):
    def line(path):
        said = []
        widenet_keras.from_weights(path, heads=3, say=said.append)
        return said[0]

    whole, other = folder / "model.safetensors", folder / "small.safetensors"
    shutil.copy(whole, other)
    phrase = "config.json beside it tells of this file, not of model.safetensors"
    assert phrase in line(other)
    assert "beside it" not in line(whole)
    assert "beside it" not in line(folder)
    whole.unlink()
    assert "beside it" not in line(other)
    # Another format of the same.
    (folder / "small.bin").touch()
    assert "beside it" not in line(other)


def test_names_that_repeat_get_their_number(folder):
    """As in ImageNet, which has two cranes."""
    companion = folder / "config.json"
    said = json.loads(companion.read_text())
    said["label_names"] = ["crane", "dog", "crane", "", "owl"]
    companion.write_text(json.dumps(said))
    model = widenet_keras.from_weights(folder, heads=3, say=str)
    expected = ("crane (0)", "dog", "crane (2)", "class (3)", "owl")
    assert model.class_names == expected


def test_other_classes_and_another_size(folder, source):
    fields = {"heads": 3, "say": str, "dropout": 0.2}
    model = widenet_keras.from_weights(folder, num_classes=3, image_size=16, **fields)
    assert model.compute_output_shape((2, 16, 16, 3)) == (2, 3)
    assert model.config.image_size == 16
    assert model.config.dropout == 0.2
    assert model.class_names is None
    kernel = "encoder/block_1/attention/query/kernel"
    mine, theirs = (
        next(w for w in m.weights if w.path.endswith(kernel)) for m in (model, source)
    )
    np.testing.assert_array_equal(numpy(mine), numpy(theirs))
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(tiny_images(4, 16), np.arange(4) % 3, verbose=0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (
            lambda a: a.update({"blocks.0.attn.q_norm.weight": a["norm.weight"]}),
            "q_norm",
        ),
        (lambda a: a.pop("blocks.1.mlp.fc1.weight"), "fc1"),
        (lambda a: a.update({"blocks.99999999999.x": a["norm.bias"]}), "no block 2"),
        (lambda a: a.update({"norm.bias": a["norm.bias"][:0]}), "is empty"),
        (lambda a: a.update({"norm.bias": a["norm.bias"][:-1]}), "norm.bias"),
        (lambda a: a.update({"norm.bias": a["norm.bias"] * np.nan}), "not finite"),
    ],
)
def test_the_first_tensor_that_does_not_fit(change, word, folder):
    arrays = arrays_of(folder)
    change(arrays)
    write_safetensors(arrays, folder / "model.safetensors")
    with pytest.raises(ValueError, match=word) as error:
        widenet_keras.from_weights(folder, heads=3, say=str)
    assert "model.safetensors" in one_line(error)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"width": 24}, "width=24 and the file has width=12"),
        ({"heads": 5}, "heads"),
        ({"dropuot": 0.1}, "dropout"),
    ],
)
def test_fields_that_do_not_fit_the_file(fields, word, folder):
    with pytest.raises(ValueError, match=word) as error:
        widenet_keras.from_weights(folder, say=str, **{"heads": 3, **fields})
    one_line(error)


def test_there_and_back_from_the_command_line(folder, source, tmp_path, capsys):
    def widenet(*words):
        main(["convert", *map(str, words)])
        return capsys.readouterr().out

    said = widenet(folder, "--output", tmp_path / "ours.keras", "--heads", 3)
    assert "timm" in said
    model = widenet_keras.load_model(tmp_path / "ours.keras")
    images = tiny_images(3)
    np.testing.assert_allclose(numpy(model(images)), numpy(source(images)), atol=1e-5)
    assert model.preprocessing == source.preprocessing
    there = tmp_path / "b"
    widenet(tmp_path / "ours.keras", "--to", "timm", there / "again.safetensors")
    assert json.loads((there / "config.json").read_text())["label_names"] == NAMES
    for name, array in arrays_of(folder).items():
        np.testing.assert_array_equal(arrays_of(there)[name], array)
    # Files of 0.1.0 have their names beside them.
    model.class_names = None
    model.save(tmp_path / "ours.keras")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    widenet(tmp_path / "ours.keras", "--to", "timm", there / "again.safetensors")
    assert json.loads((there / "config.json").read_text())["label_names"] == NAMES


def test_names_that_are_as_a_number_makes_them():
    from widenet_keras.models.class_names import distinct_names

    assert distinct_names(["a", "b"]) == ("a", "b")
    found = distinct_names(["crane", "crane", "crane (1)"])
    assert len(set(found)) == 3


def test_patches_in_an_unknown_order():
    """Of one product over the pixels, which only old files of timm have in ours."""
    from widenet_keras.conversions.tensors import Tensors

    arrays = {"embeddings.patch_embedding.weight": np.zeros((4, 12), "float32")}
    tensors = Tensors(arrays, "a file")
    with pytest.raises(ValueError, match="patches must be square") as error:
        tensors.patches("embeddings.patch_embedding")
    one_line(error)
    assert tensors.patches("embeddings.patch_embedding", flat=True).first.shape[0] == 2


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["absent.bin", "a.keras"], "absent.bin does not exist"),
        (["SOURCE", "a.onnx"], "must end in .keras"),
        (["SOURCE", "folder.keras"], "folder.keras is a folder"),
        (["SOURCE"], "give one output"),
        (["SOURCE", "a.safetensors", "--to", "timm", "--heads", "3"], "--heads is of"),
    ],
)
def test_words_that_do_not_fit(words, line, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "folder.keras" / "mine").write_text("kept")
    words = [str(folder) if word == "SOURCE" else word for word in words]
    with pytest.raises(SystemExit) as ended:
        main(["convert", *words])
    told = str(ended.value) + capsys.readouterr().err
    assert line in told
    assert (tmp_path / "folder.keras" / "mine").read_text() == "kept"
