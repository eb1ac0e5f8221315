"""Who goes to which expert, and what it costs to be unfair.

Shape letters, used in every comment of the package: B images, T tokens of an
image, D model width, F expert width, E experts, K choices of a token, C places
of an expert (its capacity), L steps, U unique blocks, H heads. Inside the
dispatch also: G groups of images that share a capacity, N tokens of a group.
"""

from widenet_keras.routing.capacity import capacity_for
from widenet_keras.routing.losses import balance_loss, router_z_loss
from widenet_keras.routing.record import RoutingRecord
from widenet_keras.routing.router import Choices, GroupedTop1Router, TopKRouter

__all__ = [
    "Choices",
    "GroupedTop1Router",
    "RoutingRecord",
    "TopKRouter",
    "balance_loss",
    "capacity_for",
    "router_z_loss",
]
