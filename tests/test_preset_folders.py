"""Preset folders: nothing is lost, half-written, run, or read as something else."""

import json
import shutil

import keras
import numpy as np
import pytest
from conftest import numpy, one_line, tiny_config, tiny_images, tiny_model
from test_damage import damage, foreign
from test_files import crash_half_way, names

import widenet_keras
from widenet_keras import ImageClassifier
from widenet_keras.models import WideNet

FILES = ["config.json", "metadata.json", "model.weights.h5"]
IMAGES = tiny_images(3)
SMALL = {"steps": 2, "moe_blocks": (-1,)}
ORIGIN = {
    "class_names": ("ant", "bee", "cat", "dog", "eel"),
    "preprocessing": {"crop": 1.0, "crop_mode": "squash"},
    "trained_on": "five animals",
}


@pytest.fixture(scope="module")
def trained():
    """A model with all that a file keeps, and training that a preset leaves out."""
    model = tiny_model("vit_moe", **SMALL)
    model.set_origin(**ORIGIN)
    model.frozen = ("embedding", "norms")
    model.compile("adam")
    model.fit(IMAGES, np.array([0, 1, 2]), verbose=0)
    return model


@pytest.fixture
def folder(trained, tmp_path):
    """A preset of its own for every test."""
    trained.save_to_preset(tmp_path / "preset")
    return tmp_path / "preset"


def edit(path, **entries):
    """Changes entries of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def assert_same(one, other):
    assert type(one) is type(other)
    assert one.get_config() == other.get_config()
    np.testing.assert_array_equal(numpy(one(IMAGES)), numpy(other(IMAGES)))


def refused(call, *pieces):
    """Checks that a call ends in one line with some pieces."""
    with pytest.raises(ValueError, match=r"\w") as error:
        call()
    line = one_line(error)
    assert [piece for piece in pieces if str(piece) not in line] == [], line
    assert len(line) < 600


def test_all_that_a_file_keeps_comes_back(trained, folder):
    assert names(folder) == FILES
    model = ImageClassifier.from_preset(str(folder))
    assert_same(model, trained)
    assert model.origin() == trained.origin()
    assert model.preprocessing.crop_mode == "squash"
    assert model.frozen == ("embedding", "norms")
    assert not model.compiled
    # Of the optimizer nothing is kept: a preset weighs what its weights do.
    told = json.loads((folder / "metadata.json").read_text())
    assert told["parameter_count"] == trained.count_params()
    assert "compile_config" not in json.loads((folder / "config.json").read_text())
    fresh = tiny_model("vit_moe", **SMALL)
    fresh.save_weights(folder.with_suffix(".weights.h5"))
    size = folder.with_suffix(".weights.h5").stat().st_size
    assert (folder / "model.weights.h5").stat().st_size == size


def test_kinds_of_models(tmp_path):
    backbone = tiny_model("vit", steps=1, num_classes=0)
    int8 = tiny_model("widenet", steps=1, dtype="mixed_bfloat16")
    int8.quantize("int8")
    network = WideNet(tiny_config("vit", steps=1), seed=3)
    for model in (int8, network):
        model.save_to_preset(tmp_path / "preset")
        assert_same(type(model).from_preset(tmp_path / "preset"), model)
    # A network is what a classifier is, too; not the other way around.
    path = tmp_path / "preset"
    refused(lambda: ImageClassifier.from_preset(path), path, "widenet_keras>WideNet")
    backbone.save_to_preset(path)
    assert_same(WideNet.from_preset(path), backbone)
    # Of the bare network the other form opens as well.
    network.save(tmp_path / "network.keras")
    assert_same(widenet_keras.load_model(tmp_path / "network.keras"), network)


def test_what_is_asked_for_wins_over_the_folder(trained, folder):
    model = ImageClassifier.from_preset(
        folder, seed=5, name="other", dtype="mixed_bfloat16", frozen=()
    )
    told = model.seed, model.name, model.dtype_policy.name, model.frozen
    assert told == (5, "other", "mixed_bfloat16", ())
    for mine, theirs in zip(model.weights, trained.weights, strict=True):
        np.testing.assert_array_equal(numpy(mine), numpy(theirs))
    policy = keras.dtype_policies.get("bfloat16")
    model = ImageClassifier.from_preset(
        folder, num_classes=3, image_size=16, dtype=policy
    )
    assert model(tiny_images(2, 16)).shape == (2, 3)
    assert (model.dtype_policy, model.class_names) == (policy, None)
    # What stays as it is on the disk is frozen as it was.
    assert model.frozen == trained.frozen
    for wrong, piece in (
        ({"width": 24}, "adapted: width=24 would change"),
        ({"widht": 24}, "there is no field 'widht'"),
        ({"frozen": ("cores",)}, "frozen='cores'"),
        ({"frozen": ("head",), "num_classes": 3}, "without 'head'"),
        ({"max_memory": -1}, "max_memory=-1"),
    ):
        refused(lambda wrong=wrong: ImageClassifier.from_preset(folder, **wrong), piece)


def test_names_of_presets_come_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model("vit", steps=1).save_to_preset("vit_digits")
    assert ImageClassifier.from_preset("vit_digits").config.width == 64
    for path in ("./vit_digits", tmp_path / "vit_digits"):
        assert ImageClassifier.from_preset(path).config.width == 12
    tiny_model("vit", steps=1).save_to_preset("mine")
    assert ImageClassifier.from_preset("mine").config.width == 12
    for wrong in (None, 3, ["vit_digits"], "vit_digit"):
        refused(lambda wrong=wrong: ImageClassifier.from_preset(wrong), "is no preset")


def test_weights_are_built_once_and_read_from_the_file(folder, monkeypatch):
    built, real = [], WideNet.build
    monkeypatch.setattr(
        WideNet, "build", lambda self, shape: (built.append(self), real(self, shape))
    )
    ImageClassifier.from_preset(folder)
    assert len(built) == 1


def test_an_earlier_preset_is_replaced_and_nothing_else(trained, folder, tmp_path):
    other = tiny_model("vit", steps=1)
    other.save_to_preset(folder)
    assert names(folder) == FILES
    assert names(tmp_path) == ["preset"]
    assert_same(ImageClassifier.from_preset(folder), other)
    (tmp_path / "empty").mkdir()
    other.save_to_preset(tmp_path / "empty")
    # A card of the user's; a preset of others; an earlier one of which a part is gone.
    (folder / "README.md").write_text("mine")
    shutil.copytree(tmp_path / "empty", tmp_path / "others")
    edit(tmp_path / "empty" / "metadata.json", keras_hub_version="0.32")
    (tmp_path / "others" / "metadata.json").write_text('{"keras_hub_version": "1"}')
    (tmp_path / "file").write_text("mine")
    for name, piece in (
        ("preset", "README.md, which would be lost"),
        ("others", "config.json, which would be lost"),
        (".", "empty, which would be lost"),
        ("file", "is a file"),
    ):
        before = names(tmp_path / name) if name != "file" else None
        refused(lambda name=name: trained.save_to_preset(tmp_path / name), piece)
        assert before is None or names(tmp_path / name) == before
    for wrong in (None, 3, ""):
        refused(lambda wrong=wrong: trained.save_to_preset(wrong), "the path is")


def test_a_crash_in_saving_keeps_the_old_folder(trained, folder, tmp_path, monkeypatch):
    def crash(model, path, **kwargs):
        crash_half_way(path)

    monkeypatch.setattr(keras.saving, "save_weights", crash)
    with pytest.raises(OSError, match="disk full"):
        tiny_model("vit", steps=1).save_to_preset(folder)
    with pytest.raises(OSError, match="disk full"):
        tiny_model("vit", steps=1).save_to_preset(tmp_path / "new")
    assert names(tmp_path) == ["preset"]
    assert_same(ImageClassifier.from_preset(folder), trained)


def test_damaged_folders_end_in_one_line(trained, folder, tmp_path):
    logits = numpy(trained(IMAGES))
    random, path, found = np.random.default_rng(0), tmp_path / "copy", 0
    for _ in range(40):
        shutil.copytree(folder, path)
        damage(path, random)
        try:
            model = ImageClassifier.from_preset(path)
        except ValueError as error:
            line = str(error)
            assert "\n" not in line
            assert str(path) in line
            assert len(line) < 600
            found += 1
        else:
            # What was hit says nothing, such as the date.
            np.testing.assert_array_equal(numpy(model(IMAGES)), logits)
            assert model.get_config() == trained.get_config()
        shutil.rmtree(path)
    assert found > 25


def test_what_is_missing_or_changed_is_told(trained, folder, tmp_path):
    def read():
        return ImageClassifier.from_preset(folder)

    config = folder / "config.json"
    text = config.read_text()
    # Laid out anew it says the same.
    config.write_text(json.dumps(json.loads(text)))
    assert_same(read(), trained)
    config.write_text(text.replace('"cat"', '"bat"'))
    refused(read, folder, "config.json has changed", "out of metadata.json")
    (folder / "metadata.json").unlink()
    assert read().class_names[2] == "bat"
    # Without checksums what does not fit is told all the same.
    config.write_text(text.replace('"width": 12', '"width": 24'))
    refused(read, folder, "cannot be loaded as a Keras model")
    config.write_text("{")
    refused(read, config, "is damaged")
    config.write_text("[" * 100_000)
    refused(read, config, "is damaged")
    config.write_text(text)
    (folder / "model.weights.h5").write_bytes(b"version https://git-lfs")
    refused(read, folder, "cannot be loaded as a Keras model")
    (folder / "model.weights.h5").unlink()
    refused(read, folder, "has no model.weights.h5")
    config.unlink()
    refused(read, folder, "has no config.json", "from_weights()")
    for path in (tmp_path / "none", "hub:timm/vit", "not/there"):
        refused(
            lambda path=path: ImageClassifier.from_preset(path),
            path,
            "does not exist",
            "from_weights()",
        )
    trained.save(tmp_path / "model.keras")
    refused(
        lambda: ImageClassifier.from_preset(tmp_path / "model.keras"), "load_model()"
    )


@pytest.mark.parametrize(
    ("config", "piece"),
    [
        ({"registered_name": "keras_hub>ViTBackbone"}, "from_weights() reads them"),
        ({"registered_name": "keras_hub>DeiTBackbone"}, "from_weights() reads them"),
        ({"model_type": "dinov2"}, "from_weights() reads them"),
        ({"architecture": "vit_tiny_patch16_224"}, "from_weights() reads them"),
        ({"registered_name": "keras_hub>BertBackbone"}, "class keras_hub>BertBackbone"),
        ({"registered_name": "widenet_keras>Encoder"}, "class widenet_keras>Encoder"),
        ({"registered_name": "a\nb" * 99}, "class a ba b"),
        ({}, "class None"),
    ],
)
def test_folders_of_others_are_told(tmp_path, config, piece):
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused(lambda: ImageClassifier.from_preset(tmp_path), tmp_path, piece)


def test_a_class_that_nothing_could_load_is_not_written(tmp_path):
    class Own(ImageClassifier):
        pass

    model = Own(tiny_config())
    refused(
        lambda: model.save_to_preset(tmp_path / "own"), "register_keras_serializable"
    )
    assert not any(tmp_path.iterdir())


def test_holes_in_files_allow_no_memory(folder):
    with open(folder / "hole", "wb") as file:
        file.truncate(10**13)
    refused(lambda: ImageClassifier.from_preset(folder, max_memory=0), "would take")


def test_the_other_doors_say_which_one_it_is(folder):
    refused(lambda: widenet_keras.load_model(folder), "ImageClassifier.from_preset()")
    refused(lambda: widenet_keras.from_weights(folder), "ImageClassifier.from_preset()")


@pytest.mark.parametrize("place", ["model", "dtype", "field"])
def test_a_foreign_class_is_refused_and_not_run(folder, tmp_path, place):
    marker = tmp_path / "marker"
    config = json.loads((folder / "config.json").read_text())
    if place == "model":
        # Under a name of ours.
        config.update({**foreign(marker), "registered_name": config["registered_name"]})
    elif place == "dtype":
        config["config"]["dtype"] = foreign(marker)
    else:
        config["config"]["config"]["activation"] = foreign(marker)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metadata.json").unlink()
    said = "cannot be loaded" if place == "model" else "names 'Popen' of 'subprocess'"
    refused(lambda: ImageClassifier.from_preset(folder), folder, said)
    assert not marker.exists()


def test_sizes_are_looked_at_before_anything_is_built(folder):
    (folder / "metadata.json").unlink()
    config = folder / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"mlp_dim": 10', '"mlp_dim": 1000000000'))
    refused(lambda: ImageClassifier.from_preset(folder), folder, "of memory for the")
    config.write_text(text)
    refused(
        lambda: ImageClassifier.from_preset(folder, max_memory=0), "of memory for the"
    )
    # A link to another file.
    import h5py

    with h5py.File(folder / "model.weights.h5", "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
    refused(lambda: ImageClassifier.from_preset(folder), "points somewhere else")


def test_a_recipe_keeps_what_a_folder_has_frozen(folder, tmp_path):
    pytest.importorskip("tyro")
    from widenet_keras.data import open_source
    from widenet_keras.runs.recipe import FROM_SCRATCH, SMALL_IMAGES, PresetRecipe

    np.savez(
        tmp_path / "set.npz",
        x_train=np.zeros((5, 12, 12, 3), "uint8"),
        y_train=np.arange(5),
    )
    source = open_source(str(tmp_path / "set.npz"), "train")
    told = {"data": "", "output": tmp_path, "preset": str(folder), "epochs": 1}
    told |= {"batch_size": 1, "augmentation": SMALL_IMAGES}
    told |= {"optimization": FROM_SCRATCH}
    assert PresetRecipe(**told).starting_model(source).frozen == ("embedding", "norms")
    thawed = PresetRecipe(**told, frozen=("head",)).starting_model(source)
    assert thawed.frozen == ("head",)
    thawed.save(tmp_path / "model.keras")
    told |= {"checkpoint": tmp_path / "model.keras", "seed": 7}
    # Its noise is that of this run, not of the one before.
    assert PresetRecipe(**told).starting_model(source).seed == 7
