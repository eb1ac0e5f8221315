"""Arithmetic that moves what this library has no weights for into those it has."""

import numpy as np

from widenet_keras.conversions.tensors import Pair


def scaled_output(product: Pair, scale: np.ndarray | None) -> Pair:
    """Returns a product with the LayerScale after it folded in.

    Args:
        product: Kernel (inputs, D) and bias (D).
        scale: (D) that its output is multiplied by, or None.
    """
    if scale is None:
        return product
    return Pair(product.first * scale, product.second * scale)


def thirds(packed: Pair) -> tuple[Pair, ...]:
    """Returns query, key and value of one product (D, 3D) and (3D)."""
    return tuple(
        # Not views, which would keep the product beside its parts.
        Pair(np.ascontiguousarray(kernel), bias)
        for kernel, bias in zip(
            np.split(packed.first, 3, axis=-1),
            np.split(packed.second, 3, axis=-1),
            strict=True,
        )
    )


def halves(packed: Pair) -> tuple[Pair, ...]:
    """Returns the activated half and the gate of one product (D, 2F) and (2F)."""
    kernels = np.split(packed.first, 2, axis=-1)
    biases = np.split(packed.second, 2)
    return tuple(
        Pair(np.ascontiguousarray(kernel), bias)
        for kernel, bias in zip(kernels, biases, strict=True)
    )


def averaged(first: Pair, second: Pair) -> Pair:
    """Returns the mean of two heads as one of (2D, C), on both tokens side by side."""
    kernel = np.concatenate([first.first, second.first]) / 2
    return Pair(kernel, (first.second + second.second) / 2)


def pixels_folded(patch: Pair, mean: tuple[float, ...], std: tuple[float, ...]) -> Pair:
    """Returns the patch product for pixels / 127.5 - 1.

    Exact, because the patches are not padded.

    Args:
        patch: Kernel (p, p, channels, D) and bias (D) for (pixels / 255 - mean) / std.
        mean: One number for each channel.
        std: One number for each channel.
    """
    kernel = patch.first
    mean = np.asarray(mean, "float64")[:, None]
    std = np.asarray(std, "float64")[:, None]
    # At [-1, 1] a pixel is twice as far from the middle as at [0, 1].
    folded = kernel / (2 * std)
    shift = (kernel * ((0.5 - mean) / std)).sum((0, 1, 2))
    dtype = kernel.dtype
    return Pair(folded.astype(dtype), (patch.second + shift).astype(dtype))
