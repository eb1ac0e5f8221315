"""What exports in int8 share: the images of their ranges, and what they do not round.

Routers stay in float: one that rounds sends tokens elsewhere.
"""

import keras
import numpy as np

from widenet_keras.data.pixels import whole_pixels
from widenet_keras.layers.pieces.piece import change_mixtures
from widenet_keras.utils import numerics
from widenet_keras.utils.roles import role_of

# Weights of fewer numbers cost nothing.
SMALLEST = 1024


def calibration_batches(images, options):
    """Yields NumPy batches that fit what an export takes.

    Args:
        images: (B, height, width, channels) float32 in [-1, 1].
        options: `Options`; a fixed batch is filled by turning around.
    """
    if options.input == "uint8":
        images = whole_pixels(images)
    step = options.batch_size or 1
    missing = -len(images) % step
    images = np.concatenate([images, np.resize(images, (missing, *images.shape[1:]))])
    for first in range(0, len(images), step):
        yield images[first : first + step]


def router_kernels(model):
    """Returns NumPy arrays of what routers multiply tokens with.

    Those of the blocks, and where steps change them those of the steps with the
    changes: which of the two a file has is up to its converter.

    Args:
        model: A `WideNet` in float32.
    """
    encoder = model.encoder
    kernels = [weight for weight in model.weights if role_of(weight).part == "router"]
    with numerics.weights_as_stored() as read:
        changes = change_mixtures(encoder.pieces)
        pieces = encoder.stacked_pieces.of_steps(read) if changes else ()
        for step in model.config.routed_steps if changes else ():
            part = encoder.blocks[encoder.block_of_step[step]].feed_forward
            own = part.read_stacked(read)
            kernels.append(pieces[step].routed(own.router, own.bank.stacked)[0])
    return [keras.ops.convert_to_numpy(kernel) for kernel in kernels]


def is_router(value, kernels):
    """Whether an array is one of `router_kernels`, but for how a sum was rounded.

    Args:
        value: NumPy array.
        kernels: List of NumPy arrays.
    """
    return any(
        value.shape == kernel.shape and np.allclose(value, kernel, 1e-6, 1e-7)
        for kernel in kernels
    )
