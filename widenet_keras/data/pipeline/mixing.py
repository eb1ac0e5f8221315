"""What is done to a whole batch: erasing, mixup, cutmix, labels, scale of pixels."""

import tensorflow as tf

from widenet_keras.data.augmentation import ERASED_AREA, ERASED_RATIO
from widenet_keras.data.pipeline.seeds import seed_pair
from widenet_keras.models.preprocessing import scaled


def finisher(layout, augmentation, seed):
    """Returns the function that makes a batch ready for training.

    Args:
        layout: `Layout` of the batches.
        augmentation: `Augmentation`.
        seed: Seed of the run.

    Returns:
        Function of the batch's number, the rows of the batch that the images are
        (list), images uint8 (rows, height, width, C) and labels (rows,) to images
        float32 in [-1, 1] and labels float32 (rows, classes). The first row is mixed
        with the last.
    """

    # One pass over the batch: without XLA there would be one for every operation.
    @tf.function(jit_compile=True, autograph=False)
    def apply(images, labels, plan):
        return finish(images, labels, plan, layout.num_classes, augmentation.smoothing)

    def finished(number, rows, images, labels):
        plan = draw_plan(layout, augmentation, seed, number)
        if len(rows) < layout.batch_size:
            plan = {name: tf.gather(drawn, rows) for name, drawn in plan.items()}
        return apply(images, labels, plan)

    return finished


def is_mixed(augmentation):
    """Whether an image depends on its neighbour in the batch."""
    return bool(augmentation.mixup or augmentation.cutmix)


def draw_plan(layout, augmentation, seed, number):
    """Draws what is done to a batch.

    Args:
        layout: `Layout` of the batches.
        augmentation: `Augmentation`.
        seed: Seed of the run.
        number: Number of the batch, int64 tensor.

    Returns:
        Dict, without what is turned off: "erased", (B, 4) boxes (top, left, bottom,
        right) to erase; "kept", (B,) part of an image that mixup keeps; "replaced",
        (B, 4) boxes that cutmix takes from the neighbour.
    """
    batch, size = layout.batch_size, layout.image_size
    pair = seed_pair(seed, "batch", number)
    draws = tf.unstack(tf.random.stateless_uniform((8, batch), pair))
    plan = {}
    if augmentation.erasing:
        low, high = ERASED_AREA
        area = size * size * (low + (high - low) * draws[0])
        root = tf.sqrt(ERASED_RATIO ** (2 * draws[1] - 1))
        sides = [tf.minimum(tf.sqrt(area) * r, size) for r in (root, 1 / root)]
        # An image that is spared has a box of no size.
        chosen = tf.cast(draws[2] < augmentation.erasing, tf.float32)
        height, width = (tf.floor(side + 0.5) * chosen for side in sides)
        top = tf.floor(draws[3] * (size - height + 1))
        left = tf.floor(draws[4] * (size - width + 1))
        plan["erased"] = _box(top, left, top + height, left + width)
    if augmentation.mixup:
        plan["kept"] = _beta(
            augmentation.mixup, batch, seed_pair(seed, "mixup", number)
        )
    if augmentation.cutmix:
        kept = _beta(augmentation.cutmix, batch, seed_pair(seed, "cutmix", number))
        half = tf.floor(size * tf.sqrt(1 - kept)) / 2
        row, column = tf.floor(draws[5] * size), tf.floor(draws[6] * size)
        box = _box(
            *(
                tf.clip_by_value(tf.floor(x), 0, size)
                for x in (row - half, column - half)
            ),
            *(
                tf.clip_by_value(tf.floor(x), 0, size)
                for x in (row + half, column + half)
            ),
        )
        if augmentation.mixup:
            by_mixup = draws[7][0] < 0.5
            plan["kept"] = tf.where(by_mixup, plan["kept"], 1.0)
            box = tf.where(by_mixup, 0, box)
        plan["replaced"] = box
    return plan


def finish(images, labels, plan, num_classes, smoothing):
    """Erases, mixes and scales a batch.

    Args:
        images: (B, height, width, C) uint8.
        labels: (B,) integers.
        plan: Dict, as `draw_plan` returns it. The neighbour of an image is the one
            before it; that of the first is the last.
        num_classes: Number of classes.
        smoothing: Label smoothing.

    Returns:
        (images float32 in [-1, 1], labels float32 (B, classes)).
    """
    # XLA multiplies by the inverse, which can end just above 1.
    pixels = tf.minimum(scaled(tf.cast(images, tf.float32)), 1.0)
    targets = tf.one_hot(labels, num_classes) * (1 - smoothing)
    targets += smoothing / num_classes
    if "erased" in plan:
        pixels = tf.where(_inside(plan["erased"], images.shape), 0.0, pixels)
    if "kept" not in plan and "replaced" not in plan:
        return pixels, targets
    kept = plan.get("kept", tf.ones(images.shape[0]))
    share, kept = kept, kept[:, None, None, None]
    if "replaced" in plan:
        box = plan["replaced"]
        kept = tf.where(_inside(box, images.shape), 0.0, kept)
        area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        whole = images.shape[1] * images.shape[2]
        share *= 1 - tf.cast(area, tf.float32) / whole
    pixels = kept * pixels + (1 - kept) * tf.roll(pixels, 1, 0)
    share = share[:, None]
    return pixels, share * targets + (1 - share) * tf.roll(targets, 1, 0)


def _beta(alpha, batch, pair):
    """Draws from Beta(alpha, alpha), (batch,)."""
    one, other = tf.unstack(tf.random.stateless_gamma((2, batch), pair, alpha))
    # A small alpha makes both underflow; the limit is all of one image.
    return tf.where(one + other > 0, one / (one + other), 1.0)


def _box(top, left, bottom, right):
    """Returns boxes as (B, 4) integers."""
    return tf.cast(tf.stack([top, left, bottom, right], 1), tf.int32)


def _inside(boxes, shape):
    """Returns which pixels are inside the boxes, (B, height, width, 1)."""
    top, left, bottom, right = (
        side[:, None, None] for side in tf.unstack(boxes, axis=1)
    )
    row, column = tf.range(shape[1])[:, None], tf.range(shape[2])
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    return inside[..., None]
