"""What a step of the depth keeps for itself besides its norms: a file for each kind."""

from widenet_keras.layers.pieces.bottleneck import Bottleneck as Bottleneck
from widenet_keras.layers.pieces.head_mix import HeadMix as HeadMix
from widenet_keras.layers.pieces.key_value_prompt import (
    KeyValuePrompt as KeyValuePrompt,
)
from widenet_keras.layers.pieces.kinds import KINDS as KINDS
from widenet_keras.layers.pieces.kinds import as_dicts as as_dicts
from widenet_keras.layers.pieces.kinds import pieces_of as pieces_of
from widenet_keras.layers.pieces.lora import LoRA as LoRA
from widenet_keras.layers.pieces.piece import Piece as Piece
from widenet_keras.layers.pieces.piece import Weight as Weight
from widenet_keras.layers.pieces.prompt import Prompt as Prompt
from widenet_keras.layers.pieces.relative_keys import RelativeKeys as RelativeKeys
from widenet_keras.layers.pieces.residuals import Projection as Projection
from widenet_keras.layers.pieces.residuals import ResidualScale as ResidualScale
from widenet_keras.layers.pieces.token_conv import TokenConv as TokenConv
