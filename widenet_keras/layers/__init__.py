"""The layers, each usable alone in any Keras model."""

from widenet_keras.layers.attention import Attention as Attention
from widenet_keras.layers.attention_pooling import AttentionPooling as AttentionPooling
from widenet_keras.layers.block import Block as Block
from widenet_keras.layers.embedding import PatchEmbedding as PatchEmbedding
from widenet_keras.layers.embedding import resample_positions as resample_positions
from widenet_keras.layers.encoder import Encoder as Encoder
from widenet_keras.layers.experts import Experts as Experts
from widenet_keras.layers.feed_forward import FeedForward as FeedForward
from widenet_keras.layers.head import ClassifierHead as ClassifierHead
from widenet_keras.layers.mixture_of_experts import MixtureOfExperts as MixtureOfExperts
from widenet_keras.layers.normalization import StackedNorms as StackedNorms
from widenet_keras.layers.normalization import StepNorms as StepNorms
from widenet_keras.layers.parallel_paths import ParallelPaths as ParallelPaths
from widenet_keras.layers.ring import Ring as Ring
from widenet_keras.layers.routed_experts import RoutedExperts as RoutedExperts
from widenet_keras.layers.token_attention_pooling import (
    TokenAttentionPooling as TokenAttentionPooling,
)
from widenet_keras.routing.router import GroupedTop1Router as GroupedTop1Router
from widenet_keras.routing.router import TopKRouter as TopKRouter
