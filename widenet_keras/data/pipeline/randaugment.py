"""Flip and RandAugment of one image, from numbers that were drawn for it."""

import tensorflow as tf

from widenet_keras.data.pipeline import fast_operations, keras_cv_operations
from widenet_keras.data.pipeline.policy import OPERATIONS, amount


def draws_per_image(augmentation):
    """Returns how many numbers `image_function` needs."""
    return 1 + 2 * augmentation.operations


def image_function(augmentation):
    """Returns the function that flips an image and applies RandAugment.

    Args:
        augmentation: `Augmentation`.

    Returns:
        Function of a float32 image (height, width, C), pixels 0 to 255, and of
        `draws_per_image` floats in [0, 1), to the uint8 image.
    """
    count = augmentation.operations
    by_keras_cv = count > 0 and augmentation.randaugment == "keras_cv"
    library = keras_cv_operations if by_keras_cv else fast_operations
    functions = [library.operation(name) for name in OPERATIONS] if count else []

    def change(image, choice, sign):
        """Applies the chosen operation; no other is computed."""

        def branch(name, function):
            return lambda: function(image, amount(name, augmentation.level, sign))

        return tf.switch_case(
            choice,
            [branch(*pair) for pair in zip(OPERATIONS, functions, strict=True)],
        )

    def augment(image, draws):
        image = tf.cast(image + 0.5, tf.uint8)
        if augmentation.flip:
            image = tf.where(draws[0] < 0.5, image[:, ::-1], image)
        if not count:
            return image
        choices = tf.cast(draws[1 : 1 + count] * len(OPERATIONS), tf.int32)
        signs = tf.where(draws[1 + count :] < 0.5, -1.0, 1.0)
        # A loop, so that the operations are compiled once.
        _, image = tf.while_loop(
            lambda place, image: place < count,
            lambda place, image: (
                place + 1,
                change(image, choices[place], signs[place]),
            ),
            (0, image),
            shape_invariants=(tf.TensorShape([]), image.shape),
        )
        return image

    # keras-cv moves images by an operation that XLA does not have, and branches on
    # tensors, which autograph translates.
    return tf.function(augment, jit_compile=not by_keras_cv, autograph=by_keras_cv)
