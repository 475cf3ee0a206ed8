"""Selection of the layers that are excluded from quantization, by their sensitivity."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from .calibration import Calibration
from .metrics import QuantizationMetrics

# Images on which the sensitivity of each block of layers is measured.
_TRIAL_IMAGES = 64


def select_excluded(
    layers: Sequence[str],
    calibration: Calibration,
    measure: Callable[..., QuantizationMetrics],
    required: Collection[str] = (),
) -> tuple[set[str], QuantizationMetrics]:
    """Exclude layers from quantization until the quantization error is small enough.

    Parameters
    ----------
    layers
        Names of all layers.
    calibration
        Specifies layers to exclude and the acceptable error.
    measure
        Measures the quantization error if a set of layers is excluded. An optional second argument
        limits the number of images.
    required
        Layers that must be excluded.

    Returns
    -------
    excluded
        Names of the excluded layers.
    metrics
        The quantization error with these.

    Raises
    ------
    ValueError
        If a pattern of the calibration's ``exclude`` matches no layer.
    """
    excluded = set(required)
    for pattern in calibration.exclude:
        found = fnmatch.filter(layers, pattern)
        if not found:
            raise ValueError(
                f"exclude (={pattern!r}) is the name of no layer; some are {', '.join(layers[:3])}."
            )
        excluded.update(found)
    metrics = measure(excluded)
    if metrics.within(calibration.max_changed):
        return excluded, metrics
    blocks = group_by_block(name for name in layers if name not in excluded)
    errors = {n: measure(excluded | block, _TRIAL_IMAGES).error for n, block in blocks.items()}
    ranked, count, more = sorted(blocks, key=lambda name: errors[name]), 1, set[str]()
    # Exclude the most sensitive blocks: 1, 2, 4, ...
    while not metrics.within(calibration.max_changed) and count < 2 * len(ranked):
        more = set().union(*(blocks[name] for name in ranked[:count]))
        metrics = measure(excluded | more)
        count *= 2
    return excluded | more, metrics


def group_by_block(layers: Iterable[str]) -> dict[str, set[str]]:
    """Group layers by the prefix of their names, which is that of their block."""
    blocks: dict[str, set[str]] = {}
    for name in layers:
        layer = name[: -len("_fwd")] if name.endswith("_fwd") else name
        blocks.setdefault(layer.rpartition("_")[0] or name, set()).add(name)
    # A single group of all layers offers no choice: take each layer by itself.
    return blocks if len(blocks) > 1 else {name: {name} for name in next(iter(blocks.values()), ())}


def quantization_record(
    calibration: Calibration,
    layers: Sequence[str],
    excluded: Collection[str],
    metrics: QuantizationMetrics,
) -> dict[str, Any]:
    """Return the record of a quantization for the export's metadata."""
    return {
        "method": calibration.method,
        "images": len(calibration.images),
        "layers": len(layers),
        "kept": [name for name in layers if name in excluded],
        **dataclasses.asdict(metrics),
    }
