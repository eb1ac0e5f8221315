"""Names of classes are the truth, and one geometry goes from training to the file."""

import json
import shutil

import keras
import numpy as np
import pytest
from conftest import numpy, one_line, tiny_images, tiny_model
from PIL import Image

import widenet_keras
from widenet_keras.data import (
    Augmentation,
    evaluation_batches,
    open_source,
    training_batches,
    write_tfrecords,
)
from widenet_keras.data.classes import facts_of
from widenet_keras.data.labelled import labelled_batches
from widenet_keras.evaluation import evaluate_classifier
from widenet_keras.inference.images import read_pixels
from widenet_keras.inference.keras_file import KerasPredictor, named_classifier
from widenet_keras.models.class_names import same_classes
from widenet_keras.models.preprocessing import Preprocessing, usual_preprocessing
from widenet_keras.runs.run import Run

NAMES = ("ant", "bee", "cat", "dog", "eel")
COLOURS = dict(zip(NAMES, np.eye(5, 3) * 200 + 20 * np.arange(5)[:, None], strict=True))
STILL = Augmentation(crop="none", flip=False, randaugment_ops=0, mixup=0, smoothing=0)
SQUASH = Preprocessing(crop_mode="squash", crop_pct=1.0)


def named_model(**fields):
    model = tiny_model(**fields)
    model.class_names = NAMES
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Returns class folders of one colour each, two images of each class."""
    root = tmp_path_factory.mktemp("names")
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for index in range(2):
            pixels = np.full((16, 24, 3), colour + index, "uint8")
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def renamed(folders, tmp_path, old, new):
    copy = tmp_path / "data"
    shutil.copytree(folders, copy)
    (copy / old).rename(copy / new)
    return copy


def labels_of(model, data):
    batches, names, _ = labelled_batches(model, str(data), "train", None, 4, "raise")
    labels = np.concatenate([numpy(labels) for _, labels in batches])
    return [names[label] for label in labels.argmax(axis=1)]


def test_data_are_mapped_by_name(folders, tmp_path):
    model = named_model()
    model.class_names = NAMES[::-1]
    in_order = [name for name in NAMES for _ in range(2)]
    assert labels_of(model, folders) == in_order
    # Some of the classes are enough.
    some = tmp_path / "some"
    for name in ("dog", "bee"):
        shutil.copytree(folders / name, some / name)
    assert labels_of(model, some) == ["bee", "bee", "dog", "dog"]


def test_an_unknown_class_is_refused_with_the_nearest_name(folders, tmp_path):
    data = renamed(folders, tmp_path, "dog", "Dog")
    with pytest.raises(ValueError, match="'Dog' is none") as error:
        labels_of(named_model(), data)
    line = one_line(error)
    for piece in ("ant, bee, cat, dog, eel", "Did you mean 'dog'?"):
        assert piece in line, line


def test_an_accent_may_be_a_character_of_its_own():
    assert same_classes(["caf\u00e9", "b"], ["b", "cafe\u0301"])


def test_a_model_without_names_takes_as_many_classes_in_order(folders, tmp_path):
    model = tiny_model()
    _, names, said = labelled_batches(model, str(folders), "train", None, 4, "raise")
    assert names == NAMES
    assert "no class names" in said
    shutil.copytree(folders / "ant", tmp_path / "some" / "ant")
    shutil.copytree(folders / "bee", tmp_path / "some" / "bee")
    with pytest.raises(ValueError, match="2 classes and the model has 5"):
        labels_of(model, tmp_path / "some")


def test_numbers_are_the_names_of_data_without_any(tmp_path):
    images = np.zeros((3, 8, 8, 3), "uint8")
    np.savez(tmp_path / "x.npz", x_train=images, y_train=[0, 2, 1])
    assert labels_of(named_model(), tmp_path / "x.npz") == ["ant", "cat", "bee"]
    np.savez(tmp_path / "y.npz", x_train=images, y_train=[0, 5, 1])
    with pytest.raises(ValueError, match="6 classes and the model has 5"):
        labels_of(named_model(), tmp_path / "y.npz")


def test_labels_of_records_are_mapped(folders, tmp_path):
    pytest.importorskip("tensorflow")
    write_tfrecords(folders, tmp_path, 2)
    model = named_model()
    model.class_names = NAMES[::-1]
    found = labels_of(model, tmp_path)
    assert sorted(found) == sorted(name for name in NAMES for _ in range(2))
    colours = {tuple(numpy(i[0, 0])): n for n, i in seen(model, tmp_path)}
    for name, image in seen(model, folders):
        assert colours[tuple(numpy(image[0, 0]))] == name


def seen(model, data):
    batches, names, _ = labelled_batches(model, str(data), "train", None, 4, "raise")
    for images, labels in batches:
        for image, label in zip(numpy(images), numpy(labels), strict=True):
            yield names[label.argmax()], image


def test_files_know_names_and_preprocessing(tmp_path):
    model = named_model()
    model.preprocessing = Preprocessing(crop_pct=0.5)
    model.trained_on = "ten photos"
    model.save(tmp_path / "best.keras")
    model.with_image_size(16).save(tmp_path / "large.keras")
    for name in ("best.keras", "large.keras"):
        predictor = KerasPredictor(tmp_path / name)
        assert predictor.class_names == list(NAMES)
        assert predictor.preprocessing == Preprocessing(crop_pct=0.5)
        assert predictor.manifest["trained_on"] == "ten photos"


def test_files_without_names_take_those_beside_them(tmp_path):
    tiny_model().save(tmp_path / "model.keras")
    assert named_classifier(tmp_path / "model.keras").class_names is None
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    assert named_classifier(tmp_path / "model.keras").class_names == NAMES
    # What is in the file stands.
    named = tiny_model()
    named.class_names = NAMES[::-1]
    named.save(tmp_path / "model.keras")
    assert named_classifier(tmp_path / "model.keras").class_names == NAMES[::-1]


def test_an_export_keeps_the_names_of_the_model(folders, tmp_path):
    pytest.importorskip("tyro")
    from widenet_keras.cli.main import main

    named_model().save(tmp_path / "model.keras")
    data = renamed(folders, tmp_path, "dog", "eel2")
    command = ["export", str(tmp_path / "model.keras"), "--format", "keras", "--data"]
    output = ["--split", "train", "--output", str(tmp_path / "out.keras")]
    with pytest.raises(SystemExit):
        main([*command, str(data), *output])
    assert not (tmp_path / "out.keras").exists()
    shutil.rmtree(data / "eel2")
    main([*command, str(data), *output])
    assert KerasPredictor(tmp_path / "out.keras").class_names == list(NAMES)


@pytest.mark.parametrize(
    ("names", "piece"),
    [
        (["a"] * 5, "'a' stands in class_names more than once"),
        (["a", "b"], "2 class_names for 5 classes"),
        (["a", "b", "c", "d", " "], "is empty"),
        ("abcde", "give a list"),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(names, piece, tmp_path):
    model = tiny_model()
    with pytest.raises(ValueError, match=piece) as error:
        model.class_names = names
    one_line(error)
    with pytest.raises(ValueError, match=piece):
        widenet_keras.export(
            model, tmp_path / "x.keras", "keras", class_names=names, say=str
        )


def test_fine_tuning_keeps_the_last_layer_for_the_same_classes_only():
    model = named_model()
    kernel = numpy(model.head.logits.weights[0])

    def kept(**fields):
        other = model.adapted(**fields)
        weights = numpy(other.head.logits.weights[0])
        same = weights.shape == kernel.shape and (weights == kernel).all()
        return same, other.class_names

    assert kept() == (True, NAMES)
    assert kept(class_names=NAMES[::-1]) == (True, NAMES)
    others = ("ant", "bee", "cat", "dog", "fox")
    assert kept(class_names=others) == (False, others)
    assert kept(class_names=NAMES[:3]) == (False, NAMES[:3])
    assert kept(num_classes=7) == (False, None)
    model.class_names = None
    assert kept(class_names=NAMES) == (True, NAMES)


def test_a_run_knows_its_data_again(folders, tmp_path):

    def facts(data):
        source = open_source(data, "train")
        return {"seed": 0, **facts_of(source, source)}

    Run(tmp_path / "run", facts(folders))
    Run(tmp_path / "run", facts(folders))
    more = tmp_path / "more"
    shutil.copytree(folders, more)
    shutil.copy(more / "ant" / "0.png", more / "ant" / "2.png")
    with pytest.raises(ValueError, match=r"train_data.images=10 and this one has 11"):
        Run(tmp_path / "run", facts(more))
    data = renamed(folders, tmp_path, "dog", "Dog")
    with pytest.raises(ValueError, match=r"classes=\['dog'\], .* and .* has \['Dog'\]"):
        Run(tmp_path / "run", facts(data))
    # Runs of version 0.1.0 noted nothing of their data.
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    old = {"seed": settings["seed"]}
    (tmp_path / "run" / "settings.json").write_text(json.dumps(old))
    Run(tmp_path / "run", facts(folders))


@pytest.mark.parametrize("crop", ["pad", "none", "inception"])
def test_evaluation_takes_what_training_sees(crop):
    found = Augmentation(crop=crop).preprocessing(64)
    assert found == (Preprocessing() if crop == "inception" else SQUASH)
    small = Augmentation(crop=crop).preprocessing(32)
    assert small == (Preprocessing(crop_pct=1.0) if crop == "inception" else SQUASH)


def test_the_rim_of_a_wide_photo_is_seen_where_it_was_trained_on(tmp_path):
    # Red at the left, blue at the right, nothing in the middle.
    pixels = np.zeros((64, 128, 3), "uint8")
    pixels[:, :32, 0] = pixels[:, -32:, 2] = 255
    (tmp_path / "photo").mkdir()
    (tmp_path / "other").mkdir()
    for folder in ("photo", "other"):
        Image.fromarray(pixels).save(tmp_path / folder / "0.png")
    rim = {}
    cubic = Preprocessing(interpolation="bicubic", antialias=True)
    for name, taken in {"squash": SQUASH, "center": cubic}.items():
        found = read_pixels(tmp_path / "photo" / "0.png", (64, 64, 3), taken)
        rim[name] = (found[:, 0, 0].mean(), found[:, -1, 2].mean())
        source = open_source(tmp_path, "train")
        batches = evaluation_batches(source, 64, 3, 2, 2, preprocessing=taken)
        images, _ = next(iter(batches))
        expected = (np.rint((numpy(images)[0] + 1) * 127.5)).astype("uint8")
        np.testing.assert_array_equal(expected, found)
        stream = training_batches(source, 64, 3, 2, 2, STILL, preprocessing=taken)
        trained, _ = next(iter(stream.from_batch(0)))
        np.testing.assert_array_equal(trained, images)
    assert rim == {"squash": (255, 255), "center": (0, 0)}


def test_what_is_taken_is_said_in_words():
    assert usual_preprocessing(64).in_words(64) == (
        "the square in the middle, 0.875 of the short side; resized to 64x64 "
        "(bilinear); pixels / 127.5 - 1"
    )
    assert SQUASH.in_words(32).startswith("the whole image, whatever its shape;")
    cubic = Preprocessing(crop_pct=0.9, interpolation="bicubic", antialias=True)
    assert "resized to 224x224 (bicubic, antialiased);" in cubic.in_words(224)
    for taken in (SQUASH, Preprocessing(crop_pct=0.9), cubic):
        assert Preprocessing.from_dict(taken.to_dict()) == taken
    # As manifests of version 0.1.0 have it, and those of the next.
    assert Preprocessing.from_dict({"crop": 1.0}) == SQUASH
    earlier = {"crop": 0.9, "crop_mode": "center", "resize": "bilinear"}
    assert Preprocessing.from_dict(earlier) == Preprocessing(crop_pct=0.9)
    assert Preprocessing.from_dict({"crop": 0.875}) == Preprocessing()
    for wrong in (
        {"crop_pct": 0},
        {"crop_mode": "squash"},
        {"crop_mode": "border"},
        {"interpolation": "box"},
        {"antialias": 1},
    ):
        with pytest.raises(ValueError, match=f"Preprocessing: {next(iter(wrong))}"):
            Preprocessing(**wrong)


def test_an_evaluation_names_the_classes_of_the_model():
    model = named_model()
    labels = np.array([0, 1, 2, 3])
    found = evaluate_classifier(model, [(tiny_images(4), labels)], progress=False)
    assert [each.name for each in found.classes] == list(NAMES)


def test_predict_says_what_it_takes(folders, tmp_path, capsys):
    pytest.importorskip("tyro")
    from widenet_keras.cli.main import main

    model = named_model()
    # Not what so small a model has if nobody says it.
    model.preprocessing = Preprocessing(crop_pct=0.5)
    assert model.preprocessing != named_model().preprocessing
    model.save(tmp_path / "best.keras")
    photo = str(folders / "ant" / "0.png")
    main(["predict", photo, "--model", str(tmp_path / "best.keras"), "--verbose"])
    printed = capsys.readouterr().out
    for piece in (
        "ant, bee, cat",
        model.preprocessing.in_words(12),
        "trained on: nobody said",
    ):
        assert piece in printed
    assert any(f"{name} 0." in printed for name in NAMES)


def test_keras_reloads_them():
    model = named_model()
    model.preprocessing = Preprocessing(crop_pct=0.5)
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(model)
    )
    assert (copy.class_names, copy.preprocessing) == (NAMES, model.preprocessing)
