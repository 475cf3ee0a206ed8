"""Pictures that tests make: ordinary ones, and every kind that data sets trip over."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = ((220, 40, 40), (40, 200, 60), (50, 60, 220), (220, 210, 50))


def picture(label: int = 0, size: tuple[int, int] = (48, 64), seed: int = 0) -> Image.Image:
    """A picture of one of four colours under noise, (height, width)."""
    rng = np.random.default_rng([label, seed])
    pixels = np.array(COLORS[label % 4]) + rng.normal(0, 25, (*size, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def gradient(mode: str = "RGB", size: tuple[int, int] = (40, 60)) -> Image.Image:
    """Red rises to the right, green to the bottom; smooth, so JPEG keeps it."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    red, green = columns * 255 // (size[1] - 1), rows * 255 // (size[0] - 1)
    pixels = np.dstack([red, green, np.full(size, 90)]).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_folders(root: Path, classes: int = 4, each: int = 6, size=(48, 64)) -> Path:
    """``root/class/number.jpg``, as ImageNet's training set lies."""
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(each):
            (folder / f"{number}.jpg").write_bytes(encoded(picture(label, size, number)))
    return root
