# SPDX-License-Identifier: Apache-2.0
"""The preprocessing that turns an image into a network's input."""

from __future__ import annotations

import dataclasses
import json


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The preprocessing that a network's weights expect.

    Parameters
    ----------
    mean, std
        Mean and standard deviation of each channel, for pixels in [0, 1].
    interpolation
        The interpolation of resizing, ``"bilinear"`` or ``"bicubic"``.
    crop_ratio
        Size of the center crop divided by the shorter side of the resized image.
    input_size
        Size of the crop in pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop_ratio: float = 0.875
    input_size: int = 224

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Parse the result of :meth:`to_json`."""
        try:
            values = json.loads(text)
            for name in ("mean", "std"):
                values[name] = tuple(map(float, values[name]))
            return cls(**values)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{text[:80]!r} is not a preprocessing ({error}).") from None

    def to_json(self) -> str:
        """Serialize all fields, for the header of a file."""
        return json.dumps(dataclasses.asdict(self))

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


IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


# The DPN authors subtract (124, 117, 104) and multiply by 0.0167.
DPN = Preprocessing(
    mean=(124 / 255, 117 / 255, 104 / 255), std=(1 / (0.0167 * 255),) * 3, interpolation="bicubic"
)


CSP = dataclasses.replace(IMAGENET, crop_ratio=0.887, input_size=256)


# Most code for CIFAR of 2016 to 2018 has these, in pixels from 0 to 255.
CIFAR = Preprocessing(
    mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
    std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
    crop_ratio=1.0,
    input_size=32,
)
