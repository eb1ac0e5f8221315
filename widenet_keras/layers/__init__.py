"""The layers, each usable alone in any Keras model."""

from widenet_keras.layers.attention import Attention
from widenet_keras.layers.attention_pooling import AttentionPooling
from widenet_keras.layers.block import Block
from widenet_keras.layers.embedding import PatchEmbedding, resample_positions
from widenet_keras.layers.encoder import Encoder
from widenet_keras.layers.experts import Experts
from widenet_keras.layers.feed_forward import FeedForward
from widenet_keras.layers.head import ClassifierHead
from widenet_keras.layers.mixture_of_experts import MixtureOfExperts
from widenet_keras.layers.normalization import StackedNorms, StepNorms
from widenet_keras.layers.parallel_paths import ParallelPaths
from widenet_keras.layers.ring import Ring
from widenet_keras.layers.routed_experts import RoutedExperts
from widenet_keras.layers.token_attention_pooling import TokenAttentionPooling
from widenet_keras.routing.router import GroupedTop1Router, TopKRouter

__all__ = [
    "Attention",
    "AttentionPooling",
    "Block",
    "ClassifierHead",
    "Encoder",
    "Experts",
    "FeedForward",
    "GroupedTop1Router",
    "MixtureOfExperts",
    "ParallelPaths",
    "PatchEmbedding",
    "Ring",
    "RoutedExperts",
    "StackedNorms",
    "StepNorms",
    "TokenAttentionPooling",
    "TopKRouter",
    "resample_positions",
]
