# SPDX-License-Identifier: Apache-2.0
"""The preprocessing that turns an image into a network's input.

Validation during training, evaluation, prediction, calibration and servers all call this module, so
that they compute equal pixels from equal files. Model archives contain a copy of it and of
:mod:`.pixels`, so they import only modules that archives contain too. NumPy and Pillow are imported
on the first image.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

from ..errors import check, check_choice, check_flag, check_known, check_range, is_count, is_number

if TYPE_CHECKING:
    import numpy as np

    from .boxes import Placement

INTERPOLATIONS = ("bilinear", "bicubic")
RESIZES = ("shorter", "exact", "letterbox")
CROPS = (1, 10)

ImageFile = Union[bytes, bytearray, str, "os.PathLike[str]"]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The preprocessing that a network's weights expect.

    An image is decoded to grayscale or RGB with its EXIF orientation applied, resized, cropped, and
    normalized: ``(pixel / 255 - mean) / std``.

    Parameters
    ----------
    mean, std
        Mean and standard deviation of each channel, for pixels in [0, 1]. One channel is grayscale,
        three are RGB.
    interpolation
        The interpolation of resizing, ``"bilinear"`` or ``"bicubic"``: Pillow's filters, which
        average when they shrink.
    crop_ratio
        For ``resize="shorter"``: size of the center crop divided by the shorter side of the resized
        image, in (0, 1].
    input_size
        Size of the input in pixels, or its (height, width).
    resize
        ``"shorter"``: resize the shorter side to ``input_size / crop_ratio``, rounded down as in
        timm, and crop the center, with the pixels of torchvision's ``Resize`` and ``CenterCrop``.
        ``"exact"``: resize both sides to ``input_size``, without keeping the aspect ratio.
        ``"letterbox"``: resize to the largest size that fits in ``input_size`` with the aspect
        ratio kept, and pad with gray equally on both sides.
    invert
        Whether image files are inverted, because they are dark on light and the network was trained
        light on dark.
    source_size
        For ``resize="exact"``: (height, width) to which an image is resized first, that of the data
        set's images. From there it is resized as arrays are, by :func:`.transforms.batch.resize`.
        None resizes to ``input_size`` directly.

    Raises
    ------
    ValueError
        If a field is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> pixels = IMAGENET.normalize(np.zeros((1, 224, 224, 3), np.uint8))
    >>> pixels.shape, pixels[0, :, 0, 0].astype(int).tolist()
    ((1, 3, 224, 224), [-2, -2, -1])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop_ratio: float = 0.875
    input_size: int | tuple[int, int] = 224
    resize: str = "shorter"
    invert: bool = False
    source_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        same = len(self.std) == len(self.mean)
        check("std", self.std, f"{len(self.mean)} numbers, one a channel as in mean", same)
        check("std", self.std, "positive", min(self.std) > 0)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        check_choice("resize", self.resize, RESIZES)
        check_range("crop_ratio", self.crop_ratio, 0, 1, closed="right")
        check_flag("invert", self.invert)
        for name in ("input_size", "source_size"):
            object.__setattr__(self, name, _size(name, getattr(self, name)))
        check("input_size", self.input_size, "a size in pixels", self.input_size is not None)
        fits = self.source_size is None or self.resize == "exact"
        check("source_size", self.source_size, "None unless resize is 'exact'", fits)

    @classmethod
    def stretched(
        cls, mean: Sequence[float], std: Sequence[float], size: tuple[int, int]
    ) -> Preprocessing:
        """Return the preprocessing of earlier versions' exports: both sides resized, bilinear.

        Examples
        --------
        >>> Preprocessing.stretched((0.5,), (0.25,), (28, 28)).resize
        'exact'
        """
        mean, std = _numbers("mean", mean), _numbers("std", std)
        return cls(mean, std, input_size=size, resize="exact")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Make a preprocessing of :meth:`to_dict`; a missing field has its default.

        A ValueError is raised for an unknown field or one outside its range.
        """
        check("preprocessing", values, "an object", isinstance(values, Mapping))
        for name in values:
            check_known("field of preprocessing", name, [f.name for f in dataclasses.fields(cls)])
        for name in ("mean", "std"):
            check(name, values.get(name), "in preprocessing", name in values)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Parse the result of :meth:`to_json`, also that of earlier versions."""
        try:
            return cls.from_dict(json.loads(text))
        except ValueError as error:
            raise ValueError(f"{text[:80]!r} is not a preprocessing ({error}).") from None

    def to_json(self) -> str:
        """Serialize all fields, for the header of a file."""
        return json.dumps(self.to_dict())

    def for_channels(self, channels: int) -> Preprocessing:
        """Convert to other channels: the average for one, else cyclic repetition, as for filters.

        Examples
        --------
        >>> IMAGENET.for_channels(1).std
        (0.226,)
        """
        if channels == len(self.mean):
            return self

        def fit(values: tuple[float, ...]) -> tuple[float, ...]:
            if channels == 1:
                return (round(sum(values) / len(values), 6),)
            return tuple(values[i % len(values)] for i in range(channels))

        return dataclasses.replace(self, mean=fit(self.mean), std=fit(self.std))

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        if isinstance(self.input_size, tuple):
            return self.input_size
        return self.input_size, self.input_size

    @property
    def shorter_side(self) -> int:
        """Shorter side of the resized image, of which the input is a crop."""
        # As in `boxes.center_crop`, which says why it is rounded down.
        return math.floor(min(self.size) / self.crop_ratio)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape (1, C, H, W) of the input of one image."""
        return 1, self.channels, *self.size

    def describe(self) -> str:
        """Describe the preprocessing in one line.

        Examples
        --------
        >>> print(IMAGENET.describe())
        shorter side to 256 (bilinear), center crop 224x224, RGB, mean 0.485, 0.456, 0.406, std \
0.229, 0.224, 0.225
        """
        size = "{}x{}".format(*self.size)
        if self.resize == "shorter":
            where = f"shorter side to {self.shorter_side} ({self.interpolation})"
            where += f", center crop {size}"
        elif self.resize == "letterbox":
            where = f"letterboxed to {size} ({self.interpolation})"
        else:
            first = "{}x{}, then ".format(*self.source_size) if self.source_size else ""
            where = f"resized to {first}{size} ({self.interpolation})"
        colors = {1: "grayscale", 3: "RGB"}.get(self.channels, f"{self.channels} channels")
        inverted = ", inverted" * self.invert
        mean, std = (", ".join(f"{n:.6g}" for n in values) for values in (self.mean, self.std))
        return f"{where}, {colors}{inverted}, mean {mean}, std {std}"

    def pixels(self, source: ImageFile, name: str = "the image") -> np.ndarray:
        """Decode, resize and crop an image to uint8 (H, W, C).

        Parameters
        ----------
        source
            The bytes of an image file, or its path.
        name
            Name of the image in error messages, where ``source`` is bytes.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a readable image, or the number of channels is neither 1 nor 3.
        """
        return self.crops(source, name)[0]

    def crops(self, source: ImageFile, name: str = "the image", count: int = 1) -> np.ndarray:
        """Like :meth:`pixels`, with several crops of an image: uint8 (``count``, H, W, C).

        ``count`` is 1 for the center, or 10 for the four corners, the center and the five mirrored.
        Unless ``resize`` is ``"shorter"``, all five are the whole image.
        """
        check("crops", count, "1 or 10", count in CROPS)
        return self._read(source, name, count)[0]

    def placed(self, source: ImageFile, name: str = "the image") -> tuple[np.ndarray, Placement]:
        """Like :meth:`pixels`, with the placement that maps boxes between input and image.

        Examples
        --------
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (640, 480)).save(file, "PNG")
        >>> boxed = dataclasses.replace(IMAGENET, resize="letterbox", input_size=416)
        >>> boxed.placed(file.getvalue())[1].offset
        (52, 0)
        """
        crops, placement = self._read(source, name, 1)
        return crops[0], placement

    def placement(self, height: int, width: int) -> Placement:
        """Return where an image of a size, EXIF orientation applied, lies in the input."""
        from .boxes import center_crop, letterbox, stretch

        if self.resize == "shorter":
            return center_crop((height, width), self.size, self.crop_ratio)
        return (stretch if self.resize == "exact" else letterbox)((height, width), self.size)

    def _read(self, source: ImageFile, name: str, count: int) -> tuple[np.ndarray, Placement]:
        from .pixels import read_crops

        if self.channels not in (1, 3):
            raise ValueError(f"channels (={self.channels}) must be 1 (grayscale) or 3 (RGB).")
        return read_crops(self, source, name, count)

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """Normalize pixels uint8 (N, H, W, C) to the network's input, float32 (N, C, H, W)."""
        from .transforms.batch import normalize

        return normalize(pixels, self.mean, self.std)


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    holds = isinstance(values, (tuple, list)) and len(values) > 0 and all(map(is_number, values))
    rule = "finite numbers, one a channel"
    check(name, values, rule, holds and all(map(math.isfinite, values)))
    return tuple(map(float, values))


def _size(name: str, value: Any) -> Any:
    value = tuple(value) if isinstance(value, list) else value
    sides = value if isinstance(value, tuple) else (value, value)
    if value is not None:
        rule = "a positive integer or (height, width)"
        check(name, value, rule, len(sides) == 2 and all(map(is_count, sides)))
    return value


IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

# The DPN authors subtract (124, 117, 104) and multiply by 0.0167.
DPN = Preprocessing(
    mean=(124 / 255, 117 / 255, 104 / 255), std=(1 / (0.0167 * 255),) * 3, interpolation="bicubic"
)

CSP = dataclasses.replace(IMAGENET, crop_ratio=0.887, input_size=256)
RDNET = dataclasses.replace(IMAGENET, crop_ratio=0.9, interpolation="bicubic")

# Most code for CIFAR of 2016 to 2018 has these, in pixels from 0 to 255.
CIFAR = Preprocessing(
    mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
    std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
    crop_ratio=1.0,
    input_size=32,
)
