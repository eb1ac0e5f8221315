"""What a step of the depth keeps for itself besides its norms: a file for each kind."""

from widenet_keras.layers.pieces.bottleneck import Bottleneck
from widenet_keras.layers.pieces.head_mix import HeadMix
from widenet_keras.layers.pieces.key_value_prompt import KeyValuePrompt
from widenet_keras.layers.pieces.kinds import KINDS, as_dicts, pieces_of
from widenet_keras.layers.pieces.lora import LoRA
from widenet_keras.layers.pieces.piece import Piece, Weight
from widenet_keras.layers.pieces.prompt import Prompt
from widenet_keras.layers.pieces.relative_keys import RelativeKeys
from widenet_keras.layers.pieces.residuals import Projection, ResidualScale
from widenet_keras.layers.pieces.token_conv import TokenConv

__all__ = [
    "KINDS",
    "Bottleneck",
    "HeadMix",
    "KeyValuePrompt",
    "LoRA",
    "Piece",
    "Projection",
    "Prompt",
    "RelativeKeys",
    "ResidualScale",
    "TokenConv",
    "Weight",
    "as_dicts",
    "pieces_of",
]
