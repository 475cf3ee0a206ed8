# SPDX-License-Identifier: Apache-2.0
"""Selection of the layers that are excluded from quantization, by their sensitivity."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np

from ..outputs import all_outputs
from .calibration import Calibration
from .metrics import QuantizationMetrics

# Images on which the sensitivity of each block of layers is measured.
_TRIAL_IMAGES = 64


def select_excluded(
    layers: Sequence[str],
    calibration: Calibration,
    build: Callable[[set[str]], Callable],
    expected: Sequence[np.ndarray],
    required: Collection[str] = (),
) -> tuple[set[str], dict[str, Any]]:
    """Exclude layers from quantization until the quantization error is small enough.

    Parameters
    ----------
    layers
        Names of all layers.
    calibration
        Specifies layers to exclude and the acceptable error.
    build
        Builds the quantized network in which a set of layers is excluded.
    expected
        The float network's outputs for the calibration's images.
    required
        Layers that must be excluded.

    Returns
    -------
    excluded
        Names of the excluded layers.
    record
        Record of the quantization for the export's metadata.

    Raises
    ------
    ValueError
        If a pattern of the calibration's ``exclude`` matches no layer.
    """

    def measure(excluded: set[str], count: int | None = None) -> QuantizationMetrics:
        outputs = all_outputs(build(excluded), calibration.batches(), count=count)
        shown = [a[: len(outputs[0])] for a in expected]
        return QuantizationMetrics.compare(outputs, shown, calibration.thresholds)

    excluded = set(required)
    for pattern in calibration.exclude:
        found = fnmatch.filter(layers, pattern)
        if not found:
            raise ValueError(
                f"exclude (={pattern!r}) is the name of no layer; some are {', '.join(layers[:3])}."
            )
        excluded.update(found)
    metrics, most = measure(excluded), calibration.max_changed
    if not metrics.within(most):
        blocks = group_by_block(name for name in layers if name not in excluded)
        # The error of each block alone: that of the others would hide it.
        others = {name: set(layers) - block for name, block in blocks.items()}
        errors = {name: measure(rest, _TRIAL_IMAGES).error for name, rest in others.items()}
        ranked = sorted(blocks, key=lambda name: -errors[name])

        def most_sensitive(count: int) -> set[str]:
            return excluded.union(*(blocks[name] for name in ranked[:count]))

        # Find the number of blocks that suffices: 1, 2, 4, ..., then by bisection.
        too_few, count = 0, min(1, len(ranked))
        while not (metrics := measure(most_sensitive(count))).within(most) and count < len(ranked):
            too_few, count = count, min(2 * count, len(ranked))
        while count - too_few > 1:
            middle = (too_few + count) // 2
            trial = measure(most_sensitive(middle))
            if trial.within(most):
                count, metrics = middle, trial
            else:
                too_few = middle
        excluded = most_sensitive(count)
    return excluded, {
        "method": calibration.method,
        "images": len(calibration.images),
        "layers": len(layers),
        "kept": [name for name in layers if name in excluded],
        **dataclasses.asdict(metrics),
    }


def group_by_block(layers: Iterable[str]) -> dict[str, set[str]]:
    """Group layers by the prefix of their names, which is that of their block."""
    blocks: dict[str, set[str]] = {}
    for name in layers:
        layer = name[: -len("_fwd")] if name.endswith("_fwd") else name
        blocks.setdefault(layer.rpartition("_")[0] or name, set()).add(name)
    # A single group of all layers offers no choice: take each layer by itself.
    return blocks if len(blocks) > 1 else {name: {name} for name in next(iter(blocks.values()), ())}
