"""One model on several devices, hosts or processes, with one device's mathematics."""

from widenet_keras.distribution.choice import distribute
from widenet_keras.distribution.single import Distribution

__all__ = [
    "Distribution",
    "distribute",
]
