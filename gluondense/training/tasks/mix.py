# SPDX-License-Identifier: Apache-2.0
"""Mixup and CutMix: drawn on the host for a whole batch, applied to its parts on the devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from ...data.transforms.augmented import pixels_of
from ..configuration.sections import TaskConfig


@dataclass(frozen=True)
class Mix:
    """How each image of a batch is mixed with a partner from the same batch.

    Parameters
    ----------
    partners
        Index of each image's partner, (N,).
    weight
        Share of the image itself in its target, 0 to 1; the partner has the rest.
    box
        Rows and columns of CutMix's rectangle, which the partner's pixels replace; None blends
        whole images with ``weight``.
    """

    partners: np.ndarray
    weight: np.float32
    box: Optional[tuple[slice, slice]] = None

    def images(self, images: Any, partners: Any) -> Any:
        """Return images (n, C, H, W) mixed with their partners, both arrays of MXNet or NumPy."""
        if self.weight == 1:  # MXNet cannot assign to an empty rectangle
            return images
        if self.box is None:
            return images * float(self.weight) + partners * float(1 - self.weight)
        mixed = images.copy()
        mixed[:, :, self.box[0], self.box[1]] = partners[:, :, self.box[0], self.box[1]]
        return mixed

    def targets(self, targets: np.ndarray) -> np.ndarray:
        """Return the targets of the whole batch (N, …), mixed as the images."""
        return self.weight * targets + (1 - self.weight) * targets[self.partners]


def mixup(count: int, alpha: float, rng: np.random.Generator) -> Mix:
    """Draw a blend of each of ``count`` images with another one (mixup, Zhang et al. 2018).

    The weight of the first image is drawn from Beta(alpha, alpha) once per batch, as in GluonCV's
    scripts.
    """
    weight = np.float32(rng.beta(alpha, alpha))
    return Mix(rng.permutation(count), weight)


def cutmix(count: int, size: tuple[int, int], alpha: float, rng: np.random.Generator) -> Mix:
    """Draw a rectangle of another image; weight targets by area (CutMix, Yun et al. 2019).

    The rectangle is drawn once per batch: its relative area is 1 minus a Beta(alpha, alpha) sample,
    its center is uniform, and it is clipped at the borders of ``size``, the height and width.
    """
    height, width = size
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    rows = _interval(height, side, rng)
    columns = _interval(width, side, rng)
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    weight = np.float32(1 - area / (height * width))
    return Mix(rng.permutation(count), weight, (rows, columns))


def _interval(size: int, share: float, rng: np.random.Generator) -> slice:
    half, center = int(size * share) // 2, int(rng.integers(0, size))
    return slice(max(center - half, 0), min(center + half, size))


def draw_mix(
    images: np.ndarray, config: TaskConfig, rng: np.random.Generator, epochs_left: int
) -> Optional[Mix]:
    """Draw mixup or CutMix for a batch of a loader; a fair coin chooses if both are configured.

    None if neither is, and in the last ``mix_off_epochs`` epochs.
    """
    if epochs_left <= config.mix_off_epochs or not (config.mixup or config.cutmix):
        return None
    blend = bool(config.mixup)
    if config.mixup and config.cutmix:
        blend = not rng.integers(2)
    if blend:
        return mixup(len(images), config.mixup, rng)
    height, width = pixels_of(images).shape[1:3]
    return cutmix(len(images), (height, width), config.cutmix, rng)
