# SPDX-License-Identifier: Apache-2.0
"""Comparison of an exported graph with the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .quantization.calibration import Calibration
from .quantization.metrics import QuantizationMetrics

Outputs = Sequence[np.ndarray]

# Largest difference of the loaded graph's outputs, relative to the largest output. The difference
# comes from another order of summation.
TOLERANCE = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-6}


def _check_finite(expected: Outputs) -> None:
    if not all(np.isfinite(array).all() for array in expected):
        raise RuntimeError("the network's own outputs are not finite: nothing was written.")


def check_close(
    outputs: Outputs, expected: Outputs, tolerance: float, allow_nan: bool = False
) -> None:
    """Raise a RuntimeError if outputs differ by more than a part of the largest output.

    ``allow_nan`` compares the outputs that are finite.
    """
    if not allow_nan:
        _check_finite(expected)
    for got, wanted in zip(outputs, expected):
        finite = np.isfinite(wanted)
        scale = np.abs(wanted[finite]).max(initial=0)
        difference = np.abs(got[finite].astype("float64") - wanted[finite]).max(initial=0)
        if not difference <= tolerance * scale:
            raise RuntimeError(
                f"the loaded graph's outputs are off by {difference:.3g} (largest output "
                f"{scale:.3g}), so nothing was written: please report this with the network's spec."
            )


def check_quantized(
    outputs: Outputs,
    expected: Outputs,
    calibration: Calibration,
    thresholds: Sequence[float] | None = None,
) -> QuantizationMetrics:
    """Return the quantization error, and check that it is as small as the calibration demands.

    ``thresholds`` are the outputs from which on each of several labels is present.

    Raises
    ------
    RuntimeError
        If it is larger: layers were excluded from quantization until it was small enough.
    """
    _check_finite(expected)
    metrics = QuantizationMetrics.compare(outputs, expected, thresholds)
    # Another order of summation may change the class of one image with two nearly equal logits.
    allowed = min(1.0, calibration.max_changed + 1 / len(calibration.images))
    if metrics.within(allowed):
        return metrics
    raise RuntimeError(
        f"the loaded graph's outputs are not those that were calibrated ({metrics}), so nothing "
        "was written: please report this with the network's spec."
    )
