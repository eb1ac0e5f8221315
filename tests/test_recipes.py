"""The recipes as people run them, on a handful of images."""

import contextlib
import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, slow, tiny_model
from matplotlib.image import imsave
from pictures import noisy_folders, stored_by_tfds

pytest.importorskip("tyro")

import widenet_keras
from widenet_keras.cli.main import main
from widenet_keras.data import labelled, open_source, write_tfrecords
from widenet_keras.distribution.single import Replicated
from widenet_keras.inference.predictor import Predictor
from widenet_keras.models.preprocessing import Preprocessing
from widenet_keras.runs.checkpoints import Checkpoints
from widenet_keras.runs.recipe import train
from widenet_keras.training.terms_options import Terms
from widenet_keras.utils.command_line import parse, run_command
from widenet_keras.utils.roles import role_of

ROOT = Path(__file__).parents[1]
# 16 pixels, 4 patches; small enough to compile quickly.
TINY = "image_size 16 patch_size 8 width 12 steps 2 heads 3 expert_dim 14 channels 3"
QUICK = [
    "--batch-size",
    "4",
    "--epochs",
    "2",
    "--warmup-epochs",
    "1",
    "--randaugment-ops",
    "0",
]


def recipe(name):
    """Returns a recipe as a module."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, ROOT / "recipes" / f"{name}.py"
        )
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def run(name, *arguments):
    """Runs a recipe as its command line would."""
    module = recipe(name)
    run_command(train, module.Recipe, name, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """An .npz file of 12 and 6 images in 3 classes."""
    path = tmp_path_factory.mktemp("data") / "set.npz"
    random = np.random.default_rng(0)
    np.savez(
        path,
        x_train=random.integers(0, 256, (12, 20, 20, 3), "uint8"),
        y_train=np.arange(12) % 3,
        x_test=random.integers(0, 256, (6, 20, 20, 3), "uint8"),
        y_test=np.arange(6) % 3,
    )
    return path


def weights(path):
    return [numpy(w) for w in widenet_keras.load_model(path).weights]


class Killed(BaseException):
    pass


def run_killed_after_an_epoch(*arguments):
    """Runs the ImageNet recipe until its first epoch is saved, and no further."""
    save = Checkpoints.on_epoch_end

    def save_and_die(self, *values):
        save(self, *values)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "on_epoch_end", save_and_die)
        with pytest.raises(Killed):
            run("imagenet", *arguments)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Class folders of 12 and 6 images in 3 classes."""
    return noisy_folders(tmp_path_factory.mktemp("folders"), train=12, validation=6)


@contextlib.contextmanager
def data_of(kind, arrays, folders, tmp_path):
    """Context in which there are data of a kind; yields the flags that name them."""
    if kind == "tfrecords":
        for part in ("train", "validation"):
            write_tfrecords(folders, tmp_path / "shards", 2, split=part)
        yield ["--data", tmp_path / "shards"]
    elif kind == "tfds":
        stored_by_tfds(folders, tmp_path, "my_folders")
        yield ["--data", "tfds:my_folders", "--data-dir", tmp_path]
    elif kind == "mock":
        tfds = pytest.importorskip("tensorflow_datasets")
        with tfds.testing.mock_data(num_examples=12):
            yield ["--data", "tfds:imagenet2012", "--data-dir", tmp_path]
    else:
        yield ["--data", {"arrays": arrays, "folders": folders}[kind]]


KINDS = ("arrays", "folders", "tfrecords", "tfds", "mock")
# Arrays and one kind of files; the recipe is the same on every backend, and quickest
# where nothing is compiled.
WHOLE_RUNS = [slow(kind, when=BACKEND != "torch" or kind != "arrays") for kind in KINDS]


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("kind", WHOLE_RUNS)
def test_the_imagenet_recipe_goes_on_where_it_was_killed(
    kind, tmp_path, arrays, folders, capsys
):
    with data_of(kind, arrays, folders, tmp_path) as data:
        check_going_on(tmp_path, [*data, "--fields", *TINY.split(), *QUICK], capsys)


def check_going_on(tmp_path, arguments, capsys):
    run("imagenet", *arguments, "--output", tmp_path / "whole")
    printed = capsys.readouterr().out
    assert "2 epochs of 3 batches of 4 images" in printed
    assert "test accuracy: " in printed
    one = [*arguments, "--output", tmp_path / "run"]
    run_killed_after_an_epoch(*one)
    run("imagenet", *one)
    assert "going on after epoch 1 of 2" in capsys.readouterr().out
    whole, again = (weights(tmp_path / n / "model.keras") for n in ("whole", "run"))
    for ours, theirs in zip(again, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
        assert BACKEND == "torch" or (ours == theirs).all()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 <= metrics["accuracy"] <= 1
    # What `widenet predict` names the classes by.
    labels = (tmp_path / "run" / "labels.txt").read_text().splitlines()
    assert len(set(labels)) == len(labels) >= 3
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for name in ("val_accuracy", "balance_loss", "learning_rate", "images_per_second"):
        assert float(rows[0][name]) >= 0
    # After one epoch the warm-up is over; after two the rate is the final one.
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == pytest.approx([0.01, 1e-5], rel=1e-3)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Files of a teacher that fits `TINY` and of some that do not."""
    folder = tmp_path_factory.mktemp("teachers")
    size = {"image_size": 16, "patch_size": 8}
    for name, fields in {
        "fits": {"num_classes": 3, **size},
        "other": {"num_classes": 3, **size},
        "classes": {"num_classes": 4, **size},
        "larger": {"num_classes": 3, "image_size": 24, "patch_size": 8},
    }.items():
        tiny_model("vit", **fields).save(folder / f"{name}.keras")
    return folder


# Of many kinds, a bank and dropout of their own among it.
PIECES = [
    {"kind": "lora", "rank": 2},
    {"kind": "bottleneck", "rank": 2, "bank": 2},
    {"kind": "prompt", "count": 2},
    {"kind": "key_value_prompt", "count": 1},
    {"kind": "relative_keys"},
    {"kind": "head_mix"},
]


@pytest.mark.slow
def test_a_run_with_a_teacher_goes_on_with_it_alone(tmp_path, arrays, teachers, capsys):
    given = ["--data", arrays, "--fields", *TINY.split(), "pieces", str(PIECES), *QUICK]
    given += ["--alpha", "0.5", "--consistency", "0.5", "--frozen", "embedding"]
    given += ["--relation", "1", "--hidden", "0.1", "--relation-heads", "2"]
    teacher = ["--teacher", teachers / "fits.keras"]
    check_going_on(tmp_path, [*given, *teacher], capsys)
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    names = {f"{name}distillation_loss" for name in ("", "relation_", "hidden_")}
    assert names | {"consistency_loss"} <= set(rows[0].split(","))
    # A copy of the teacher is the teacher.
    copy = tmp_path / "copy.keras"
    copy.write_bytes((teachers / "fits.keras").read_bytes())
    one = [*given, "--output", tmp_path / "run"]
    run("imagenet", *one, "--teacher", copy)
    assert "going on after epoch 2 of 2" in capsys.readouterr().out
    for other, words in {
        ("--teacher", teachers / "other.keras"): "is of a run with teacher='",
        ("--teacher", copy, "--kind", "hard"): "with kind='soft' and this one has 'ha",
        ("--teacher", copy, "--alpha", "0.6"): "with alpha=0.5 and this one has 0.6",
        ("--teacher", copy, "--consistency", "0"): "with consistency=0.5",
        ("--teacher", copy, "--hidden", "0"): "with hidden=0.1",
        ("--teacher", copy, "--frozen"): "with frozen=['embedding']",
    }.items():
        with pytest.raises(SystemExit):
            run("imagenet", *one, *other)
        [line] = capsys.readouterr().err.splitlines()
        assert words in line


def test_what_is_not_asked_for_is_no_setting(tmp_path, teachers):
    # Runs of earlier versions have none of these.
    names = {"terms", "teacher", "alpha", "temperature", "kind", "consistency"}
    tokens = {"relation", "hidden", "relation_heads"}
    for name in ("imagenet", "cifar10", "transfer"):
        given = {"data": "", "output": tmp_path}
        given |= {"weights": "model.keras"} if name == "transfer" else {}
        module = recipe(name)
        settings = module.Recipe(**given).settings()
        assert not (names | tokens) & settings.keys()
        assert ("frozen" in settings) == (name == "transfer")
        terms = Terms(teacher=teachers / "fits.keras", alpha=0.5)
        settings = module.Recipe(**given, terms=terms).settings()
        found = (names | tokens) & settings.keys()
        assert found == names - {"terms", "consistency"}
        assert len(settings["teacher"]) == 64


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--teacher", "classes"], "classes.keras: Distillation: the teacher has 4"),
        (["--teacher", "larger"], "give teacher.with_image_size(16)"),
        (["--teacher", "nowhere"], "nowhere.keras does not exist"),
        (["--alpha", "0.5"], "alpha=0.5 is of a teacher and there is none"),
        (["--relation", "1"], "relation=1.0 is of a teacher and there is none"),
        (["--teacher", "fits", "--alpha", "2"], "alpha=2.0 must be a number from 0"),
        (["--consistency", "-1"], "consistency=-1.0 must be a number"),
        (["--frozen", "heads"], "Did you mean 'head'"),
    ],
)
def test_terms_that_do_not_fit_are_told_before_training(
    flags, words, tmp_path, arrays, teachers, capsys
):
    if flags[0] == "--teacher":
        flags = ["--teacher", teachers / f"{flags[1]}.keras", *flags[2:]]
    given = ["--data", arrays, "--output", tmp_path / "run", "--batch-size", "4"]
    with pytest.raises(SystemExit):
        run("cifar10", *given, "--fields", *TINY.split(), *flags)
    [line] = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (tmp_path / "run").exists()


def test_a_dry_run_shows_and_leaves_nothing(tmp_path, arrays, capsys):
    output = tmp_path / "run"
    for name in ("imagenet", "cifar10"):
        run(
            name,
            *["--data", arrays, "--output", output, "--dry-run"],
            *["--batch-size", "4", "--fields", *TINY.split()],
        )
        printed = capsys.readouterr().out
        assert "parameters" in printed
        assert "12 images" in printed
        assert "epochs of 3 batches of 4 images" in printed
        assert not output.exists()


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_reads_every_kind_of_data(kind, tmp_path, arrays, folders, capsys):
    with data_of(kind, arrays, folders, tmp_path) as data:
        options = ["--output", tmp_path / "run", "--dry-run", "--batch-size", "4"]
        run("imagenet", *data, *options, "--fields", *TINY.split())
    # TFDS makes twelve images up for every part of its mock.
    assert "epochs of 3 batches of 4 images" in capsys.readouterr().out


def test_an_epoch_is_no_longer_than_the_run(tmp_path, arrays, capsys):
    given = ["--data", arrays, "--output", tmp_path / "run", "--epochs", "2"]
    given += ["--batch-size", "4", "--fields", *TINY.split(), "--epoch-batches"]
    for batches, words in {4: "2 epochs of 4 batches", 6: "1 epochs of 6"}.items():
        run("imagenet", *given, batches, "--dry-run")
        assert words in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("imagenet", *given, 7, "--dry-run")
    [line] = capsys.readouterr().err.splitlines()
    assert "epoch_batches=7 and epochs=2 are 6 batches in all" in line


def test_a_batch_that_devices_cannot_share_leaves_no_run(
    tmp_path, arrays, capsys, monkeypatch
):
    three = Replicated("3 devices", 3)
    monkeypatch.setattr("widenet_keras.runs.recipe.distribute", lambda *given: three)
    with pytest.raises(SystemExit):
        run(
            "imagenet",
            *["--data", arrays, "--output", tmp_path / "run", "--warmup-epochs", "0"],
            *["--batch-size", "4", "--fields", *TINY.split()],
        )
    [line] = capsys.readouterr().err.splitlines()
    assert "batch_size=4 does not split evenly over 3 devices" in line
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_kind_is_told_in_one_line(tmp_path, arrays, capsys):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.save(tmp_path / "plain.keras")
    with pytest.raises(SystemExit):
        run(
            "cifar10",
            *["--data", arrays, "--output", tmp_path / "run"],
            *["--checkpoint", tmp_path / "plain.keras"],
        )
    [line] = capsys.readouterr().err.splitlines()
    assert "plain.keras is a Sequential and not a classifier" in line


def test_a_broken_image_to_validate_on_is_told_in_one_line(tmp_path, capsys):
    for part in ("train", "validation"):
        for name in ("a/1.jpg", "b/2.jpg"):
            (tmp_path / part / name).parent.mkdir(parents=True)
            (tmp_path / part / name).write_bytes(b"no picture")
    with pytest.raises(SystemExit):
        run(
            "imagenet",
            *["--data", tmp_path, "--output", tmp_path / "run", "--batch-size", "2"],
            *["--epochs", "1", "--warmup-epochs", "0", "--fields", *TINY.split()],
        )
    [line] = capsys.readouterr().err.splitlines()
    assert "The image a/1.jpg cannot be read" in line


def test_fine_tuning_at_another_resolution(tmp_path, arrays, capsys):
    config = widenet_keras.preset_config("widenet_digits", num_classes=7, channels=3)
    model = widenet_keras.ImageClassifier(config.replace(width=12, expert_dim=14))
    model.save(tmp_path / "pre.keras")
    run(
        "cifar10",
        *["--data", arrays, "--output", tmp_path / "run", "--epochs", "1"],
        *["--checkpoint", tmp_path / "pre.keras", "--batch-size", "6"],
        *["--fields", "image_size", "12", "dropout", "0.1", "--warmup-epochs", "0"],
        *["--optimizer", "sgd", "--learning-rate", "0.03", "--weight-decay", "0"],
        *[
            "--mixup",
            "0.5",
            "--smoothing",
            "0",
            "--rates",
            "core",
            "0.0",
            "norms",
            "0.0",
            "embedding",
            "0.0",
        ],
    )
    tuned = widenet_keras.load_model(tmp_path / "run" / "model.keras")
    assert tuned.config.image_size == 12
    assert tuned.config.num_classes == 3
    assert tuned.config.dropout == 0.1
    # Frozen groups keep their weights; the head was trained.
    old = {w.path.split("/", 1)[1]: numpy(w) for w in model.weights}
    for weight in tuned.weights:
        path = weight.path.split("/", 1)[1]
        if path.startswith("encoder"):
            np.testing.assert_array_equal(numpy(weight), old[path])
    assert (
        numpy(tuned.head.representation_layer.kernel)
        != old["head/representation/kernel"]
    ).any()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A ViT with weights of its own, in a file of timm and in one of ours."""
    model = tiny_model("vit", num_classes=3, representation=False, activation="gelu")
    model.preprocessing = Preprocessing(crop_pct=0.9)
    model.class_names = ("cat", "dog", "owl")
    folder = tmp_path_factory.mktemp("trained")
    widenet_keras.to_timm(model, folder / "model.safetensors")
    model.save(folder / "model.keras")
    return model, folder


def test_a_folder_of_a_preset_is_taken_to_other_classes(tmp_path):
    config = widenet_keras.preset_config("widenet_digits", num_classes=3, channels=3)
    model = widenet_keras.ImageClassifier(config.replace(width=12, expert_dim=14))
    model.class_names = ["x", "y", "z"]
    model.save_to_preset(tmp_path / "saved")
    words = ["--data", "digits", "--output", "run", "--seed", "7"]
    words += ["--preset", str(tmp_path / "saved"), "--fields", "dropout", "0.1"]
    made = parse(recipe("cifar10").Recipe, words, "")
    classes = SimpleNamespace(num_classes=3, class_names=("a", "b", "c"), named=True)
    started = made.starting_model(classes)
    assert started.class_names == ("a", "b", "c")
    assert (started.seed, started.config.dropout) == (7, 0.1)
    pairs = zip(started.weights, model.weights, strict=True)
    anew = {one.path for one, old in pairs if (numpy(one) != numpy(old)).any()}
    assert anew == {path for path in anew if "logits" in path} != set()


LEARNS = {
    ("--train", "probe"): {"logits"},
    ("--train", "norms_and_head"): {"norms", "head", "logits"},
    ("--frozen", "core", "norms"): {"embedding", "head", "logits"},
}


# One of them in every run; all start a pipeline.
WAYS = [slow(flags, when="probe" not in flags) for flags in LEARNS]


@pytest.mark.parametrize("flags", WAYS, ids=" ".join)
def test_a_model_is_taken_to_other_images(flags, tmp_path, trained):
    model, folder = trained
    # Grey images of a model that takes colour, and as many classes as it has.
    random = np.random.default_rng(0)
    pixels, labels = random.integers(0, 256, (12, 20, 26), "uint8"), np.arange(12) % 3
    arrays = {"x_train": pixels, "y_train": labels, "x_test": pixels, "y_test": labels}
    np.savez(tmp_path / "grey.npz", **arrays)
    name = "model.safetensors" if "probe" in flags else "model.keras"
    run(
        "transfer",
        *["--weights", folder / name, "--data", tmp_path / "grey.npz", *flags],
        *["--output", tmp_path / "run", "--train-images", "8", "--batch-size", "4"],
        *["--epochs", "1", "--learning-rate", "0.1"],
    )
    tuned = widenet_keras.load_model(tmp_path / "run" / "model.keras")
    assert tuned.class_names is None
    # What timm's file says comes along.
    wanted = Preprocessing(crop_pct=0.9, antialias="probe" in flags)
    assert tuned.preprocessing == wanted
    assert tuned.trained_on.startswith("8 of 12 images 20x26x1")
    changed = {
        "logits" if "/logits/" in weight.path else role_of(weight).group
        for weight, old in zip(tuned.weights, model.weights, strict=True)
        if (abs(numpy(weight) - numpy(old)) > 1e-5).any()
    }
    assert changed == LEARNS[flags]
    assert (tmp_path / "run" / "metrics.json").exists()


def test_a_model_from_nothing_has_its_form_alone(trained, arrays, tmp_path):
    model, folder = trained
    module = recipe("transfer")
    given = {"weights": str(folder / "model.keras"), "data": "", "output": tmp_path}
    data = open_source(arrays, "train")
    fresh = module.Recipe(**given, train="from_nothing").starting_model(data)
    assert fresh.config == model.config
    assert fresh.preprocessing == model.preprocessing
    kernel = fresh.embedding.weights[0]
    assert not np.allclose(numpy(kernel), numpy(model.embedding.weights[0]), atol=0.01)


def test_what_learns_is_said_once(trained, arrays, tmp_path, capsys):
    given = ["--weights", trained[1] / "model.keras", "--data", arrays]
    given += ["--output", tmp_path / "run", "--batch-size", "4"]
    for flags, words in {
        ("--train", "probe", "--frozen", "norms"): "leave one out",
        ("--frozen", "heads"): "Did you mean 'head'",
        ("--frozen", "head"): "give frozen=... without 'head'",
    }.items():
        with pytest.raises(SystemExit):
            run("transfer", *given, *flags)
        [line] = capsys.readouterr().err.splitlines()
        assert words in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nonsense", "1"], "nonsense"),
        (["--epochs", "none"], "--epochs"),
        (["--learning-rate", "-1"], "learning_rate=-1.0 must be a number"),
        (["--mixup", "nan"], "mixup=nan"),
        (["--rates", "heads", "1"], "Did you mean 'head'"),
        (["--fields", "stepps", "3"], "Did you mean 'steps'"),
        (["--fields", "width", "13"], "not divisible by heads"),
        (["--fields", "num_classes", "3"], "num_classes cannot be set here"),
        (["--fields", "seed", "3"], "There is no field 'seed'"),
        (["--fields", "steps", "{[]}"], "steps='{[]}'"),
        (["--preset", "widenet_b17"], "Did you mean 'widenet_b16'"),
        (["--batch-size", "0"], "batch_size=0"),
        (["--batch-size", "13"], "at most 12"),
        (["--warmup-epochs", "9", "--epochs", "2"], "warmup_batches=27"),
        (["--epochs", "0"], "epochs=0 must be a whole number >= 1"),
        (["--data", "nowhere"], "nowhere does not exist"),
        (["--data", ""], "one of the words is empty"),
        (["--output=", "--dry-run"], "one of the words is empty"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, arrays, capsys, arguments, words):
    given = ["--data", arrays, "--output", tmp_path / "run", "--batch-size", "4"]
    given += ["--preset", "widenet_digits", *arguments]
    with pytest.raises(SystemExit) as end:
        run("imagenet", *given)
    assert end.value.code in (1, 2)
    [line] = capsys.readouterr().err.splitlines()
    assert words in line


def digits(monkeypatch, output):
    """Runs the recipe of the digits with one epoch."""
    monkeypatch.setattr(
        sys, "argv", ["digits.py", "--epochs", "1", "--output-dir", str(output)]
    )
    made = recipe("digits")
    made.main(made.parse_arguments())


def test_the_digits_try_their_output_before_they_train(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(recipe("digits"), "train", None)
    with pytest.raises(ValueError, match="is a file; give the path of a folder"):
        digits(monkeypatch, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_model_of_the_digits_is_kept_when_an_export_fails(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    model = widenet_keras.ImageClassifier.from_preset("widenet_digits")
    trained = lambda *args: (model, {"loss": [1.0]})  # noqa: E731
    monkeypatch.setattr(recipe("digits"), "train", trained)

    def fails(*args, **kwargs):
        raise OSError("the disk is full")

    monkeypatch.setattr(widenet_keras, "export", fails)
    with pytest.raises(OSError, match="the disk is full"):
        digits(monkeypatch, tmp_path)
    found = weights(tmp_path / "model.keras")
    for ours, theirs in zip(found, model.weights, strict=True):
        np.testing.assert_array_equal(ours, numpy(theirs))


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--data", "digits", "--output", "{file}/new"],
        ["export", "--data", "digits", "--format", "onnx", "--output", "{file}/a.onnx"],
        ["export", "--data", "digits", "--format", "saved_model", "--output", "{long}"],
        ["export", "--data", "digits", "--format", "keras", "--output", "{folder}"],
        ["predict", "--explain", "{file}/new.png", "{image}", "--model"],
        ["predict", "--explain", "{picture}", "{image}", "--model"],
    ],
    ids=str,
)
def test_commands_try_their_output_before_the_work(
    tmp_path, capsys, monkeypatch, arguments
):
    places = {"file": tmp_path / "file", "long": tmp_path / ("a" * 256)}
    places |= {"folder": tmp_path / "a.keras", "image": tmp_path / "image.png"}
    places["picture"] = tmp_path / "a.png"
    places["file"].write_text("mine")
    places["folder"].mkdir()
    places["picture"].mkdir()
    imsave(places["image"], np.zeros((8, 8)))
    # Neither is reached.
    monkeypatch.setattr(labelled, "labelled_batches", None)
    monkeypatch.setattr(Predictor, "probabilities", None)
    command, *rest = [each.format(**places) for each in arguments]
    model = str(ROOT / "saved_models" / "digits" / "model.keras")
    given = [*rest, model] if rest[-1] == "--model" else [model, *rest]
    with pytest.raises(SystemExit) as end:
        main([command, *given])
    assert end.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line or "is a folder" in line
    assert places["file"].read_text() == "mine"


@pytest.mark.slow
def test_a_run_is_made_longer(tmp_path, arrays, capsys):
    given = ["--data", arrays, "--output", tmp_path, "--fields", *TINY.split(), *QUICK]
    given += ["--warmup-epochs", 0, "--epochs"]
    run("cifar10", *given, 1)
    run("cifar10", *given, 2)
    words = "was a run of 1 epochs and is one of 2 now: from batch 3 on"
    assert words in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("cifar10", *given, 1)
    words = "2 epochs of 3 batches behind it and 1 were asked for"
    assert words in capsys.readouterr().err
    rows = (tmp_path / "history.csv").read_text().splitlines()
    assert [row[0] for row in rows[1:]] == ["1", "2"]
