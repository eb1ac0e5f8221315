"""Grey images as images in colour, and the reverse."""

# Of ITU-R BT.601 in 65536ths, as Pillow takes them; grey stays the grey it is.
GREY_WEIGHTS = (19595, 38470, 7471)


def with_channels(pixels, channels, concatenate):
    """Returns images with another number of channels.

    Args:
        pixels: Tensor (..., C), float32, 0 to 255.
        channels: 1 or 3 if it is not C.
        concatenate: Function of tensors and an axis.
    """
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return concatenate([pixels] * 3, -1)
    red, green, blue = (
        pixels[..., each : each + 1] * weight
        for each, weight in enumerate(GREY_WEIGHTS)
    )
    # All sums of whole pixels are below 2^24, so nothing is lost.
    return (red + green + blue + 32768.0) // 65536.0
