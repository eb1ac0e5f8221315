"""Image files of every kind that is read, made with Pillow."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 45, 70


def pixels():
    """Returns a smooth picture with some noise, uint8 (HEIGHT, WIDTH, 3)."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (5, 7, 3)).astype("uint8"))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    noisy = smooth + random.integers(-9, 10, smooth.shape)
    return np.clip(noisy, 0, 255).astype("uint8")


def alphas():
    """Returns how much is seen of the picture, uint8 (HEIGHT, WIDTH)."""
    alpha = np.linspace(0, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype("uint8")
    alpha[:10], alpha[-10:] = 0, 255
    return alpha


def encoded(image, kind, **options):
    """Returns the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_orientation(number, order="<", others=0):
    """Returns Exif data that say how the camera was held.

    Args:
        number: The orientation.
        order: "<" or ">" for little or big endian.
        others: Number of entries before it.
    """
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = [(0x9C00 + place, 4, 1, 7) for place in range(others)]
    entries.append((0x0112, 3, 1, number if order == "<" else number << 16))
    content = b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    head = mark + struct.pack(order + "IH", 8, len(entries))
    return b"Exif\0\0" + head + content + b"\0\0\0\0"


def png_of_16_bits():
    """Returns a PNG of three times 16 bits, which Pillow does not write."""

    def chunk(name, data):
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    deep = (pixels().astype("uint16") * 256 + 200).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def all_kinds():
    """Returns a dict of names to encoded images."""
    colour = Image.fromarray(pixels())
    grey, bits = colour.convert("L"), colour.convert("1")
    palette = colour.convert("P", palette=Image.Palette.ADAPTIVE)
    few = colour.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    alpha = Image.fromarray(alphas())
    seen = colour.copy()
    seen.putalpha(alpha)
    deep = Image.fromarray(np.asarray(grey).astype("uint16") * 257)
    inks = np.dstack([255 - pixels(), np.asarray(grey) // 2])
    inks = Image.fromarray(inks, mode="CMYK")
    adobe = encoded(inks, "JPEG", quality=90)
    first = int(np.asarray(grey)[0, 0])
    kinds = {
        f"JPEG {name}": encoded(colour, "JPEG", **options)
        for name, options in {
            "4:4:4": {"subsampling": 0, "quality": 90},
            "4:2:2": {"subsampling": 1},
            "4:2:0": {"subsampling": 2},
            "progressive": {"progressive": True},
            "with restarts": {"restart_marker_blocks": 3},
        }.items()
    }
    kinds |= {
        "JPEG grey": encoded(grey, "JPEG"),
        "JPEG CMYK": adobe,
        "JPEG CMYK not by Adobe": adobe.replace(b"\xff\xee", b"\xff\xed", 1),
        "PNG": encoded(colour, "PNG"),
        "PNG grey": encoded(grey, "PNG"),
        "PNG grey, one hidden": encoded(grey, "PNG", transparency=first),
        "PNG one hidden": encoded(
            colour, "PNG", transparency=tuple(map(int, pixels()[0, 0]))
        ),
        "PNG 1 bit": encoded(bits, "PNG"),
        "PNG 1 bit, white hidden": encoded(bits, "PNG", transparency=255),
        "PNG palette": encoded(palette, "PNG"),
        "PNG palette, one hidden": encoded(palette, "PNG", transparency=3),
        "PNG palette, alpha": encoded(palette, "PNG", transparency=bytes(range(256))),
        "PNG palette of 4 bits": encoded(few, "PNG", bits=4),
        "PNG palette of 4 bits, alpha": encoded(
            few, "PNG", bits=4, transparency=bytes(range(0, 256, 16))
        ),
        "PNG grey 16 bits": encoded(deep, "PNG"),
        "PNG grey 16 bits, one hidden": encoded(deep, "PNG", transparency=first * 257),
        "PNG 16 bits": png_of_16_bits(),
        "PNG alpha": encoded(seen, "PNG"),
        "PNG grey, alpha": encoded(Image.merge("LA", (grey, alpha)), "PNG"),
        "BMP": encoded(colour, "BMP"),
        "BMP palette": encoded(palette, "BMP"),
        "BMP grey": encoded(grey, "BMP"),
        "BMP 1 bit": encoded(bits, "BMP"),
        "BMP 32 bits": encoded(seen, "BMP"),
        "GIF": encoded(palette, "GIF"),
        "GIF one hidden": encoded(palette, "GIF", transparency=3),
        "GIF moving": encoded(
            palette,
            "GIF",
            save_all=True,
            append_images=[grey, bits],
            comment=b"a" * 300,
        ),
        "WebP": encoded(colour, "WEBP"),
        "WebP lossless": encoded(colour, "WEBP", lossless=True),
        "WebP alpha": encoded(seen, "WEBP"),
        "WebP hidden colours": encoded(seen, "WEBP", lossless=True, exact=True),
        "WebP moving": encoded(colour, "WEBP", save_all=True, append_images=[grey]),
    }
    for number in range(1, 9):
        exif = with_orientation(number, "<>"[number % 2], number - 1)
        kinds[f"JPEG held {number}"] = encoded(colour, "JPEG", exif=exif)
        kinds[f"WebP held {number}"] = encoded(colour, "WEBP", exif=exif)
        kinds[f"PNG held {number}"] = encoded(colour, "PNG", exif=exif)
    return kinds
