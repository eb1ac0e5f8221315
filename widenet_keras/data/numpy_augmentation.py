"""Augmentation of images with NumPy, for machines without TensorFlow."""

import numpy as np

from widenet_keras.data.augmentation import (
    ASPECT_RATIOS,
    ERASED_AREA,
    ERASED_RATIO,
)
from widenet_keras.data.pixels import scale_pixels
from widenet_keras.models import resizing


def resized(images, size, window=None):
    """Returns a part of an image or of each of many, bilinear, as uint8.

    Args:
        images: (..., height, width, C) uint8.
        size: Side of the result, pixels.
        window: (top, left, height, width), or None for all of the image.

    Returns:
        (..., size, size, C) uint8.
    """
    top, left, height, width = window or (0, 0, *images.shape[-3:-1])
    return resizing.resized(
        images[..., top : top + height, left : left + width, :], size
    )


def crops_and_flips(images, size, augmentation, random):
    """Returns images for training, as uint8 (B, size, size, C).

    Args:
        images: (B, height, width, C) uint8, or a list of images of any sizes.
        size: Side of the result, pixels.
        augmentation: `Augmentation`.
        random: `numpy.random.Generator` of this batch.
    """
    count, margin = len(images), max(1, size // 8)
    if augmentation.crop == "inception":
        least = augmentation.min_area
        windows = [_inception_window(each.shape, least, random) for each in images]
        pairs = zip(images, windows, strict=True)
        images = np.stack([resized(image, size, window) for image, window in pairs])
    elif isinstance(images, list):
        images = np.stack([resized(image, size) for image in images])
    else:
        images = resized(images, size)
    moves, flips = np.zeros((count, 2), int), np.zeros(count, bool)
    if augmentation.crop == "pad":
        moves = random.integers(-margin, margin + 1, (count, 2))
    if augmentation.flip:
        flips = random.random(count) < 0.5
    # The rim goes on where a crop leaves the image, so that black ground stays black.
    places = np.clip(moves[:, :, None] + np.arange(size), 0, size - 1)
    rows, columns = places[:, 0, :, None], places[:, 1, None]
    columns = np.where(flips[:, None, None], columns[:, :, ::-1], columns)
    return images[np.arange(count)[:, None, None], rows, columns]


def _inception_window(shape, min_area, random):
    """Draws a part of the image, as GoogLeNet's training did (arXiv 1409.4842).

    Heights are drawn evenly, as `tf.image.sample_distorted_bounding_box` has it.
    """
    height, width = shape[:2]
    whole = height * width
    for _ in range(10):
        ratio = random.uniform(*ASPECT_RATIOS)
        least, most = (round((a * whole / ratio) ** 0.5) for a in (min_area, 1.0))
        most = min(most, height, int((width + 0.5) / ratio))
        tall = int(random.integers(min(least, most), most + 1))
        # Rounding may have made it too small by a row.
        tall += round(tall * ratio) * tall < min_area * whole
        wide = round(tall * ratio)
        fits = 0 < tall <= height and 0 < wide <= width
        if fits and min_area * whole <= tall * wide <= whole:
            top = random.integers(0, height - tall + 1)
            left = random.integers(0, width - wide + 1)
            return top, left, tall, wide
    return 0, 0, height, width


def finish(images, targets, augmentation, random):
    """Erases, mixes and scales a batch.

    Args:
        images: (B, size, size, C) uint8.
        targets: (B, classes) float32 one-hot.
        augmentation: `Augmentation`.
        random: `numpy.random.Generator` of this batch.

    Returns:
        (images float32 in [-1, 1], labels float32 (B, classes)).
    """
    pixels = scale_pixels(images)
    classes = targets.shape[1]
    targets = targets * (1 - augmentation.smoothing) + augmentation.smoothing / classes
    batch, size = pixels.shape[:2]
    for image in pixels:
        if random.random() < augmentation.erasing:
            _erase(image, random)
    by_cutmix = augmentation.cutmix > 0 and not (
        augmentation.mixup and random.random() < 0.5
    )
    alpha = augmentation.cutmix if by_cutmix else augmentation.mixup
    if not alpha:
        return pixels, targets.astype("float32")
    kept = random.beta(alpha, alpha, batch)
    neighbours = np.roll(pixels, 1, axis=0)
    if by_cutmix:
        for row, part in enumerate(kept):
            top, left, bottom, right = _cutmix_box(size, part, random)
            pixels[row, top:bottom, left:right] = neighbours[
                row, top:bottom, left:right
            ]
            kept[row] = 1 - (bottom - top) * (right - left) / size**2
    else:
        part = kept.astype("float32")[:, None, None, None]
        pixels = part * pixels + (1 - part) * neighbours
    kept = kept[:, None]
    targets = kept * targets + (1 - kept) * np.roll(targets, 1, axis=0)
    return pixels, targets.astype("float32")


def _erase(image, random):
    """Sets a random rectangle to grey (Random Erasing, arXiv 1708.04896)."""
    size = len(image)
    area = size * size * random.uniform(*ERASED_AREA)
    root = ERASED_RATIO ** random.uniform(-0.5, 0.5)
    height, width = (min(round(area**0.5 * r), size) for r in (root, 1 / root))
    top, left = random.integers(0, (size - height + 1, size - width + 1))
    image[top : top + height, left : left + width] = 0.0


def _cutmix_box(size, kept, random):
    """Draws (top, left, bottom, right) of what a neighbour gives."""
    half = int(size * (1 - kept) ** 0.5) / 2
    centre = random.integers(0, size, 2)
    low, high = (
        np.clip(np.floor(centre - half), 0, size),
        np.clip(np.floor(centre + half), 0, size),
    )
    return *low.astype(int), *high.astype(int)
