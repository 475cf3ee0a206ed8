# SPDX-License-Identifier: Apache-2.0
"""Decode single images with Pillow: EXIF orientation applied, uint8, no transparency.

Model archives contain a copy of this module, so it imports nothing of gluondense.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

# Exceptions of Pillow for damaged files that share one message. A length in a file that is too
# large for the memory ends in a MemoryError.
PILLOW_ERRORS = (
    *(OSError, SyntaxError, ValueError, struct.error),
    *(Image.DecompressionBombError, MemoryError),
)


def open_image(source: str | os.PathLike[str] | BinaryIO, name: str) -> Image.Image:
    """Decode an image to uint8, with its EXIF orientation applied and without transparency."""
    if isinstance(source, (str, os.PathLike)) and is_special(source):
        raise ValueError(f"{name} is not a regular file; name an image file")
    try:
        with _reject_truncated_files(), Image.open(source) as opened:
            if opened.format == "EPS":  # found before it is decoded
                raise ValueError("Pillow would run Ghostscript, which executes the program in it")
            return _to_8_bits(ImageOps.exif_transpose(opened))
    except FileNotFoundError:
        raise FileNotFoundError(f"no image {name}; check the path") from None
    except IsADirectoryError:
        raise ValueError(f"{name} is a folder; name an image file") from None
    except UnidentifiedImageError:
        raise ValueError(
            f"{name} is not an image in a format that Pillow knows; save it as PNG"
        ) from None
    except PILLOW_ERRORS as error:
        reason = " ".join(str(error).split()) or "it needs too much memory"
        raise ValueError(
            f"{name} is not a readable image ({reason});"
            " check that it opens elsewhere, or save it as PNG"
        ) from None


def is_special(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a FIFO, a device or a socket, which may block a reader forever."""
    return not (os.path.isfile(path) or os.path.isdir(path)) and os.path.exists(path)


@contextmanager
def _reject_truncated_files() -> Iterator[None]:
    """Reset the flag with which ``import gluoncv`` makes Pillow fill truncated images with grey."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Convert to 8 bits per channel and blend transparency with black."""
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit grayscale at 255 instead of scaling it.
        values = np.asarray(image, np.float64)
        return Image.fromarray(np.clip(values / 257, 0, 255).round().astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image)
    image.load()
    return image
