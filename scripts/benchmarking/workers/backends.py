# SPDX-License-Identifier: Apache-2.0
"""Inference backends of the benchmark: this project's export targets and their peers.

A backend is built in a worker process, from a folder with the network in the format that the
backend reads. It is a function from images (N, C, H, W) to logits (N, classes), or to the boxes of
a detector, rows (N, K, 6) of class index, score and corners. All are NumPy arrays.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]
Build = Callable[[Path, int, "tuple[int, ...]"], Run]


@dataclasses.dataclass(frozen=True)
class Backend:
    """A backend that runs a network."""

    build: Build  # makes the function from the folder, the number of threads and the images' shape
    needs: tuple[str, ...]  # modules that must be installed to run it
    source: str  # the file of the folder that it reads first
    precision: str = "fp32"  # of most multiplications: one of PRECISIONS
    prepares: tuple[str, ...] = ()  # further modules that must be installed to write that file
    target: str = ""  # this project's export target whose files it reads; "" for a peer

    @property
    def ours(self) -> bool:
        """Whether it is this project's."""
        return bool(self.target)


def joined(outputs: Any) -> np.ndarray:
    """Return logits, or the three outputs of a detector side by side; they may be of MXNet."""
    arrays = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    arrays = [x if isinstance(x, np.ndarray) else x.asnumpy() for x in arrays]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)


def exported(target: str) -> Backend:
    """Return the backend that runs this project's export for a target."""

    def build(folder: Path, threads: int, shape: tuple[int, ...]) -> Run:
        import mxnet as mx

        if precision == "bf16" and "avx512_bf16" not in Path("/proc/cpuinfo").read_text():
            raise RuntimeError("this CPU has no bfloat16: results would be those of native")
        # The code of a user of stock MXNet, without gluondense.
        library = folder / f"{target}-native.so"
        if library.exists():
            mx.library.load(str(library.resolve()), verbose=False)
        symbol, params = f"{target}-symbol.json", f"{target}-0000.params"
        block = mx.gluon.SymbolBlock.imports(str(folder / symbol), ["data"], str(folder / params))
        block.hybridize(static_alloc=True, static_shape=True)
        return lambda x: joined(block(mx.nd.array(x)))

    precision = next((name for name in ("int8", "bf16") if name in target), "fp32")
    return Backend(build, ("mxnet",), f"{target}-symbol.json", precision, target=target)


def _runtime(folder: Path, threads: int, shape: tuple[int, ...]) -> Run:
    from gluondense import runtime

    return runtime.load(folder / "native")


def _mxnet_zoo(folder: Path, threads: int, shape: tuple[int, ...]) -> Run:
    import mxnet as mx
    from mxnet.gluon.model_zoo import vision

    net = vision.get_model(json.loads((folder / "network.json").read_text())["model"])
    net.load_parameters(str(folder / "zoo.params"))
    net.hybridize(static_alloc=True, static_shape=True)
    return lambda x: net(mx.nd.array(x)).asnumpy()


def _gluoncv(folder: Path, threads: int, shape: tuple[int, ...]) -> Run:
    import mxnet as mx

    sys.modules["torch"] = None  # type: ignore[assignment]  # GluonCV refuses PyTorch 2
    from gluoncv import model_zoo

    about = json.loads((folder / "network.json").read_text())
    classes = {"classes": about["classes"]} if about["model"].endswith("_custom") else {}
    net = model_zoo.get_model(about["model"], pretrained_base=False, **classes)
    net.load_parameters(str(folder / GLUONCV))
    net.hybridize(static_alloc=True, static_shape=True)
    return lambda x: joined(net(mx.nd.array(x)))


def _torch(folder: Path, threads: int, shape: tuple[int, ...], compiled: bool = False) -> Run:
    import torch
    from torch_peer import load  # type: ignore[import-not-found]  # in this folder

    torch.set_num_threads(threads)
    model: Any = load(folder)
    if compiled:
        model = torch.compile(model)

    def run(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    return run


def _torch_compiled(folder: Path, threads: int, shape: tuple[int, ...]) -> Run:
    return _torch(folder, threads, shape, compiled=True)


def _onnxruntime(file: str) -> Build:
    def build(folder: Path, threads: int, shape: tuple[int, ...]) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin between predictions would slow down the other backends.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        for name, length in zip("NHW", (shape[0], *shape[2:])):
            options.add_free_dimension_override_by_name(name, length)
        session = onnxruntime.InferenceSession(
            str(folder / file), options, providers=["CPUExecutionProvider"]
        )
        (name,) = (value.name for value in session.get_inputs())
        return lambda x: joined(session.run(None, {name: x}))

    return build


def _openvino(file: str, precision: str = "f32") -> Build:
    def build(folder: Path, threads: int, shape: tuple[int, ...]) -> Run:
        import openvino

        core = openvino.Core()
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in capabilities:
            raise RuntimeError("this CPU has no bfloat16")
        model = core.read_model(folder / file)
        model.reshape(list(shape))
        # The default precision is bfloat16 on CPUs that support it.
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        request = core.compile_model(model, "CPU", options).create_infer_request()
        return lambda x: joined(list(request.infer([x], share_inputs=True).values()))

    return build


ONNX, RUNTIME, OPENVINO = "net.onnx", ("onnxruntime",), ("openvino",)
INT8_ONNX, INT8_OPENVINO = "net-int8.onnx", "net-int8.xml"
GLUONCV = "gluoncv.params"

# Other ways to run exports than MXNet, and the peers.
BACKENDS: dict[str, Backend] = {
    "runtime": Backend(_runtime, ("gluondense.runtime",), "native-symbol.json", target="native"),
    "mxnet-zoo": Backend(_mxnet_zoo, ("mxnet",), "zoo.params"),
    "gluoncv": Backend(_gluoncv, ("mxnet",), GLUONCV, prepares=("gluoncv",)),
    "torch": Backend(_torch, ("torch",), "net.safetensors"),
    "torch.compile": Backend(_torch_compiled, ("torch",), "net.safetensors"),
    "onnxruntime": Backend(_onnxruntime(ONNX), RUNTIME, ONNX, prepares=("onnx",)),
    "openvino": Backend(_openvino(ONNX), OPENVINO, ONNX, prepares=("onnx",)),
    "openvino-bf16": Backend(_openvino(ONNX, "bf16"), OPENVINO, ONNX, "bf16", prepares=("onnx",)),
    "onnxruntime-int8": Backend(
        _onnxruntime(INT8_ONNX), RUNTIME, INT8_ONNX, "int8", prepares=("onnx", "sympy")
    ),
    "openvino-int8": Backend(
        _openvino(INT8_OPENVINO), OPENVINO, INT8_OPENVINO, "int8", prepares=("onnx", "nncf")
    ),
}
PRECISIONS = ("fp32", "bf16", "int8")


def find(name: str) -> Backend:
    """Return the backend with this name, by default the export target in MXNet."""
    return BACKENDS.get(name) or exported(name)
