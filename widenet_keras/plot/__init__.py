"""Pictures of routing, attention and training, with matplotlib."""

from widenet_keras.plot.attention import plot_attention as plot_attention
from widenet_keras.plot.classes import plot_class_experts as plot_class_experts
from widenet_keras.plot.explanation import plot_explanation as plot_explanation
from widenet_keras.plot.figure import EXPERT_COLORS as EXPERT_COLORS
from widenet_keras.plot.figure import load_matplotlib as load_matplotlib
from widenet_keras.plot.history import plot_history as plot_history
from widenet_keras.plot.load import draw_load as draw_load
from widenet_keras.plot.load import plot_load as plot_load
from widenet_keras.plot.load import plot_load_history as plot_load_history
from widenet_keras.plot.routing import plot_patches as plot_patches
from widenet_keras.plot.routing import plot_routing as plot_routing

__all__ = [
    "EXPERT_COLORS",
    "draw_load",
    "load_matplotlib",
    "plot_attention",
    "plot_class_experts",
    "plot_explanation",
    "plot_history",
    "plot_load",
    "plot_load_history",
    "plot_patches",
    "plot_routing",
]
