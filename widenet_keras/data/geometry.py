"""Numbers of crops, erased rectangles and greys that NumPy and `tf.data` share."""

# GoogLeNet's training crops (arXiv 1409.4842): width over height.
ASPECT_RATIOS = (3 / 4, 4 / 3)
# Random Erasing (arXiv 1708.04896): part of the area, and ratio of the sides.
ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = 3.3
# Of ITU-R BT.601, as in `tf.image.rgb_to_grayscale`.
LUMA = (0.2989, 0.5870, 0.1140)
