"""What is written for timm is read back as it was, and timm computes the same."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from conftest import numpy, one_line, shake, tiny_config, tiny_images

import widenet_keras

CASES = {
    "token": {"pooling": "token"},
    "mean": {"class_token": False, "pooling": "mean"},
    "shared": {"sharing": "all", "pooling": "token", "activation": "quick_gelu"},
    "clip": {"pooling": "token", "embedding_norm": True, "norm_epsilon": 1e-5},
    "norm of a ViT": {"pooling": "token", "embedding_norm": True},
    "norms of CLIP": {"pooling": "token", "norm_epsilon": 1e-5},
    "registers": {"registers": 2, "pooling": "patches", "norm_after_pooling": True},
    "attention": {"class_token": False, "pooling": "attention"},
    "one attention": {"sharing": "attention", "pooling": "token", "steps": 3},
    "one feed-forward": {
        "sharing": "feed_forward",
        "pooling": "token",
        "shared_norms": True,
    },
    "no classes": {"num_classes": 0, "pooling": "token", "shared_norms": True},
}


def vit(**fields):
    fields = {"representation": False, "activation": "gelu", **fields}
    config = tiny_config("vit", **fields)
    model = widenet_keras.ImageClassifier(config, seed=0)
    shake(model.weights, 0.3)
    return model


@pytest.mark.parametrize("case", CASES)
def test_it_comes_back(case, tmp_path):
    model = vit(**CASES[case])
    if model.config.num_classes:
        model.class_names = ["cat", "dog", "owl", "fox", "bee"]
    path, companion = widenet_keras.to_timm(model, tmp_path / "out.safetensors")
    assert sorted(tmp_path.iterdir()) == sorted([path, companion])
    again = widenet_keras.from_weights(path, say=str)
    assert again.config.norm_epsilon == model.config.norm_epsilon
    images = tiny_images(3)
    np.testing.assert_allclose(numpy(again(images)), numpy(model(images)), atol=2e-5)
    assert again.class_names == model.class_names
    # timm knows no other way to resize.
    taken = dataclasses.replace(model.preprocessing, antialias=True)
    assert again.preprocessing == taken


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_timm_computes_the_same(case, tmp_path):
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    model = vit(**CASES[case])
    path, companion = widenet_keras.to_timm(model, tmp_path / "out.safetensors")
    said = json.loads(companion.read_text())
    theirs = timm.create_model(
        said["architecture"],
        num_classes=said["num_classes"],
        checkpoint_path=str(path),
        **said["model_args"],
    ).eval()
    images = tiny_images(3)
    with torch.no_grad():
        expected = theirs(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(numpy(model(images)), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"representation": True}, "representation"),
        ({"output_activation": "gelu"}, "output_activation"),
        ({"pooling": "mean"}, "pooling='mean'"),
        ({"pooling": "token_and_patches"}, "token_and_patches"),
        ({"pooling": "token_attention"}, "token_attention"),
        ({"moe_blocks": "all"}, "experts"),
        ({"norm_epsilon": 1e-4}, "norm_epsilon=0.0001"),
        ({"gated": True, "activation": "silu"}, "gated"),
        ({"step_widths": (4, 10)}, "step_widths"),
        ({"paths": 2}, "paths"),
        ({"block_sizes": [(3, 4, 4, 10), (3, 4, 4, 5)]}, "block_sizes"),
    ],
)
def test_what_timm_cannot_express(fields, word, tmp_path):
    with pytest.raises(ValueError, match=word) as error:
        widenet_keras.to_timm(vit(**fields), tmp_path / "out.safetensors")
    assert "timm" in one_line(error)
    assert not list(tmp_path.iterdir())


def test_an_epsilon_of_transformers_is_told_the_way_out(tmp_path):
    path, theirs = tmp_path / "out.safetensors", vit(norm_epsilon=1e-12)
    with pytest.raises(ValueError, match=r"adapted\(norm_epsilon=1e-6\)"):
        widenet_keras.to_timm(theirs, path)
    ours, images = theirs.adapted(norm_epsilon=1e-6), tiny_images(3)
    widenet_keras.to_timm(ours, path)
    np.testing.assert_allclose(numpy(ours(images)), numpy(theirs(images)), atol=1e-4)


def test_what_is_no_model_of_this_package(tmp_path):
    with pytest.raises(ValueError, match="to_timm: ") as error:
        widenet_keras.to_timm(keras.Sequential(), tmp_path / "out.safetensors")
    one_line(error)


def test_files_of_others_stay_that_are_called_alike(tmp_path):
    model = vit(pooling="token")
    ours, companion = tmp_path / "model.safetensors", tmp_path / "config.json"
    for _ in range(2):
        widenet_keras.to_timm(model, ours)
    kept = companion.read_bytes()
    shutil.copy(ours, tmp_path / "other.safetensors")
    refused(model, tmp_path / "other.safetensors")
    assert companion.read_bytes() == kept
    (tmp_path / "other.safetensors").unlink()
    for text in ('{"model_type": "vit"}', "[]", "no JSON"):
        companion.write_text(text)
        refused(model, ours)
        assert companion.read_text() == text


def refused(model, path):
    with pytest.raises(ValueError, match="belongs to something else") as error:
        widenet_keras.to_timm(model, path)
    one_line(error)


def test_nothing_of_others_is_replaced(tmp_path):
    model = vit(pooling="token")
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    (tmp_path / "folder.safetensors").mkdir()
    for name, word in (("a.safetensors", "belongs to"), ("folder.safetensors", "is a")):
        with pytest.raises(ValueError, match=word) as error:
            widenet_keras.to_timm(model, tmp_path / name)
        one_line(error)
    assert (tmp_path / "config.json").read_text() == '{"model_type": "dinov2"}'
    assert (tmp_path / "folder.safetensors").is_dir()
