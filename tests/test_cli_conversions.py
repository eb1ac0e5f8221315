"""Commands that make one model of another: what they print, write and refuse."""

import dataclasses
import os
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import numpy, tiny_images, tiny_model
from test_cli import DIGITS, stopped

import widenet_keras

pytest.importorskip("tyro")

from widenet_keras.cli.main import main
from widenet_keras.cli.relax import Relax
from widenet_keras.data import labelled
from widenet_keras.models.weights import weights_by_path

NAMES = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a ViT of 12-pixel images, its class names in a file beside it."""
    folder = tmp_path_factory.mktemp("models")
    model = tiny_model("vit", steps=4)
    model.class_names = NAMES
    model.preprocessing = dataclasses.replace(
        model.preprocessing, interpolation="bicubic"
    )
    model.save(folder / "vit.keras")
    (folder / "labels.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def logits(path):
    """Returns the logits of a file's model, for some images."""
    model = widenet_keras.load_model(path)
    images = tiny_images(3, size=model.config.image_size)
    return numpy(model(images[..., : model.config.channels]))


def converted(capsys, *words):
    """Runs a command and returns what it printed."""
    main([str(word) for word in words])
    return capsys.readouterr().out


def test_there_and_back_again(folder, tmp_path, capsys):
    vit, relaxed = folder / "vit.keras", tmp_path / "new" / "relaxed.keras"
    printed = converted(capsys, "relax", vit, "--rank", 11, "--output", relaxed)
    assert "relax: rank 11 is lower where less is exact: hidden 10" in printed
    counts = re.findall(r"parameters {2,}(\S+)", printed)
    models = [widenet_keras.load_model(path) for path in (vit, relaxed)]
    before, after = (model.count_params() for model in models)
    assert counts == [f"{before:,}", f"{after:,}"]
    flops = np.divide(*(widenet_keras.forward_flops(m.config) for m in models[::-1]))
    ratios = f"after / before: {after / before:.3g} parameters, {flops:.3g} FLOPs"
    assert ratios in printed
    assert "exact: norms, biases, embedding and head" in printed
    assert f"written: {relaxed}, {relaxed.with_name('labels.txt')}" in printed
    untied = relaxed.with_name("untied.keras")
    printed = converted(capsys, "untie", relaxed, "--output", untied)
    # The list beside it is there already.
    assert printed.endswith(f"written: {untied}\n")
    apart = float(re.search(r"at most (\S+) of the largest", printed)[1])
    assert apart < 1e-5
    np.testing.assert_allclose(logits(untied), logits(relaxed), rtol=0, atol=1e-5)
    assert sorted(os.listdir(relaxed.parent)) == [
        "labels.txt",
        "relaxed.keras",
        "untied.keras",
    ]
    labels = relaxed.with_name("labels.txt").read_text().splitlines()
    model = widenet_keras.load_model(untied)
    assert model.class_names == tuple(labels) == NAMES
    assert model.preprocessing.interpolation == "bicubic"
    assert model.config == widenet_keras.load_model(vit).config


def test_a_trained_widenet_is_untied(tmp_path, capsys):
    output = tmp_path / "untied.keras"
    printed = converted(capsys, "untie", DIGITS, "--output", output)
    assert "exact: all answers" in printed
    wanted = logits(DIGITS)
    atol = 1e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(logits(output), wanted, rtol=0, atol=atol)


def test_blocks_are_tied(folder, tmp_path, capsys):
    output = tmp_path / "tied.keras"
    plan = ("--sharing", "cycle", "--unique-blocks", 2, "--base", "lower")
    experts = ("--moe-blocks", "all", "--num-experts", 2, "--top-k", 1)
    words = ("tie", folder / "vit.keras", *plan, *experts, "--output", output)
    assert "only where all blocks are equal" in converted(capsys, *words)
    before, after = map(widenet_keras.load_model, (folder / "vit.keras", output))
    assert (after.config.num_experts, after.config.top_k) == (2, 1)
    path = "encoder/block_1/attention/key/kernel"
    np.testing.assert_array_equal(
        *(numpy(weights_by_path(model)[path]) for model in (before, after))
    )


def test_banks_are_merged(tmp_path, capsys):
    vit, output = tmp_path / "vit.keras", tmp_path / "merged.keras"
    tiny_model("vit", pieces=[widenet_keras.Bottleneck(2, bank=3)]).save(vit)
    printed = converted(capsys, "merge", vit, "--output", output)
    assert "differ by at most 0.0e+00" in printed
    np.testing.assert_array_equal(logits(output), logits(vit))
    stopped(capsys, ["merge", str(output), "--output", str(vit)], 1, "nothing to merge")


def test_prompts_are_pruned(tmp_path, capsys):
    before, after = tmp_path / "tuned.keras", tmp_path / "pruned.keras"
    pieces = [widenet_keras.Prompt(4, segments=2)]
    widenet_keras.ImageClassifier.from_preset("vit_digits", pieces=pieces).save(before)
    printed = converted(
        capsys,
        *("prune-prompts", before, "--data", "digits", "--images", 40),
        *("--segments-keep", 0.5, "--start", before, "--output", after),
    )
    assert "importance on 40 images of 40 of digits, train" in printed
    [piece] = widenet_keras.load_model(after).config.pieces
    assert piece == widenet_keras.Prompt(2, segments=2)


def test_a_model_is_pruned(tmp_path, capsys):
    before, after = tmp_path / "vit.keras", tmp_path / "small.keras"
    widenet_keras.ImageClassifier.from_preset("vit_digits").save(before)
    printed = converted(
        capsys,
        *("prune", before, "--data", "digits", "--images", 40, "--target", 0.7),
        *("--measure", "parameters", "--multiple", 4, "--output", after),
    )
    assert "importance on 40 images of 40 of digits, train" in printed
    counts = [widenet_keras.load_model(path).count_params() for path in (before, after)]
    assert 0.65 < counts[1] / counts[0] <= 0.7
    assert f"after / before: {counts[1] / counts[0]:.3g} parameters" in printed
    assert re.search(r"right of these images: 0\.\d{3} before, 0\.\d{3} after", printed)


def test_prompts_that_are_not_there_are_told_before_images_are_read(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(labelled, "labelled_images", None)
    words = ["prune-prompts", str(folder / "vit.keras"), "--data", "digits"]
    words += ["--output", str(tmp_path / "new.keras")]
    said = "widenet prune-prompts: image_classifier"
    stopped(capsys, words, 1, said, "has no prompts")
    words = ["prune", *words[1:], "--target", "0.01"]
    stopped(capsys, words, 1, "widenet prune: target=0.01 of the flops of image_cl")


@pytest.mark.parametrize(
    ("options", "exact"),
    [({"rank": 0}, False), ({"rank": 2, "start": "zero"}, False), ({"rank": 2}, True)],
)
def test_what_is_exact_depends_on_what_was_asked_for(options, exact):
    command = Relax(model=Path("vit.keras"), output=Path("relaxed.keras"), **options)
    assert ("answers at full rank" in command.exact) == exact
    assert ("answers only where all blocks are equal" in command.exact) != exact


@pytest.mark.parametrize("how", ["itself", "a link", "a hard link"])
def test_the_model_is_not_overwritten(how, folder, tmp_path, capsys):
    model, output = tmp_path / "vit.keras", tmp_path / "other.keras"
    shutil.copy(folder / "vit.keras", model)
    if how == "itself":
        output = model
    elif how == "a link":
        output.symlink_to(model)
    else:
        os.link(model, output)
    before = model.read_bytes()
    words = ["relax", str(model), "--rank", "2", "--output", str(output)]
    stopped(capsys, words, 1, "is read itself", "--output")
    words = ["prune-prompts", str(folder / "vit.keras"), "--data", "digits"]
    words += ["--start", str(model), "--output", str(output)]
    stopped(capsys, words, 1, "is read itself", "--output")
    assert model.read_bytes() == before


def test_what_does_not_fit_is_one_line(folder, tmp_path, capsys):
    vit, output = str(folder / "vit.keras"), str(tmp_path / "new.keras")
    relax = ["relax", vit, "--output", output, "--rank"]
    prune = ["prune-prompts", vit, "--output", output, "--data", "digits"]
    smaller = ["prune", *prune[1:]]
    for words, status, *pieces in (
        ([*relax, "-1"], 2, "--rank -1", "at least 0"),
        ([*relax, "13"], 1, "widenet relax: rank=13 is more than 12"),
        ([*relax, "2", "--unique-blocks", "0"], 2, "--unique-blocks 0"),
        ([*relax, "2", "--sharing", "none"], 2, "--sharing"),
        (relax[:4], 2, "--rank"),
        (["relax", vit, "--rank", "2"], 2, "--output"),
        (["untie", vit, "--output", output], 1, "share nothing"),
        (["untie", "no.keras", "--output", output], 1, "no.keras does not exist"),
        (["untie", vit, "--output", output[:-6]], 1, "must end in .keras"),
        (["untie", vit, "--output", output, "--max-memory", "x"], 2, "--max-memory"),
        (["tie", vit, "--output", output, "--top-k", "0"], 2, "--top-k 0"),
        (tie := ["tie", vit, "--output", output, "--top-k", "2"], 1, "--top-k 2 is of"),
        ([*tie[:4], "--num-experts", "3"], 1, "--num-experts 3 is", "--moe-blocks all"),
        ([*prune, "--keep", "2"], 2, "--keep 2.0", "(0, 1]"),
        ([*prune, "--segments-keep", "nan"], 2, "--segments-keep nan"),
        ([*prune, "--start", "no.keras"], 1, "no.keras does not exist"),
        (["prune-prompts", vit, "--output", output], 2, "--data"),
        ([*smaller, "--target", "1"], 2, "--target 1.0", "(0, 1)"),
        ([*smaller, "--target", "nan"], 2, "--target nan", "(0, 1)"),
        ([*smaller, "--rounds", "0"], 2, "--rounds 0"),
        ([*smaller, "--multiple", "0"], 2, "--multiple 0"),
        ([*smaller, "--images", "0"], 2, "--images 0"),
        ([*smaller, "--measure", "latency"], 2, "--measure latency", "--table"),
        ([*smaller, "--table", vit], 2, "--measure latency", "--table"),
        ([*smaller, "--table", "no.json"], 1, "no.json does not exist"),
        (
            ["prune-prompts", vit, "--output", output, "--data", "digts"],
            1,
            "digts does not exist",
        ),
    ):
        stopped(capsys, words, status, *pieces)
    other = tmp_path / "other.keras"
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2)]).save(other)
    words = ["untie", str(other), "--output", output]
    stopped(capsys, words, 1, "other.keras is a Sequential")
    assert os.listdir(tmp_path) == ["other.keras"]
