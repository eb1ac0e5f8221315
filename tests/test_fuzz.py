"""Random configurations and command lines: one step of training, or one line."""

import traceback

import keras
import numpy as np
import pytest
from conftest import BACKEND, TINY, slow, tiny_images
from test_recipes import recipe

import widenet_keras
from widenet_keras.layers.pooling import POOLINGS
from widenet_keras.runs.recipe import train
from widenet_keras.utils.command_line import run_command

# torch steps at once; the others trace or compile each configuration.
CONFIGURATIONS = [80, slow(1000)] if BACKEND == "torch" else [slow(8)]
ANYTHING = (None, "", "x", -1, 0, 1, 2, 3, 4, 6, 8, 12, 0.0, 0.5, 1.0, True, (), [1])
NUMBERS = (0.0, 0.1, 0.5, 0.999, 1.0, 1, 2.5, -0.1, float("nan"), float("inf"))
FIELDS = {
    "image_size": (4, 8, 12, 16, 13),
    "channels": (1, 3, 4),
    "patch_size": (1, 2, 3, 4, 6, 12),
    "width": (6, 12, 24, 7),
    "steps": (1, 2, 3, 5),
    "heads": (1, 2, 3, 4, 5),
    "mlp_dim": (1, 10),
    "num_experts": (1, 2, 3, 4, 6),
    "expert_dim": (1, 14),
    "top_k": (1, 2, 3, 4, 5),
    "router": ("top_k", "grouped_top_1", "topk"),
    "router_noise": NUMBERS,
    "capacity_factor": (None, 0.01, 0.5, 1.0, 1.2, 4, 0, -1.0, float("nan")),
    "images_per_group": (1, 2, 3, 5),
    "moe_blocks": ("all", "none", (0,), (-1,), (-2, -1), (9,), [0], "last"),
    "sharing": ("none", "all", "sequence", "cycle", "alls"),
    "unique_blocks": (None, 1, 2, 3, 9),
    "shared_norms": (True, False),
    "activation": ("gelu_tanh", "gelu", "relu", "silu", "quick_gelu", "swish"),
    "output_activation": (None, "gelu_tanh", "none"),
    "class_token": (True, False),
    "pooling": ("mean", "token", *POOLINGS, "max"),
    "norm_epsilon": (1e-12, 1e-5, 1e-3, 1, 0, -1.0),
    "gated": (True, False),
    "embedding_norm": (True, False),
    "registers": (0, 1, 4, -1),
    "norm_after_pooling": (True, False),
    "paths": (1, 2, 3, 0),
    "cheap_features": ("none", "maximum", "minimum"),
    "representation": (True, False),
    "dropout": NUMBERS,
    "attention_dropout": NUMBERS,
    "stochastic_depth": NUMBERS,
    "num_classes": (1, 2, 5),
    "balance_loss_weight": NUMBERS,
    "router_z_loss_weight": NUMBERS,
    "engine": ("auto", "sorted", "slots", "one_hot", "all_experts", "fast"),
    "scan": ("auto", "always", "never", "yes"),
    "remat": ("full", "none", "some"),
    "hidden": (1,),
}


def draw(random, choices):
    return choices[random.integers(len(choices))]


def random_fields(random):
    names = list(FIELDS)
    chosen = random.choice(len(names), size=random.integers(1, 7), replace=False)
    wild = random.random() < 0.2
    return {
        names[i]: draw(random, ANYTHING if wild else FIELDS[names[i]]) for i in chosen
    }


def assert_told_in_one_line(error):
    """A refusal comes from this package, and is one line."""
    *_, last = traceback.extract_tb(error.__traceback__)
    assert "widenet_keras" in last.filename, "".join(traceback.format_exception(error))
    assert "\n" not in str(error)
    assert 15 < len(str(error)) < 700


@pytest.mark.parametrize("count", CONFIGURATIONS)
def test_configurations(count):
    random = np.random.default_rng(count)
    trained = refused = 0
    for _ in range(count):
        fields = {**TINY, "dropout": 0.1, **random_fields(random)}
        try:
            config = widenet_keras.WideNetConfig().replace(**fields)
        except ValueError as error:
            assert_told_in_one_line(error)
            refused += 1
            continue
        model = widenet_keras.ImageClassifier(config, seed=0)
        model.compile(keras.optimizers.SGD(1e-3), run_eagerly=BACKEND != "torch")
        images = tiny_images(3, config.image_size)
        images = np.resize(images, (3, *config.image_shape))
        history = model.fit(images, np.arange(3) % config.num_classes, verbose=0)
        assert np.isfinite(history.history["loss"][0]), fields
        trained += 1
    assert trained > 0 or count < 10
    assert refused > 0 or count < 10


FLAGS = {
    "--epochs": ("1", "0", "-1", "x"),
    "--batch-size": ("6", "5", "1", "0", "7", "1.5"),
    "--seed": ("1", "-1", "x"),
    "--optimizer": ("lamb", "adamw", "sgd", "adam"),
    "--learning-rate": ("0.001", "0", "-1", "nan", "x"),
    "--final-learning-rate": ("0", "1e-5", "-1"),
    "--warmup-epochs": ("0", "1", "0.5", "2", "-1"),
    "--decay": ("linear", "cosine", "constant", "step"),
    "--weight-decay": ("0", "0.1", "-0.1"),
    "--clip-norm": ("0", "1", "-1"),
    "--accumulate": ("1", "2", "0"),
    "--ema": ("0", "0.9", "1"),
    "--crop": ("inception", "pad", "none", "centre"),
    "--min-area": ("0.05", "1", "0", "2"),
    "--mixup": ("0", "0.5", "-1", "nan"),
    "--cutmix": ("0", "1", "-1"),
    "--erasing": ("0", "0.5", "1.5"),
    "--smoothing": ("0", "0.1", "1"),
    "--randaugment-ops": ("0", "2", "-1"),
    "--randaugment-magnitude": ("0", "15", "31"),
    "--beta-2": ("0.95", "1", "x"),
    "--epsilon": ("1e-8", "-1"),
    "--momentum": ("0", "1"),
    "--on-error": ("raise", "skip", "stop"),
    "--data-dir": ("nowhere",),
    "--epoch-batches": ("1", "2", "0"),
    "--precision": ("float32", "mixed_bfloat16", "float8"),
    "--checkpoint": ("nowhere.keras", "PLAIN", "DIGITS"),
    "--fields": (
        "num_classes 3",
        "seed 1",
        "steps 2 dropout 0",
        "steps {[]}",
        "width 12",
        "heads x",
        "engine one_hot",
        "image_size 12",
        "steps",
    ),
    "--preset": ("widenet_digits", "vit_digits", "vit_moe_digits", "widenet"),
    "--rates": ("head 0.1", "core 0 norms 0", "heads 1", "head"),
    "--nonsense": ("1",),
    "--flip": ("",),
    "--no-flip": ("",),
    "--dry-run": ("",),
}


def status_of(module, arguments):
    """Runs a recipe; returns its exit status."""
    try:
        run_command(train, module.Recipe, module.__name__, arguments)
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.parametrize("count", [8, slow(1000)])
def test_command_lines(count, tmp_path, capsys):
    random = np.random.default_rng(count)
    data = tmp_path / "set.npz"
    x = random.integers(0, 256, (6, 10, 10), "uint8")
    np.savez(data, x_train=x, y_train=np.arange(6), x_test=x, y_test=np.arange(6))
    # Files that flags name: a plain Keras model and one to go on from.
    files = {"PLAIN": tmp_path / "plain.keras", "DIGITS": tmp_path / "digits.keras"}
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)]).save(
        files["PLAIN"]
    )
    widenet_keras.ImageClassifier.from_preset("widenet_digits").save(files["DIGITS"])
    names, trained = list(FLAGS), 0
    for index in range(count):
        module, output = (
            recipe(("cifar10", "imagenet")[index % 2]),
            tmp_path / str(index),
        )
        arguments = ["--data", str(data), "--output", str(output)]
        arguments += ["--epochs", "1", "--batch-size", "6", "--warmup-epochs", "0"]
        arguments += ["--preset", "widenet_digits"]
        for i in random.choice(len(names), size=random.integers(1, 5), replace=False):
            words = draw(random, FLAGS[names[i]]).split()
            arguments += [names[i], *(str(files.get(word, word)) for word in words)]
        status = status_of(module, arguments)
        printed = capsys.readouterr().err.splitlines()
        finished = (output / "model.keras").exists()
        trained += finished
        if status:
            assert len(printed) == 1, (arguments, printed)
        else:
            assert finished or "--dry-run" in arguments, arguments
    assert trained > 0
