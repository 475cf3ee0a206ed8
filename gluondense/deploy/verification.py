# SPDX-License-Identifier: Apache-2.0
"""Comparison of the files of an export with the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np

from .artifact import import_block
from .artifact_files import Files
from .detector import box_agreement, check_boxes
from .metadata import ExportMetadata
from .outputs import all_outputs
from .quantization.calibration import Calibration
from .quantization.metrics import QuantizationMetrics
from .targets import get_target

Outputs = Sequence[np.ndarray]

# Largest difference of the loaded graph's outputs, relative to the largest output. The difference
# comes from another order of summation.
TOLERANCE = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-6}


@dataclasses.dataclass(frozen=True)
class Reference:
    """What the loaded files are compared with: the network's outputs for some inputs.

    Parameters
    ----------
    ctx, dtype
        Device and type of the network.
    inputs, outputs
        Batches as the graph takes them, and the network's outputs.
    tensors
        Names of these outputs in the graph; () for the graph's own outputs.
    boxes
        A detector's boxes for the inputs, with which those of its int8 export are compared.
    """

    ctx: mx.Context
    dtype: Any
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    tensors: tuple[str, ...]
    boxes: list[np.ndarray] | None


def verify(
    files: Files,
    metadata: ExportMetadata,
    reference: Reference,
    calibration: Calibration | None,
    allow_nan: bool,
) -> dict[str, Any] | None:
    """Compare the loaded files with the network; return the record of an int8 export's errors."""
    ctx = reference.ctx if metadata.target == "portable" else mx.cpu()
    dtype = np.uint8 if metadata.preprocess else reference.dtype
    block = import_block(files, ctx, reference.tensors)
    outputs, record = all_outputs(block, reference.inputs, ctx, dtype), None
    if calibration is not None:
        is_probability = metadata.output == "probabilities"
        limits = metadata.thresholds if is_probability else calibration.thresholds
        metrics = check_quantized(outputs, reference.outputs, calibration, limits)
        record = {**(metadata.quantization or {}), **dataclasses.asdict(metrics)}
    else:
        is_half = metadata.params_dtype != "float32"
        stored = np.dtype(metadata.params_dtype if is_half else reference.dtype)
        tolerance = get_target(metadata.target).tolerance or TOLERANCE[stored.name]
        check_close(outputs, reference.outputs, tolerance, allow_nan)
    if metadata.task == "detection":
        boxes = all_outputs(import_block(files, ctx), reference.inputs, ctx, dtype)
        check_boxes(boxes, metadata.output_shapes)
        if record is not None and reference.boxes is not None:
            record["agreement"] = box_agreement(boxes, reference.boxes)
    return record


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
