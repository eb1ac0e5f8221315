"""WideNet on Keras 3: shared attention, shared routed experts, private norms.

`ImageClassifier.from_preset(name)` builds a WideNet, a ViT or a ViT-MoE;
`presets()` lists the names. The layers are in `widenet_keras.layers`.
"""

from widenet_keras.utils.keras_backend import choose_backend as _choose_backend

# Before anything here imports Keras.
_choose_backend()

from widenet_keras import data as data
from widenet_keras import layers as layers
from widenet_keras import plot as plot
from widenet_keras import training as training
from widenet_keras.conversions.extract import extract as extract
from widenet_keras.conversions.from_weights import from_weights as from_weights
from widenet_keras.conversions.merge import merge as merge
from widenet_keras.conversions.prune import prune as prune
from widenet_keras.conversions.prune_prompts import prune_prompts as prune_prompts
from widenet_keras.conversions.relax import relax as relax
from widenet_keras.conversions.tie import tie as tie
from widenet_keras.conversions.to_timm import to_timm as to_timm
from widenet_keras.conversions.untie import untie as untie
from widenet_keras.data.pixels import scale_pixels as scale_pixels
from widenet_keras.distribution import distribute as distribute
from widenet_keras.evaluation import evaluate_classifier as evaluate_classifier
from widenet_keras.exports import ExportReport as ExportReport
from widenet_keras.exports import export as export
from widenet_keras.files.loading import load_model as load_model
from widenet_keras.inference import open_predictor as open_predictor
from widenet_keras.layers.pieces import Bottleneck as Bottleneck
from widenet_keras.layers.pieces import HeadMix as HeadMix
from widenet_keras.layers.pieces import KeyValuePrompt as KeyValuePrompt
from widenet_keras.layers.pieces import LoRA as LoRA
from widenet_keras.layers.pieces import Projection as Projection
from widenet_keras.layers.pieces import Prompt as Prompt
from widenet_keras.layers.pieces import RelativeKeys as RelativeKeys
from widenet_keras.layers.pieces import ResidualScale as ResidualScale
from widenet_keras.layers.pieces import TokenConv as TokenConv
from widenet_keras.models.block_sizes import BlockSize as BlockSize
from widenet_keras.models.config import WideNetConfig as WideNetConfig
from widenet_keras.models.flops import forward_flops as forward_flops
from widenet_keras.models.presets import preset_config as preset_config
from widenet_keras.models.presets import presets as presets
from widenet_keras.models.reference_weights import (
    convert_reference_weights as convert_reference_weights,
)
from widenet_keras.moved import find_moved_modules as _find_moved_modules
from widenet_keras.moved import moved_name as _moved_name
from widenet_keras.runs import Run as Run
from widenet_keras.training.consistency import Consistency as Consistency
from widenet_keras.training.distillation import Distillation as Distillation
from widenet_keras.training.image_classifier import ImageClassifier as ImageClassifier
from widenet_keras.training.relations import HiddenDistillation as HiddenDistillation
from widenet_keras.training.relations import (
    RelationDistillation as RelationDistillation,
)
from widenet_keras.version import __version__ as __version__

_find_moved_modules()


def __getattr__(name):
    """Hands on to names that have moved."""
    return _moved_name(name)
