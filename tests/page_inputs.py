"""What the commands and blocks of the pages find in the folder that they run in."""

import shutil

from conftest import shake
from pages import ROOT
from pictures import noisy_folders

import widenet_keras

_VIT = {
    "patch_size": 8,
    "width": 32,
    "steps": 12,
    "heads": 4,
    "mlp_dim": 64,
    "num_classes": 3,
    "activation": "gelu",
    "representation": False,
}
_NAMES = ("class0", "class1", "class2")


def make_inputs(folder):
    """Makes all of it: small models, and folders of noise in three classes."""
    for name in ("flowers", "cifar10"):
        noisy_folders(folder / name, train=66, test=9)
    noisy_folders(folder, photos=4)
    vit = widenet_keras.ImageClassifier.from_preset("vit_small_32", **_VIT)
    shake(vit.weights)
    vit.class_names = _NAMES
    wide = widenet_keras.ImageClassifier.from_preset(
        "widenet_small_32", patch_size=8, width=32, num_classes=3
    )
    backbone = ("embedding", "core", "norms")
    lora, prompt = widenet_keras.LoRA(2), widenet_keras.Prompt(4)
    models = {
        "vit.keras": vit,
        "model.keras": vit,
        "small.keras": vit,
        "relaxed.keras": widenet_keras.relax(vit, rank=4),
        "nested.keras": vit.adapted(nested_widths=(0.25, 1.0)),
        "runs/nested/model.keras": vit.adapted(nested_widths=(0.25, 1.0)),
        "tuned.keras": vit.adapted(pieces=[lora, prompt], frozen=backbone),
        "runs/flowers/model.keras": wide,
        "runs/flowers_64/model.keras": wide,
    }
    for name, model in models.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        model.class_names = _NAMES
        model.save(folder / name)
    widenet_keras.to_timm(vit, folder / "vit_small" / "model.safetensors")
    shutil.copytree(ROOT / "saved_models/digits", folder / "saved_models/digits")
    shutil.copy(
        ROOT / "saved_models/digits/model.tflite",
        folder / "runs/flowers/model_dynamic_int8.tflite",
    )


def save_slow_vit(path):
    """Saves a ViT whose time is that of its products, not of what calls them."""
    sizes = {"width": 384, "steps": 2, "heads": 6, "mlp_dim": 1536, "patch_size": 4}
    vit = widenet_keras.ImageClassifier.from_preset("vit_small_32", **{**_VIT, **sizes})
    vit.class_names = _NAMES
    vit.save(path)


def take_inputs(words, made, folder):
    """Copies what a command reads into the folder that it runs in.

    Args:
        words: The words of the command.
        made: Folder of `make_inputs`.
        folder: Where the command runs.
    """
    before = ""
    for word in words:
        source = made / word
        if before != "--output" and word and source.exists():
            target = folder / word
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, target, **({"dirs_exist_ok": True} if source.is_dir() else {}))
        before = word
