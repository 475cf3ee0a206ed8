"""Images for tests, and folders of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = ((220, 40, 40), (40, 200, 60), (50, 60, 220), (220, 210, 50))


def noisy_image(label: int = 0, size: tuple[int, int] = (48, 64), seed: int = 0) -> Image.Image:
    """Return an image of one of four colours with noise; ``size`` is (height, width)."""
    rng = np.random.default_rng([label, seed])
    pixels = np.array(COLORS[label % 4]) + rng.normal(0, 25, (*size, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def gradient(mode: str = "RGB", size: tuple[int, int] = (40, 60)) -> Image.Image:
    """Return a smooth image, which JPEG preserves: red increases to the right, green downwards."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    red, green = columns * 255 // (size[1] - 1), rows * 255 // (size[0] - 1)
    pixels = np.dstack([red, green, np.full(size, 90)]).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_folders(root: Path, classes: int = 4, each: int = 6, size=(48, 64)) -> Path:
    """Write ``root/class/number.jpg``, the layout of ImageNet's training set."""
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(each):
            (folder / f"{number}.jpg").write_bytes(encoded(noisy_image(label, size, number)))
    return root
