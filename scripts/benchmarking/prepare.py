"""One network in a folder, as each candidate reads it, with the same weights."""

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
from gluondense.weights import load_weights, save_weights

from . import quantized
from .candidates import INT8_ONNX, INT8_OPENVINO, ONNX, PEERS, Candidate, exported
from .race import Say
from .torch_peer import build

CALIBRATION_IMAGES = 32
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A network that candidates can run.

    Parameters
    ----------
    folder
        Where it lies.
    net
        MXNet's.
    names
        Of the candidates that can run it.
    reasons
        Why others can't, by their names.
    """

    folder: Path
    net: Network
    names: list[str]
    reasons: dict[str, str]

    def logits(self, size: int) -> np.ndarray:
        """What the network gives for the first image of a size."""
        return self.net(mx.nd.array(images(self.folder, size)[:1])).asnumpy()[0]

    def forget_others(self, size: int) -> None:
        """Remove what candidates read of other weights or images than these."""
        digest = hashlib.sha256(images(self.folder, size).tobytes())
        for name, parameter in sorted(self.net.collect_params().items()):
            digest.update(name.encode() + parameter.data().asnumpy().tobytes())
        mark = self.folder / "contents.sha256"
        if not mark.exists() or mark.read_text() != digest.hexdigest():
            for row in candidates().values():
                (self.folder / row.source).unlink(missing_ok=True)
        mark.write_text(digest.hexdigest())


def candidates() -> dict[str, Candidate]:
    """All that there are, by their names: a row for each of ``export`` to MXNet, and the peers."""
    ours = [name for name in TARGETS if isinstance(files_of(name, ""), ExportedFiles)]
    return {**{target: exported(target) for target in ours}, **PEERS}


def prepare(
    model: str,
    folder: Path,
    sizes: Sequence[int],
    names: Sequence[str] = (),
    pictures: Path | None = None,
    weights: Path | None = None,
    say: Say = lambda line: None,
) -> Prepared:
    """Write a network for candidates.

    Parameters
    ----------
    model
        Registry name.
    folder
        Where to; it exists.
    sizes
        Heights and widths of the images to be; int8 is calibrated with the first.
    names
        Of the candidates; all by default.
    pictures
        A folder of images to predict and calibrate with; by default they are drawn.
    weights
        A file to load; by default He's random values with batch statistics near 0 and 1.
    say
        Is told what is under way.

    Raises
    ------
    ValueError
        If there is no such model or candidate, or the images are too small for it.
    """
    known = candidates()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}: choose of {', '.join(known)}.")
    net = build_model(model)
    if weights is None:
        _randomize(net)
    else:
        load_weights(net, weights)
    (folder / "network.json").write_text(json.dumps({"model": model}))
    for size in sizes:
        np.save(folder / f"images-{size}.npy", _images(net, size, pictures))
    prepared = Prepared(folder, net, [], {})
    prepared.logits(sizes[0])  # a mistake shows here, and the parameters get their shapes
    prepared.forget_others(sizes[0])
    for name in names or known:
        try:
            _write(prepared, name, known[name], sizes[0], say)
            prepared.names.append(name)
        except Exception as error:  # whatever stops one candidate is no reason to stop the others
            prepared.reasons[name] = one_line(error)
            say(f"no {name}: {prepared.reasons[name]}")
    return prepared


def images(folder: Path, size: int) -> np.ndarray:
    """Return the images of a size."""
    return np.load(folder / f"images-{size}.npy")


def one_line(error: BaseException) -> str:
    """Return the first line that an error says."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def _write(prepared: Prepared, name: str, row: Candidate, size: int, say: Say) -> None:
    for module in (*row.needs, *row.prepares):
        if not importlib.util.find_spec(module):
            raise ModuleNotFoundError(f"{module} is not installed")
    if (prepared.folder / row.source).exists() and not row.ours:
        return  # of an earlier run; what this project exports may have changed since
    begin = time.perf_counter()
    say(f"preparing {name}")
    if row.ours:
        _export(prepared, name, size)
    else:
        WRITERS[row.source](prepared, size)
    say(f"prepared {name} in {time.perf_counter() - begin:.1f} s")


def _export(prepared: Prepared, target: str, size: int) -> None:
    data = images(prepared.folder, size)
    calibration = data if TARGETS[target].needs_calibration else None
    shape = (1, *data.shape[1:])
    export(prepared.net, prepared.folder / target, shape, target, calibration=calibration)


def _randomize(net: Network) -> None:
    rng = np.random.default_rng(0)
    mx.random.seed(0)  # the same in every run: peers' files are kept
    net.initialize()
    for name, parameter in net.collect_params().items():
        if name.endswith(("gamma", "running_var")):
            parameter.set_data(mx.nd.array(rng.uniform(0.5, 1.5, parameter.shape)))
        elif name.endswith(("beta", "running_mean")):
            parameter.set_data(mx.nd.array(rng.uniform(-0.5, 0.5, parameter.shape)))


def _images(net: Network, size: int, pictures: Path | None) -> np.ndarray:
    channels = net.spec.in_channels
    if pictures is None:
        shape = (CALIBRATION_IMAGES, channels, size, size)
        return np.random.default_rng(0).standard_normal(shape, dtype="float32")
    files = sorted(path for path in pictures.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"{pictures} has no images ({', '.join(SUFFIXES)}).")
    chosen = np.linspace(0, len(files) - 1, CALIBRATION_IMAGES).astype(int)
    pixels = np.stack([read_image(files[index], channels, (size, size)) for index in chosen])
    of_weights = getattr(net, "preprocessing", None)
    if of_weights is not None:
        return normalize(pixels, of_weights.mean, of_weights.std)
    grey = (0.5,) * channels
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else (grey, grey)
    return normalize(pixels, mean, std)


SUFFIXES = (".jpeg", ".jpg", ".png")


def _zoo(prepared: Prepared, size: int) -> None:
    name = prepared.net.model_name
    try:
        vision.get_model(name)
    except ValueError:
        raise ValueError(f"MXNet's zoo has no {name}") from None
    save_weights(prepared.net, prepared.folder / "zoo.params", "mxnet-zoo")


def _torch(prepared: Prepared, size: int) -> None:
    name = prepared.net.model_name
    if build(name) is None:
        raise ValueError(f"neither torchvision nor timm is here and has {name}")
    save_weights(prepared.net, prepared.folder / "net.safetensors")


def _onnx(prepared: Prepared, size: int) -> None:
    import onnx

    net = prepared.net
    values = {name: value.data().asnumpy() for name, value in net.collect_params().items()}
    shape = ("N", net.spec.in_channels, "H", "W")
    onnx.save(to_onnx(Graph(trace(net), values), shape), str(prepared.folder / ONNX))


def _quantized(write: Callable[[Path, np.ndarray], None]) -> Callable[[Prepared, int], None]:
    def run(prepared: Prepared, size: int) -> None:
        if not (prepared.folder / ONNX).exists():
            _onnx(prepared, size)
        write(prepared.folder, images(prepared.folder, size))

    return run


# What makes each file that a peer reads.
WRITERS: dict[str, Callable[[Prepared, int], None]] = {
    "zoo.params": _zoo,
    "net.safetensors": _torch,
    ONNX: _onnx,
    INT8_ONNX: _quantized(quantized.onnxruntime),
    INT8_OPENVINO: _quantized(quantized.openvino),
}
