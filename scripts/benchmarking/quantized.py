"""Networks as the peers' own tools quantize them: calibrated, with their defaults or advice."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .candidates import INT8_ONNX, INT8_OPENVINO, ONNX


def onnxruntime(folder: Path, images: np.ndarray) -> None:
    """Write ONNX Runtime's model: QDQ, weights int8 by channel, activations uint8, min-max."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images[:, None])

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {"data": image}

    ready, goal = str(folder / "net-ready.onnx"), str(folder / INT8_ONNX)
    with _quiet():
        quant_pre_process(str(folder / ONNX), ready)
        quantize(
            ready,
            goal,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def openvino(folder: Path, images: np.ndarray) -> None:
    """Write OpenVINO's model, of NNCF's quantization after training."""
    with _quiet():
        import nncf
        import openvino

        model = openvino.Core().read_model(folder / ONNX)
        data = nncf.Dataset(list(images[:, None]))
        found = nncf.quantize(model, data, subset_size=len(images))
        openvino.save_model(found, folder / INT8_OPENVINO, compress_to_fp16=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep progress bars and remarks from the terminal."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
