"""Data: pixels, and the handwritten digits that ship with scikit-learn."""

from widenet_keras.data.pixels import scale_pixels as scale_pixels
