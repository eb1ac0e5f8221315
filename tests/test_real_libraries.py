"""Models of timm and transformers, with random weights, give their answers here."""

import json

import numpy as np
import pytest
from conftest import numpy

import widenet_keras
from widenet_keras.conversions.safetensors_files import write_safetensors

# Names of timm, and sizes that are quick.
TIMM = {
    "vit_tiny_patch16_224": {"img_size": 64, "depth": 3},
    "vit_small_patch14_dinov2": {"img_size": 56, "depth": 3},
    "vit_small_patch14_reg4_dinov2": {"img_size": 56, "depth": 3},
    "deit3_small_patch16_224": {"img_size": 64, "depth": 3},
    "deit_tiny_distilled_patch16_224": {"img_size": 64, "depth": 3},
    "vit_base_patch32_clip_quickgelu_224": {"img_size": 64, "depth": 2},
    "vit_base_patch16_siglip_224": {"img_size": 64, "depth": 2},
    "vit_base_patch16_siglip_gap_224": {"img_size": 64, "depth": 2},
    "vit_medium_patch16_gap_256": {"img_size": 64, "depth": 2},
    "vit_medium_patch16_reg4_gap_256": {"img_size": 64, "depth": 2},
    "vit_giant_patch14_dinov2": {"img_size": 28, "depth": 1},
    "eva_giant_patch14_224": {"img_size": 28, "depth": 1},
    "vit_base_patch16_224_miil": {"img_size": 64, "depth": 2},
}
SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
PLAIN = {**SMALL, "intermediate_size": 96}
DINO = {**SMALL, "mlp_ratio": 2}
HALF = [0.5] * 3, [0.5] * 3
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLIP = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
CLASSES = {"num_labels": 5}
# Model, configuration, its fields, output, and mean and deviation of the images.
TRANSFORMERS = [
    ("ViTForImageClassification", "ViT", {**PLAIN, **CLASSES}, "logits", HALF),
    ("ViTModel", "ViT", PLAIN, "pooler_output", HALF),
    ("DeiTForImageClassification", "DeiT", {**PLAIN, **CLASSES}, "logits", IMAGENET),
    (
        "DeiTForImageClassificationWithTeacher",
        "DeiT",
        {**PLAIN, **CLASSES},
        "logits",
        IMAGENET,
    ),
    ("Dinov2ForImageClassification", "Dinov2", {**DINO, **CLASSES}, "logits", IMAGENET),
    (
        "Dinov2Model",
        "Dinov2",
        {**DINO, "use_swiglu_ffn": True},
        "pooler_output",
        IMAGENET,
    ),
    (
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegisters",
        {**DINO, **CLASSES},
        "logits",
        IMAGENET,
    ),
    ("CLIPVisionModel", "CLIPVision", PLAIN, "pooler_output", CLIP),
    (
        "CLIPVisionModelWithProjection",
        "CLIPVision",
        {**PLAIN, "projection_dim": 6},
        "image_embeds",
        CLIP,
    ),
    ("SiglipVisionModel", "SiglipVision", PLAIN, "pooler_output", HALF),
]
pytestmark = pytest.mark.slow


def shaken(model):
    """Returns a model of torch whose weights are all away from their start."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        parameter.data += noise * (0.1 if parameter.ndim < 2 else 0.02)
    return model.eval()


def assert_alike(model, answer, mean, std, size):
    """Compares answers on pixels, which each library scales as it does.

    Args:
        model: One of this package.
        answer: Function of (B, 3, height, width) to answers.
        mean: Of pixels / 255, per channel.
        std: Likewise.
        size: Side of the images.
    """
    torch = pytest.importorskip("torch")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3))
    normal = (pixels / 255 - np.array(mean)) / np.array(std)
    with torch.no_grad():
        expected = answer(torch.tensor(normal.transpose(0, 3, 1, 2)).float()).numpy()
    found = numpy(model((pixels / 127.5 - 1).astype("float32")))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", TIMM)
def test_timm(name, tmp_path):
    timm = pytest.importorskip("timm")
    theirs = shaken(timm.create_model(name, num_classes=7, **TIMM[name]))
    arrays = {key: value.numpy() for key, value in theirs.state_dict().items()}
    write_safetensors(arrays, tmp_path / "model.safetensors")
    size, known = TIMM[name]["img_size"], theirs.pretrained_cfg
    told = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
    companion = {
        "architecture": name,
        "num_classes": 7,
        "num_features": theirs.num_features,
        "model_args": TIMM[name],
        "pretrained_cfg": {
            "input_size": [3, size, size],
            **{key: known[key] for key in told},
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(companion))
    model = widenet_keras.from_weights(tmp_path, say=str)
    assert_alike(model, theirs, known["mean"], known["std"], size)


@pytest.mark.parametrize(
    ("name", "kind", "fields", "output", "scale"),
    TRANSFORMERS,
    ids=[case[0] for case in TRANSFORMERS],
)
def test_transformers(name, kind, fields, output, scale, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{kind}Config")(**fields)
    theirs = shaken(getattr(transformers, name)(config))
    theirs.save_pretrained(tmp_path)
    model = widenet_keras.from_weights(tmp_path, say=str)
    assert_alike(model, lambda images: getattr(theirs(images), output), *scale, 32)
