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
from mxnet.gluon.model_zoo import vision

from gluondense.data.files.image import read_image
from gluondense.data.transforms.batch import normalize
from gluondense.deploy import ExportedFiles, export
from gluondense.deploy.artifact_files import files_of
from gluondense.deploy.onnx.convert import to_onnx
from gluondense.deploy.targets import TARGETS
from gluondense.graph.ir import Graph
from gluondense.graph.trace import trace
from gluondense.models import Network, build_model
from gluondense.weights import save_weights

from . import quantize_peers
from .interleaved import Log
from .workers.backends import INT8_ONNX, INT8_OPENVINO, ONNX, PEERS, Backend, exported
from .workers.torch_peer import build

CALIBRATION_IMAGES = 32
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class PreparedModel:
    """A network in the formats of the backends.

    Parameters
    ----------
    folder
        The folder with its files.
    net
        The network in MXNet.
    names
        Names of the backends that can run it.
    reasons
        Reasons why other backends can't, by name.
    """

    folder: Path
    net: Network
    names: list[str]
    reasons: dict[str, str]

    def logits(self, size: int) -> np.ndarray:
        """Return the network's logits of the first image of a size."""
        return self.net(mx.nd.array(images(self.folder, size)[:1])).asnumpy()[0]

    def remove_stale_files(self, size: int) -> None:
        """Remove the backends' files if they were made from other weights or images."""
        digest = hashlib.sha256(images(self.folder, size).tobytes())
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
    return {**{target: exported(target) for target in ours}, **PEERS}


def prepare(
    model: str,
    folder: Path,
    sizes: Sequence[int],
    names: Sequence[str] = (),
    image_folder: Path | None = None,
    log: Log = lambda line: None,
) -> PreparedModel:
    """Write a network with random weights for backends.

    Parameters
    ----------
    model
        Registry name.
    folder
        An existing folder for the files.
    sizes
        Heights and widths of the images; int8 is calibrated with the first.
    names
        Names of the backends; default: all.
    image_folder
        Folder of images to predict and calibrate with; default: random numbers.
    log
        Receives progress messages.

    Raises
    ------
    ValueError
        If a name is unknown, or the images are too small for the model.
    """
    known = backends()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}: choose of {', '.join(known)}.")
    net = build_model(model)
    _randomize(net)
    (folder / "network.json").write_text(json.dumps({"model": model}))
    for size in sizes:
        np.save(folder / f"images-{size}.npy", _images(net, size, image_folder))
    prepared = PreparedModel(folder, net, [], {})
    prepared.logits(sizes[0])  # checks the size, and infers the parameters' shapes
    prepared.remove_stale_files(sizes[0])
    for name in names or known:
        try:
            _write(prepared, name, known[name], sizes[0], log)
            prepared.names.append(name)
        except Exception as error:  # one backend's failure must not stop the others
            prepared.reasons[name] = one_line(error)
            log(f"no {name}: {prepared.reasons[name]}")
    return prepared


def images(folder: Path, size: int) -> np.ndarray:
    """Load the images of a size."""
    return np.load(folder / f"images-{size}.npy")


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def _write(prepared: PreparedModel, name: str, row: Backend, size: int, log: Log) -> None:
    for module in (*row.needs, *row.prepares):
        if not importlib.util.find_spec(module):
            raise ModuleNotFoundError(f"{module} is not installed")
    if (prepared.folder / row.source).exists() and not row.ours:
        return  # kept from an earlier run; this project's exports may have changed since
    begin = time.perf_counter()
    log(f"preparing {name}")
    if row.ours:
        _export(prepared, name, size)
    else:
        WRITERS[row.source](prepared, size)
    log(f"prepared {name} in {time.perf_counter() - begin:.1f} s")


def _export(prepared: PreparedModel, target: str, size: int) -> None:
    data = images(prepared.folder, size)
    calibration = data if TARGETS[target].needs_calibration else None
    shape = (1, *data.shape[1:])
    export(prepared.net, prepared.folder / target, shape, target, calibration=calibration)


def _randomize(net: Network) -> None:
    rng = np.random.default_rng(0)
    mx.random.seed(0)  # equal in every run, as peers' files are reused
    net.initialize()
    for name, parameter in net.collect_params().items():
        if name.endswith(("gamma", "running_var")):
            parameter.set_data(mx.nd.array(rng.uniform(0.5, 1.5, parameter.shape)))
        elif name.endswith(("beta", "running_mean")):
            parameter.set_data(mx.nd.array(rng.uniform(-0.5, 0.5, parameter.shape)))


def _images(net: Network, size: int, folder: Path | None) -> np.ndarray:
    channels = net.spec.in_channels
    if folder is None:
        shape = (CALIBRATION_IMAGES, channels, size, size)
        return np.random.default_rng(0).standard_normal(shape, dtype="float32")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"{folder} has no images ({', '.join(SUFFIXES)}).")
    chosen = np.linspace(0, len(files) - 1, CALIBRATION_IMAGES).astype(int)
    pixels = np.stack([read_image(files[index], channels, (size, size)) for index in chosen])
    grey = (0.5,) * channels
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else (grey, grey)
    return normalize(pixels, mean, std)


SUFFIXES = (".jpeg", ".jpg", ".png")


def _zoo(prepared: PreparedModel, size: int) -> None:
    name = prepared.net.model_name
    try:
        vision.get_model(name)
    except ValueError:
        raise ValueError(f"MXNet's zoo has no {name}") from None
    save_weights(prepared.net, prepared.folder / "zoo.params", "mxnet-zoo")


def _torch(prepared: PreparedModel, size: int) -> None:
    name = prepared.net.model_name
    if build(name) is None:
        raise ValueError(f"neither torchvision nor timm is installed and has {name}")
    save_weights(prepared.net, prepared.folder / "net.safetensors")


def _onnx(prepared: PreparedModel, size: int) -> None:
    import onnx

    net = prepared.net
    values = {name: value.data().asnumpy() for name, value in net.collect_params().items()}
    shape = ("N", net.spec.in_channels, "H", "W")
    onnx.save(to_onnx(Graph(trace(net), values), shape), str(prepared.folder / ONNX))


def _quantized(write: Callable[[Path, np.ndarray], None]) -> Callable[[PreparedModel, int], None]:
    def run(prepared: PreparedModel, size: int) -> None:
        if not (prepared.folder / ONNX).exists():
            _onnx(prepared, size)
        write(prepared.folder, images(prepared.folder, size))

    return run


# Writers of the files that peers read.
WRITERS: dict[str, Callable[[PreparedModel, int], None]] = {
    "zoo.params": _zoo,
    "net.safetensors": _torch,
    ONNX: _onnx,
    INT8_ONNX: _quantized(quantize_peers.onnxruntime),
    INT8_OPENVINO: _quantized(quantize_peers.openvino),
}
