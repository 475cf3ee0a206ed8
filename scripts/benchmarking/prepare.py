# SPDX-License-Identifier: Apache-2.0
"""Write one network, with the same weights, in the formats that the backends read."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.gluon.model_zoo import vision

from gluondense.data.preprocessing import IMAGENET, Preprocessing
from gluondense.deploy import ExportedFiles, export
from gluondense.deploy.artifact_files import files_of
from gluondense.deploy.onnx.convert import to_onnx
from gluondense.deploy.targets import TARGETS
from gluondense.errors import check_known
from gluondense.graph.ir import Graph
from gluondense.graph.trace import trace
from gluondense.weights import save_weights

from . import networks, quantize_peers
from .interleaved import Case
from .process import log
from .workers.backends import (
    BACKENDS,
    GLUONCV,
    INT8_ONNX,
    INT8_OPENVINO,
    ONNX,
    Backend,
    exported,
    joined,
)
from .workers.torch_peer import build

CALIBRATION_IMAGES = 32
STATISTICS_IMAGES = 2
SUFFIXES = (".jpeg", ".jpg", ".png")


@dataclasses.dataclass(frozen=True)
class PreparedModel:
    """A network in the formats of the backends.

    Parameters
    ----------
    name
        What results call it.
    folder, net
        The folder with its files, and the network in MXNet.
    names, reasons
        Names of the backends that can run it, and reasons why others can't, by name.
    """

    name: str
    folder: Path
    net: gluon.HybridBlock
    names: list[str]
    reasons: dict[str, str]

    def images(self, size: int) -> np.ndarray:
        """Load the images (N, C, H, W) of a size."""
        return np.load(self.folder / f"images-{size}.npy")

    def output(self, size: int) -> np.ndarray:
        """Return the logits or the boxes of the first image of a size."""
        return joined(self.net(mx.nd.array(self.images(size)[:1])))[0]

    def case(self, batch: int, size: int) -> Case:
        """Return the backends and images to measure."""
        shape = (batch, *self.images(size).shape[1:])
        return Case(self.name, self.folder, self.names, shape, self.output(size))

    def remove_stale_files(self, size: int) -> None:
        """Remove the backends' files if they were made from other weights or images."""
        digest = hashlib.sha256(self.images(size).tobytes())
        for name, parameter in sorted(self.net.collect_params().items()):
            digest.update(name.encode() + parameter.data().asnumpy().tobytes())
        mark = self.folder / "contents.sha256"
        if not mark.exists() or mark.read_text() != digest.hexdigest():
            for row in backends().values():
                (self.folder / row.source).unlink(missing_ok=True)
        mark.write_text(digest.hexdigest())


def backends() -> dict[str, Backend]:
    """Return all backends by name: the export targets that MXNet runs, and the peers."""
    ours = [name for name in TARGETS if isinstance(files_of(name, ""), ExportedFiles)]
    return {**{target: exported(target) for target in ours}, **BACKENDS}


def prepare(
    model: str,
    folder: Path,
    sizes: Sequence[int],
    names: Sequence[str] = (),
    image_folder: Path | None = None,
    net: gluon.HybridBlock | None = None,
) -> PreparedModel:
    """Write a network for backends, with random weights unless it is that of a run.

    Parameters
    ----------
    model, folder
        A network as for :func:`.networks.build`, and an existing folder for the files.
    sizes
        Heights and widths of the images; int8 is calibrated with the first.
    names
        Names of the backends; default: all. Networks of GluonCV run in GluonCV only.
    image_folder
        Folder of images to predict and calibrate with; default: random numbers.
    net
        The network, if it is built already.

    Raises
    ------
    ValueError
        If a name is unknown, or the images are too small for the model.
    """
    net = net or networks.build(model, {})
    chosen = _backends_of(net, names)
    for size in sizes:
        np.save(folder / f"images-{size}.npy", _images(net, size, image_folder))
    prepared = PreparedModel(networks.label(model, net), folder, net, [], {})
    if not networks.is_initialized(net):
        networks.randomize(net, prepared.images(sizes[0])[:STATISTICS_IMAGES])
    about = {"model": net.model_name, "classes": list(getattr(net, "classes", None) or ())}
    (folder / "network.json").write_text(json.dumps(about))
    prepared.output(sizes[0])  # checks the size, and infers the parameters' shapes
    prepared.remove_stale_files(sizes[0])
    for name, row in chosen.items():
        try:
            _write(prepared, name, row, sizes[0])
            prepared.names.append(name)
        except Exception as error:  # one backend's failure must not stop the others
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            prepared.reasons[name] = reason
            log(f"{prepared.name}: no {name}: {reason}")
    return prepared


def _backends_of(net: gluon.HybridBlock, names: Sequence[str]) -> dict[str, Backend]:
    """Return the backends to run a network in."""
    known = backends()
    for name in names:
        check_known("backend", name, known)
    if networks.is_of_gluoncv(net):
        return {"gluoncv": known["gluoncv"]}
    return {name: known[name] for name in names or known if names or name != "gluoncv"}


def check_installed(modules: Sequence[str]) -> None:
    """Raise a RuntimeError that names the first module that is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise RuntimeError(f"{module} is not installed")


def _write(prepared: PreparedModel, name: str, row: Backend, size: int) -> None:
    check_installed((*row.needs, *row.prepares))
    if (prepared.folder / row.source).exists() and not row.ours:
        return  # kept from an earlier run; this project's exports may have changed since
    begin, model = time.perf_counter(), prepared.name
    log(f"{model}: preparing {name}")
    if row.ours:
        data = prepared.images(size)
        calibration = data if TARGETS[row.target].needs_calibration else None
        shape, path = (1, *data.shape[1:]), prepared.folder / row.target
        export(prepared.net, path, shape, row.target, calibration=calibration)
    else:
        WRITERS[row.source](prepared, size)
    log(f"{model}: prepared {name} in {time.perf_counter() - begin:.1f} s")


def _images(net: gluon.HybridBlock, size: int, folder: Path | None) -> np.ndarray:
    channels = networks.in_channels(net)
    if folder is None:
        shape = (CALIBRATION_IMAGES, channels, size, size)
        return np.random.default_rng(0).standard_normal(shape, dtype="float32")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"{folder} has no images ({', '.join(SUFFIXES)}).")
    chosen = np.linspace(0, len(files) - 1, CALIBRATION_IMAGES).astype(int)
    grey = (0.5,) * channels
    mean, std = (IMAGENET.mean, IMAGENET.std) if channels == 3 else (grey, grey)
    resize = "exact" if hasattr(net, "yolo_outputs") else "shorter"
    preprocessing = Preprocessing(mean, std, input_size=size, resize=resize)
    return preprocessing.normalize(
        np.stack([preprocessing.pixels(files[index]) for index in chosen])
    )


def _zoo(prepared: PreparedModel, size: int) -> None:
    name = prepared.net.model_name
    try:
        vision.get_model(name)
    except ValueError:
        raise ValueError(f"MXNet's zoo has no {name}") from None
    save_weights(prepared.net, prepared.folder / "zoo.params", "mxnet-zoo")


def _gluoncv(prepared: PreparedModel, size: int) -> None:
    if not networks.is_of_gluoncv(prepared.net):
        raise ValueError("only GluonCV's own detectors run in it")
    prepared.net.save_parameters(str(prepared.folder / GLUONCV))


def _torch(prepared: PreparedModel, size: int) -> None:
    name = prepared.net.model_name
    if build(name) is None:
        raise ValueError(f"neither torchvision nor timm is installed and has {name}")
    save_weights(prepared.net, prepared.folder / "net.safetensors")


def _onnx(prepared: PreparedModel, size: int) -> None:
    import onnx

    net = prepared.net
    if hasattr(net, "yolo_outputs"):
        shape = (1, *prepared.images(size).shape[1:])
        export(net, prepared.folder / Path(ONNX).stem, shape, "onnx")
        return
    shape = ("N", networks.in_channels(net), "H", "W")
    values = {name: value.data().asnumpy() for name, value in net.collect_params().items()}
    onnx.save(to_onnx(Graph(trace(net), values), shape), str(prepared.folder / ONNX))


def _quantized(write: Callable[[Path, np.ndarray], None]) -> Callable[[PreparedModel, int], None]:
    def run(prepared: PreparedModel, size: int) -> None:
        if not (prepared.folder / ONNX).exists():
            _onnx(prepared, size)
        write(prepared.folder, prepared.images(size))

    return run


# Writers of the files that peers read.
WRITERS: dict[str, Callable[[PreparedModel, int], None]] = {
    "zoo.params": _zoo,
    GLUONCV: _gluoncv,
    "net.safetensors": _torch,
    ONNX: _onnx,
    INT8_ONNX: _quantized(quantize_peers.onnxruntime),
    INT8_OPENVINO: _quantized(quantize_peers.openvino),
}
