"""WideNet on Keras 3: shared attention, shared routed experts, private norms.

`ImageClassifier.from_preset(name)` builds a WideNet, a ViT or a ViT-MoE;
`presets()` lists the names. The layers are in `widenet_keras.layers`.
"""

import typing as _typing

from widenet_keras.utils.keras_backend import choose_backend as _choose_backend

# Before anything here imports Keras.
_choose_backend()

from widenet_keras import data, layers, plot, training
from widenet_keras.conversions import (
    extract,
    from_weights,
    merge,
    prune,
    prune_prompts,
    relax,
    tie,
    to_timm,
    untie,
)
from widenet_keras.data import scale_pixels
from widenet_keras.distribution import distribute
from widenet_keras.evaluation import evaluate_classifier
from widenet_keras.exports import ExportReport, export
from widenet_keras.files import load_model
from widenet_keras.inference import open_predictor
from widenet_keras.layers.pieces import (
    Bottleneck,
    HeadMix,
    KeyValuePrompt,
    LoRA,
    Projection,
    Prompt,
    RelativeKeys,
    ResidualScale,
    TokenConv,
)
from widenet_keras.models import (
    BlockSize,
    WideNetConfig,
    convert_reference_weights,
    forward_flops,
    preset_config,
    presets,
)
from widenet_keras.moved import find_moved_modules as _find_moved_modules
from widenet_keras.moved import moved_name as _moved_name
from widenet_keras.runs import Run
from widenet_keras.training import (
    Consistency,
    Distillation,
    HiddenDistillation,
    ImageClassifier,
    RelationDistillation,
)
from widenet_keras.version import __version__

__all__ = [
    "BlockSize",
    "Bottleneck",
    "Consistency",
    "Distillation",
    "ExportReport",
    "HeadMix",
    "HiddenDistillation",
    "ImageClassifier",
    "KeyValuePrompt",
    "LoRA",
    "Projection",
    "Prompt",
    "RelationDistillation",
    "RelativeKeys",
    "ResidualScale",
    "Run",
    "TokenConv",
    "WideNetConfig",
    "__version__",
    "convert_reference_weights",
    "data",
    "distribute",
    "evaluate_classifier",
    "export",
    "extract",
    "forward_flops",
    "from_weights",
    "layers",
    "load_model",
    "merge",
    "open_predictor",
    "plot",
    "preset_config",
    "presets",
    "prune",
    "prune_prompts",
    "relax",
    "scale_pixels",
    "tie",
    "to_timm",
    "training",
    "untie",
]

_find_moved_modules()


# A type checker shall know of no other names than those above.
if not _typing.TYPE_CHECKING:

    def __getattr__(name):
        """Hands on to names that have moved."""
        return _moved_name(name)
