# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization with the peers' tools, with their default or recommended settings."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .workers.backends import INT8_ONNX, INT8_OPENVINO, ONNX


def onnxruntime(folder: Path, images: np.ndarray) -> None:
    """Quantize with ONNX Runtime: QDQ, per-channel int8 weights, uint8 activations, min-max."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.remaining = iter(images[:, None])

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.remaining, None)
            return None if image is None else {"data": image}

    preprocessed, target = str(folder / "net-ready.onnx"), str(folder / INT8_ONNX)
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    options = {"quant_format": QuantFormat.QDQ, "per_channel": True, **types}
    with _quiet():
        # The symbolic inference knows no poolings that round up; the other one suffices.
        quant_pre_process(str(folder / ONNX), preprocessed, skip_symbolic_shape=True)
        quantize(preprocessed, target, Reader(), **options)


def openvino(folder: Path, images: np.ndarray) -> None:
    """Quantize with NNCF for OpenVINO."""
    with _quiet():
        import nncf
        import openvino

        model = openvino.Core().read_model(folder / ONNX)
        data = nncf.Dataset(list(images[:, None]))
        quantized = nncf.quantize(model, data, subset_size=len(images))
        openvino.save_model(quantized, folder / INT8_OPENVINO, compress_to_fp16=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress progress bars and log messages."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
