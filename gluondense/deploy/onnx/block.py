"""An exported ONNX model as a block of MXNet's."""

from __future__ import annotations

import os
from pathlib import Path

import mxnet as mx
from mxnet import gluon

from ...environment.process import usable_cores
from ...graph.trace import INPUT


class OnnxBlock(gluon.Block):
    """A model that ONNX Runtime runs on the CPU: arrays of MXNet in, arrays of MXNet out.

    It takes ``OMP_NUM_THREADS`` threads, as MXNet does. It can't be trained or hybridized.

    Parameters
    ----------
    model
        Its file, or what is in one.

    Raises
    ------
    ValueError
        If ONNX Runtime is not installed or refuses the file.
    """

    def __init__(self, model: Path | bytes) -> None:
        super().__init__()
        name = model if isinstance(model, Path) else "the model"
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise ValueError(
                f"{name} is run by onnxruntime, which is missing: pip install 'gluondense[onnx]'."
            ) from None
        options = onnxruntime.SessionOptions()
        threads = os.environ.get("OMP_NUM_THREADS", "")
        options.intra_op_num_threads = int(threads) if threads.isdigit() else usable_cores()
        options.log_severity_level = 3  # errors; it warns of each constant that it folds
        try:
            self._session = onnxruntime.InferenceSession(
                str(model) if isinstance(model, Path) else model,
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # its exceptions share no class but this
            raise ValueError(
                f"ONNX Runtime can't load {name}: {' '.join(str(error).split())}"
            ) from None

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray | list[mx.nd.NDArray]:
        """Return the output, or the list of outputs, on the input's device."""
        found = self._session.run(None, {INPUT: x.asnumpy()})
        arrays = [mx.nd.array(output, ctx=x.ctx, dtype=output.dtype) for output in found]
        return arrays[0] if len(arrays) == 1 else arrays
