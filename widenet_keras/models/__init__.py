"""Configuration, presets and the network itself."""

from widenet_keras.models.block_sizes import BlockSize
from widenet_keras.models.config import WideNetConfig
from widenet_keras.models.description import describe
from widenet_keras.models.fields import parse_fields
from widenet_keras.models.flops import forward_flops
from widenet_keras.models.presets import PRESETS, preset_config, presets
from widenet_keras.models.reference_weights import convert_reference_weights
from widenet_keras.models.widenet import WideNet

__all__ = [
    "PRESETS",
    "BlockSize",
    "WideNet",
    "WideNetConfig",
    "convert_reference_weights",
    "describe",
    "forward_flops",
    "parse_fields",
    "preset_config",
    "presets",
]
