# SPDX-License-Identifier: Apache-2.0
"""ONNX models as Gluon blocks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import mxnet as mx
from mxnet import gluon

from ...environment.process import usable_cores
from ...errors import in_one_line
from ...graph.trace import INPUT


class OnnxBlock(gluon.Block):
    """An ONNX model that ONNX Runtime executes on the CPU, with MXNet arrays as input and output.

    It uses ``OMP_NUM_THREADS`` threads, as MXNet does. It cannot be trained or hybridized.

    Parameters
    ----------
    model
        Path or content of a model file.
    tensors
        Names of the outputs; by default those of the model.

    Raises
    ------
    ValueError
        If ONNX Runtime is not installed or rejects the model.
    """

    def __init__(self, model: Path | bytes, tensors: Sequence[str] = ()) -> None:
        super().__init__()
        name = model if isinstance(model, Path) else "the model"
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise ValueError(
                f"{name} needs onnxruntime, which is missing: pip install 'gluondense[onnx]'."
            ) from None
        options = onnxruntime.SessionOptions()
        threads = os.environ.get("OMP_NUM_THREADS", "")
        options.intra_op_num_threads = int(threads) if threads.isdigit() else usable_cores()
        options.log_severity_level = 3  # errors only; it warns about each constant that it folds
        try:
            self._session = onnxruntime.InferenceSession(
                _with_outputs(model, tensors) if tensors else _as_source(model),
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # its exceptions have no other common base class
            raise ValueError(f"ONNX Runtime can't load {name}: {in_one_line(error)}") from None

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray | list[mx.nd.NDArray]:
        """Return the output, or a list of several outputs, on the device of the input."""
        found = self._session.run(None, {INPUT: x.asnumpy()})
        arrays = [mx.nd.array(output, ctx=x.ctx, dtype=output.dtype) for output in found]
        return arrays[0] if len(arrays) == 1 else arrays


def _as_source(model: Path | bytes) -> str | bytes:
    return str(model) if isinstance(model, Path) else model


def _with_outputs(model: Path | bytes, tensors: Sequence[str]) -> bytes:
    """Return a model with other outputs."""
    import onnx

    content = onnx.load_from_string(model.read_bytes() if isinstance(model, Path) else model)
    del content.graph.output[:]
    content.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return content.SerializeToString()
