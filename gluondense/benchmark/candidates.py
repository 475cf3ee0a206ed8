"""What can be measured: this project's targets and its peers, one row each.

A builder runs in a process of its own. It gets a folder with the network as each peer reads it,
and returns a function from an image (N, C, H, W) to logits, both NumPy arrays.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any, Callable

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]
Build = Callable[[Path, int, tuple[int, ...]], Run]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Something that runs a network.

    Parameters
    ----------
    build
        Makes the function, from the folder of the network, the number of threads and the shape of
        the images.
    needs
        Modules that must be installed.
    source
        The file in the folder without which it cannot run this network.
    """

    build: Build
    needs: tuple[str, ...]
    source: str


def _exported(name: str) -> Build:
    def build(folder: Path, threads: int, shape: tuple[int, ...]) -> Run:
        import mxnet as mx

        # What a user of plain MXNet writes: nothing of gluondense.
        files = (str(folder / f"{name}-symbol.json"), ["data"], str(folder / f"{name}-0000.params"))
        block = mx.gluon.SymbolBlock.imports(*files)
        block.hybridize(static_alloc=True, static_shape=True)
        return lambda x: block(mx.nd.array(x)).asnumpy()

    return build


def _mxnet_zoo(folder: Path, threads: int, shape: tuple[int, ...]) -> Run:
    import mxnet as mx
    from mxnet.gluon.model_zoo import vision

    net = vision.get_model(json.loads((folder / "network.json").read_text())["model"])
    net.load_parameters(str(folder / "zoo.params"))
    net.hybridize(static_alloc=True, static_shape=True)
    return lambda x: net(mx.nd.array(x)).asnumpy()


def _torch(folder: Path, threads: int, shape: tuple[int, ...], compiled: bool = False) -> Run:
    import torch

    # In a worker, which imports nothing of gluondense, this file's neighbour.
    from torch_peer import load  # type: ignore[import-not-found]

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


def _onnxruntime(folder: Path, threads: int, shape: tuple[int, ...]) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while others have their turn would slow these.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        str(folder / "net.onnx"), options, providers=["CPUExecutionProvider"]
    )
    (name,) = (value.name for value in session.get_inputs())
    return lambda x: session.run(None, {name: x})[0]


def _openvino(folder: Path, threads: int, shape: tuple[int, ...]) -> Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / "net.onnx")
    model.reshape(list(shape))
    # Its default precision is bfloat16 where the CPU has it; this is the race in float32.
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()
    return lambda x: next(iter(request.infer([x]).values()))


CANDIDATES: dict[str, Candidate] = {
    "onednn": Candidate(_exported("onednn"), ("mxnet",), "onednn-symbol.json"),
    "portable": Candidate(_exported("portable"), ("mxnet",), "portable-symbol.json"),
    "mxnet zoo": Candidate(_mxnet_zoo, ("mxnet",), "zoo.params"),
    "torch": Candidate(_torch, ("torch",), "net.safetensors"),
    "torch.compile": Candidate(_torch_compiled, ("torch",), "net.safetensors"),
    "onnxruntime": Candidate(_onnxruntime, ("onnxruntime",), "net.onnx"),
    "openvino": Candidate(_openvino, ("openvino",), "net.onnx"),
}


def available(folder: Path) -> list[str]:
    """Names of the candidates that are installed and have the network in this folder."""
    return [
        name
        for name, row in CANDIDATES.items()
        if all(importlib.util.find_spec(module) for module in row.needs)
        and (folder / row.source).exists()
    ]
