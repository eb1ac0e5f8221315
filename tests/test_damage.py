"""Damaged and hostile model files: one clear line, or the model's own answers."""

import hashlib
import json
import shutil
import zipfile

import keras
import numpy as np
import pytest
from conftest import (
    BACKEND,
    numpy,
    one_line,
    slow,
    tiny_images,
    tiny_model,
)
from test_exports import CLASSES, NAMES, silent

import widenet_keras
from widenet_keras.files.loading import load_classifier
from widenet_keras.inference import open_predictor

COUNTS = (30, slow(400))
FORMATS = list(NAMES) if BACKEND == "tensorflow" else ["keras"]


def damaged(content, random):
    """Returns bytes cut short or longer, or with bits or parts changed."""
    content = bytearray(content)
    kind = random.integers(7)
    place = int(random.integers(len(content)))
    end = place + int(random.integers(1, 64))
    if kind == 0:
        return bytes(content[:place])
    if kind == 1:
        content[place:end] = random.bytes(len(content[place:end]))
    elif kind == 2:
        # As a disk that lost a block has it.
        content[place : place + 4096] = bytes(len(content[place : place + 4096]))
    elif kind == 3:
        half = len(content) // 2
        first = slice(place % half, place % half + 64)
        second = slice(half + first.start, half + first.stop)
        content[first], content[second] = content[second], content[first]
    elif kind == 4:
        content[place:place] = random.bytes(end - place)
    else:
        # Also near the end, where archives have what they are read by.
        if kind == 6:
            place = len(content) - 1 - int(random.integers(min(600, len(content))))
        content[place] ^= 1 << int(random.integers(8))
    return bytes(content)


def damage(path, random):
    """Damages a file, or one file of a folder."""
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.is_file())
        path = files[random.integers(len(files))]
    content = path.read_bytes()
    if content:
        path.write_bytes(damaged(content, random))


def copied(source, target):
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    return target


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_end_in_one_line(format, count, tmp_path):
    if format != "keras":
        pytest.importorskip("tensorflow")
    model, images = tiny_model(), tiny_images(2)
    logits = numpy(model(images))
    whole = tmp_path / NAMES[format]
    widenet_keras.export(model, whole, format, class_names=CLASSES, say=silent)
    random, refused = np.random.default_rng(0), 0
    for index in range(count):
        folder = tmp_path / str(index)
        folder.mkdir()
        path = copied(whole, folder / whole.name)
        damage(path, random)
        predictor, line = None, str(path)
        try:
            predictor = open_predictor(path)
        except ValueError as error:
            line = str(error)
            refused += 1
        assert "\n" not in line
        assert str(path) in line
        assert len(line) < 600
        if predictor is not None:
            # What was hit says nothing, such as the date of a file in an archive.
            np.testing.assert_allclose(predictor.logits(images), logits, atol=1e-5)
            assert predictor.class_names == CLASSES
        shutil.rmtree(folder)
    assert refused > 0.8 * count


def test_a_changed_manifest_is_refused(tmp_path):
    path = tmp_path / "exported"
    widenet_keras.export(tiny_model(), path, class_names=CLASSES, say=silent)
    manifest = path / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"cat"', '"bat"'))
    with pytest.raises(ValueError, match="has changed") as error:
        open_predictor(path)
    one_line(error)
    # Laid out anew it says the same.
    manifest.write_text(json.dumps(json.loads(text)))
    assert open_predictor(path).class_names == CLASSES
    # Nothing outside of the folder is looked at.
    told = json.loads(text)
    told["sha256"]["/etc/passwd"] = "0"
    told.pop("manifest_sha256")
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    manifest.write_text(json.dumps({**told, "manifest_sha256": digest}))
    with pytest.raises(ValueError, match="passwd is missing"):
        open_predictor(path)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_archives_that_would_fill_the_memory_are_refused(tmp_path, name):
    source, path = tmp_path / "model.keras", tmp_path / "bomb.keras"
    tiny_model("vit", steps=1).save(source)
    with (
        zipfile.ZipFile(source) as archive,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for each in archive.namelist():
            content = archive.read(each)
            bomb.writestr(each, bytes(2**25) if each == name else content)
    with pytest.raises(ValueError, match="would unpack") as error:
        open_predictor(path)
    one_line(error)


def changed_config(source, target, change):
    """Copies a `.keras` file with another configuration."""
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    change(config)
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target


def foreign(marker):
    """Returns the configuration of a program that would leave a marker."""
    return {
        "module": "subprocess",
        "class_name": "Popen",
        "registered_name": "Popen",
        "config": {"args": ["touch", str(marker)]},
    }


@pytest.mark.parametrize("place", ["model", "dtype", "field"])
def test_a_foreign_class_is_refused_and_not_run(tmp_path, place):
    source, marker = tmp_path / "model.keras", tmp_path / "marker"
    tiny_model("vit", steps=1).save(source)

    def change(config):
        if place == "model":
            config.update(foreign(marker))
        elif place == "dtype":
            config["config"]["dtype"] = foreign(marker)
        else:
            config["config"]["config"]["activation"] = foreign(marker)

    path = changed_config(source, tmp_path / "foreign.keras", change)
    for load in (widenet_keras.load_model, load_classifier, open_predictor):
        with pytest.raises(ValueError, match=r"foreign\.keras (is|cannot)") as error:
            load(path)
        assert len(one_line(error)) < 600
    assert not marker.exists()


def test_a_lambda_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "marker"

    def leave_a_marker(x, path=str(marker)):
        open(path, "w").close()
        return x

    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)])
    model.layers[-1].function = leave_a_marker
    path = tmp_path / "lambda.keras"
    model.save(path)
    for load in (widenet_keras.load_model, load_classifier, open_predictor):
        with pytest.raises(ValueError, match=r"lambda\.keras (is|cannot)") as error:
            load(path)
        one_line(error)
    assert not marker.exists()
