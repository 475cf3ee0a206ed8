"""From an encoded picture to the network's input, one picture at a time.

All that changes colours linearly, brightness, contrast, saturation, lighting and the normalisation,
is one 3×4 matrix a picture, so it costs as much as the normalisation alone; values in between are
not clipped to 0 to 255.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Protocol

import cv2
import numpy as np
from PIL import Image

from ..files.decode import JPEGHeader, decode
from .rand_augment import rand_augment

AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random resized crop: Szegedy et al. 2015
JITTER, LIGHTING = 0.4, 0.1  # strengths, as in GluonCV's scripts
_TRIES = 10
_LUMA = np.array([0.299, 0.587, 0.114])
# Of the colours of ImageNet's pixels (Krizhevsky et al. 2012), for values of 0 to 255.
_EIGENVALUES = np.array([55.46, 4.794, 1.148])
_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Transform(Protocol):
    """Makes a network's input of encoded pictures."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is made."""
        ...

    def __call__(self, data: bytes, name: str, rng: np.random.Generator, out: np.ndarray) -> None:
        """Write the input made of one picture into ``out``, float32 of ``shape``."""
        ...


Box = tuple[int, int, int, int]  # top, left, height, width


def random_box(height: int, width: int, rng: np.random.Generator) -> Box:
    """Draw the box of a random resized crop: 8 % to 100 % of the area, aspect ratio 3/4 to 4/3.

    As in torchvision, the central box of the nearest aspect ratio after ten boxes that don't fit.

    Examples
    --------
    >>> top, left, height, width = random_box(100, 200, np.random.default_rng(0))
    >>> top + height <= 100 and left + width <= 200
    True
    """
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*AREA)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            top = int(rng.integers(0, height - down + 1))
            return top, int(rng.integers(0, width - across + 1)), down, across
    aspect = min(max(width / height, ASPECT[0]), ASPECT[1])
    down, across = min(height, round(width / aspect)), min(width, round(height * aspect))
    return (height - down) // 2, (width - across) // 2, down, across


def _rescale(box: Box, size: tuple[int, int], now: tuple[int, ...]) -> Box:
    """Find the box of a picture that has another size now."""
    down, across = now[0] / size[0], now[1] / size[1]
    height, width = max(1, round(box[2] * down)), max(1, round(box[3] * across))
    top = min(round(box[0] * down), now[0] - height)
    return top, min(round(box[1] * across), now[1] - width), height, width


def central_box(height: int, width: int, size: tuple[int, int]) -> Box:
    """Find the largest central box of the aspect ratio of ``size``.

    Examples
    --------
    >>> central_box(100, 200, (10, 10))
    (0, 50, 100, 100)
    """
    scale = min(height / size[0], width / size[1])
    down, across = min(height, round(size[0] * scale)), min(width, round(size[1] * scale))
    return (height - down) // 2, (width - across) // 2, down, across


def _color_jitter(color: np.ndarray, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast and saturation, each by up to ±40 %, in a random order."""
    strengths = rng.uniform(1 - JITTER, 1 + JITTER, 3)
    for kind in rng.permutation(3):
        strength = strengths[kind]
        if kind == 0:
            color = strength * color
        elif kind == 1:
            grey = _LUMA @ (color[:, :3] @ mean + color[:, 3])
            color = strength * color
            color[:, 3] += (1 - strength) * grey
        else:
            mix = strength * np.eye(3) + (1 - strength) * np.outer(np.ones(3), _LUMA)
            color = mix @ color
    return color


def _lighting(color: np.ndarray, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise along the principal components of ImageNet's colours."""
    color = color.copy()
    color[:, 3] += _EIGENVECTORS @ (rng.normal(0, LIGHTING, 3) * _EIGENVALUES)
    return color


# What names in ``TrainConfig.augment`` do to pictures from files; those of colours are functions of
# the 3×4 matrix, the mean colour and the random stream.
_COLORS: Mapping[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "color_jitter": _color_jitter,
    "lighting": _lighting,
}
PICTURE_AUGMENTATIONS = ("random_resized_crop", "flip", "rand_augment", *_COLORS)


@dataclass(frozen=True)
class TrainTransform:
    """A picture for training, augmented.

    Parameters
    ----------
    size
        Height and width of the result.
    augment
        Names from ``PICTURE_AUGMENTATIONS``, done in the order of that table. Without
        ``"random_resized_crop"`` the largest central box is taken.
    mean, std
        One number a channel, for pixels scaled to [0, 1].

    Raises
    ------
    ValueError
        For an unknown name.
    """

    size: tuple[int, int]
    augment: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in self.augment:
            if name not in PICTURE_AUGMENTATIONS:
                raise ValueError(
                    f"unknown augmentation {name!r} of pictures; choose from "
                    f"{', '.join(PICTURE_AUGMENTATIONS)}"
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result: (3, H, W)."""
        return (3, *self.size)

    def __call__(self, data: bytes, name: str, rng: np.random.Generator, out: np.ndarray) -> None:
        """Write the input made of one picture into ``out``."""
        picture = self.cut(data, name, rng)
        if "flip" in self.augment and rng.random() < 0.5:
            picture = cv2.flip(picture, 1)
        if "rand_augment" in self.augment:
            picture = rand_augment(picture, rng)
        color = np.eye(3, 4)
        for kind, change in _COLORS.items():
            if kind in self.augment:
                color = change(color, np.array(cv2.mean(picture)[:3]), rng)
        write_input(picture, color, self.mean, self.std, out)

    def cut(self, data: bytes, name: str, rng: np.random.Generator) -> np.ndarray:
        """Decode a picture and cut and scale it, uint8 (H, W, 3)."""
        header = JPEGHeader.read(data)
        if "random_resized_crop" not in self.augment:
            picture = decode(data, name, at_least=max(self.size))
            box = central_box(picture.shape[0], picture.shape[1], self.size)
        elif header is None or header.oriented:
            picture = decode(data, name)
            box = random_box(picture.shape[0], picture.shape[1], rng)
        else:
            box = random_box(header.height, header.width, rng)
            # Decoded only as large as leaves the box the pixels that are wanted of it.
            spare = min(box[2] / self.size[0], box[3] / self.size[1])
            shorter = min(header.height, header.width)
            picture = decode(data, name, at_least=math.ceil(shorter / spare))
            box = _rescale(box, (header.height, header.width), picture.shape)
        top, left, down, across = box
        part = picture[top : top + down, left : left + across]
        return cv2.resize(part, self.size[::-1], interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True)
class EvalTransform:
    """A picture for evaluation: shorter side scaled, then the centre cut out, as torchvision does.

    Parameters
    ----------
    size
        Height and width of the result.
    crop_ratio
        The shorter side of the result over that of the scaled picture, above 0 and up to 1.
    interpolation
        ``"bilinear"`` or ``"bicubic"``, Pillow's, which average when they shrink.
    crops
        1, or 10: the four corners and the centre, and the five mirrored.
    mean, std
        One number a channel, for pixels scaled to [0, 1].

    Raises
    ------
    ValueError
        If a field is outside its range.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_ratio: float = 0.875
    interpolation: str = "bilinear"
    crops: int = 1

    def __post_init__(self) -> None:
        if self.crops not in (1, 10):
            raise ValueError(f"crops={self.crops} must be 1 or 10")
        if not 0 < self.crop_ratio <= 1:
            raise ValueError(f"crop_ratio={self.crop_ratio} must lie above 0 and up to 1")
        if self.interpolation not in _FILTERS:
            raise ValueError(
                f"interpolation={self.interpolation!r} must be one of {', '.join(_FILTERS)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result: (3, H, W), or (10, 3, H, W) for ten crops."""
        return (3, *self.size) if self.crops == 1 else (self.crops, 3, *self.size)

    def __call__(self, data: bytes, name: str, rng: np.random.Generator, out: np.ndarray) -> None:
        """Write the input made of one picture into ``out``."""
        crops = self.cut(data, name)
        outs = out[None] if self.crops == 1 else out
        for crop, place in zip(crops, outs):
            write_input(crop, np.eye(3, 4), self.mean, self.std, place)

    def cut(self, data: bytes, name: str) -> list[np.ndarray]:
        """Decode a picture and cut out the crops, uint8 (H, W, 3) each."""
        picture = Image.fromarray(decode(data, name))
        # Rounded down as in timm, whose published figures depend on it for ratios like 0.887.
        shorter = math.floor(min(self.size) / self.crop_ratio)
        scale = max(
            (shorter / side) * (wanted / min(self.size))
            for side, wanted in zip((picture.height, picture.width), self.size)
        )
        height, width = (
            max(wanted, int(side * scale + 1e-6))
            for side, wanted in zip((picture.height, picture.width), self.size)
        )
        pixels = np.asarray(picture.resize((width, height), _FILTERS[self.interpolation]))
        down, across = height - self.size[0], width - self.size[1]
        center = (round(down / 2), round(across / 2))
        if self.crops == 1:
            return [self._crop(pixels, *center)]
        corners = [(0, 0), (0, across), (down, 0), (down, across), center]
        five = [self._crop(pixels, *corner) for corner in corners]
        return five + [np.ascontiguousarray(crop[:, ::-1]) for crop in five]

    def _crop(self, pixels: np.ndarray, top: int, left: int) -> np.ndarray:
        height, width = self.size
        return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def write_input(
    picture: np.ndarray,
    color: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    out: np.ndarray,
) -> None:
    """Write uint8 pixels (H, W, 3), recoloured by a matrix 3×4 and normalised, into (3, H, W)."""
    deviation = np.asarray(std) * 255
    matrix = color / deviation[:, None]
    matrix[:, 3] -= np.asarray(mean) * 255 / deviation
    changed = cv2.transform(picture.astype(np.float32), matrix.astype(np.float32))
    cv2.mixChannels([changed], list(out), [0, 0, 1, 1, 2, 2])
