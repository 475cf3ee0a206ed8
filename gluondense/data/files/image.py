"""Pictures from files, as a network trained on a data set wants them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError


def read_image(path: str | os.PathLike[str], channels: int, size: tuple[int, int]) -> np.ndarray:
    """Read one picture as uint8 (H, W, C), upright, with the given channels and size.

    The picture is scaled to the size without keeping its aspect ratio; transparent parts become
    black, and 16-bit grey is scaled to 8 bits.

    Parameters
    ----------
    path
        Any format that Pillow reads.
    channels
        1 for grey or 3 for RGB.
    size
        Height and width of the result.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a readable picture.
    """
    return decode_image(path, os.fspath(path), channels, size)


def decode_image(
    source: str | os.PathLike[str] | BinaryIO, name: str, channels: int, size: tuple[int, int]
) -> np.ndarray:
    """Read one picture as :func:`read_image` does, from a file or an open one.

    Parameters
    ----------
    source
        The file.
    name
        What messages call it.
    channels, size
        As there.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a readable picture.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels={channels} must be 1 (grey) or 3 (RGB)")
    picture = decode_picture(source, name)
    picture = picture.convert("L" if channels == 1 else "RGB")
    height, width = size
    if picture.size != (width, height):
        # Pillow's filter averages when it shrinks, as the makers of small-image data sets did.
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(height, width, channels)


def decode_picture(source: str | os.PathLike[str] | BinaryIO, name: str) -> Image.Image:
    """Read one picture upright, with 8 bits a channel and without transparency.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a readable picture.
    """
    try:
        with _whole_files_only(), Image.open(source) as opened:
            return _eight_bit(ImageOps.exif_transpose(opened))
    except FileNotFoundError:
        raise FileNotFoundError(f"no picture {name}; check the path") from None
    except IsADirectoryError:
        raise ValueError(f"{name} is a folder; name the picture itself") from None
    except UnidentifiedImageError:
        raise ValueError(
            f"{name} is not a picture in a format that Pillow knows; save it as PNG"
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{name} is not a readable picture ({reason});"
            " check that it opens elsewhere, or save it as PNG"
        ) from None


@contextmanager
def _whole_files_only() -> Iterator[None]:
    """Have Pillow refuse truncated files, for which `import gluoncv` makes it show grey instead."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Reduce a picture to 8 bits a channel and no transparency."""
    if picture.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it.
        values = np.asarray(picture, np.float64)
        return Image.fromarray(np.clip(values / 257, 0, 255).round().astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, picture)
    picture.load()
    return picture
