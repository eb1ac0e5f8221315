"""One model on several devices, hosts or processes, with one device's mathematics."""

from widenet_keras.distribution.choice import distribute as distribute
from widenet_keras.distribution.single import Distribution as Distribution
