"""The serving benchmark: multi-model-server beside ONNX Runtime, under the same load."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

import gluondense
from gluondense.data.files.image import decode_image
from gluondense.data.transforms.batch import normalize
from gluondense.deploy import archive, predict
from gluondense.deploy.targets import get_target
from gluondense.environment.process import usable_cores

from .load import Load, put_under_load
from .servers import model_server, onnx_server, send

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Largest difference of probabilities between the server and this process, which run one graph.
TOLERANCE = 1e-5
PERCENTILES = (50, 90, 99)


@dataclasses.dataclass(frozen=True)
class ServingPlan:
    """The measurements to make.

    Parameters
    ----------
    model
        Registry name.
    targets
        Export targets to serve with multi-model-server.
    size
        Height and width of the network's input.
    clients
        Number of concurrent clients.
    seconds, round_seconds
        Duration for each server, and of one round.
    batch, delay_ms
        Largest batch of multi-model-server, and how long it waits for one.
    image_folder
        Folder of images to send; default: random images.
    with_onnx
        Whether to measure ONNX Runtime too.
    """

    model: str
    targets: tuple[str, ...] = ("native",)
    size: int = 224
    clients: int = 8
    seconds: float = 60
    round_seconds: float = 10
    batch: int = 8
    delay_ms: int = 5
    image_folder: Path | None = None
    with_onnx: bool = True


def measure(plan: ServingPlan) -> list[dict[str, Any]]:
    """Export, serve and measure; return a row for each server.

    Raises
    ------
    ValueError
        If a name is unknown or the folder has no images.
    RuntimeError
        If a server does not start, or its answers differ from this process's.
    """
    with tempfile.TemporaryDirectory() as folder:
        images = _images(plan.image_folder)
        _export(plan, Path(folder), images)
        return _measure(plan, Path(folder), images)


def _export(plan: ServingPlan, folder: Path, images: list[bytes]) -> None:
    shape = (1, 3, plan.size, plan.size)
    net = gluondense.get_model(plan.model)
    net.initialize()
    for target in (*plan.targets, *["onnx"] * plan.with_onnx):
        more = {}
        if get_target(target).needs_calibration:
            pixels = [decode_image(io.BytesIO(data), "it", 3, shape[2:]) for data in images[:32]]
            more["calibration"] = normalize(np.stack(pixels), MEAN, STD)
        if target != "onnx":
            more["preprocess"] = True
        gluondense.export(net, folder / target, shape, target, mean=MEAN, std=STD, **more)


def _measure(plan: ServingPlan, folder: Path, images: list[bytes]) -> list[dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        endpoints = [_serve(stack, target, plan, folder) for target in plan.targets]
        if plan.with_onnx:
            address = stack.enter_context(onnx_server(folder / "onnx", folder, usable_cores()))
            endpoints.append(Endpoint("ONNX Runtime", "onnx", address, "/"))
        for endpoint in endpoints:
            _check(folder / endpoint.target, endpoint, images[:4], plan.size)
            endpoint.load(images, plan.clients, min(5, plan.round_seconds))
        return _interleave(endpoints, images, plan)


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A running server with a model."""

    server: str
    target: str
    address: str
    path: str

    def load(self, images: list[bytes], clients: int, seconds: float) -> Load:
        """Send requests from ``clients`` clients for ``seconds``."""
        return put_under_load(self.address, self.path, images, clients, seconds)


def _serve(stack: contextlib.ExitStack, target: str, plan: ServingPlan, folder: Path) -> Endpoint:
    archive(folder / target, folder / "store" / f"{target}.mar")
    log_folder = folder / f"server-{target}"
    log_folder.mkdir()
    server = stack.enter_context(model_server(folder / "store", log_folder))
    response = server.register(f"{target}.mar", plan.batch, plan.delay_ms)
    if response.status != 200:
        raise RuntimeError(f"multi-model-server refuses {target}.mar: {response.body!r}")
    return Endpoint("multi-model-server", target, server.inference, f"/predictions/{target}")


def _interleave(endpoints: list[Endpoint], images: list[bytes], plan: ServingPlan) -> list[dict]:
    """Measure the servers in alternating rounds, so that disturbances affect all of them."""
    rounds = max(1, round(plan.seconds / plan.round_seconds))
    loads: list[list[Load]] = [[] for _ in endpoints]
    for _ in range(rounds):
        for endpoint, found in zip(endpoints, loads):
            found.append(endpoint.load(images, plan.clients, plan.round_seconds))
    last = loads[-1]
    return [
        {
            "server": endpoint.server,
            "target": endpoint.target,
            # The last one is the peer, if it is measured.
            "ratio": median(one.rate / peer.rate for one, peer in zip(found, last)),
            "rates": [load.rate for load in found],
            **_numbers(found),
        }
        for endpoint, found in zip(endpoints, loads)
    ]


def _numbers(found: list[Load]) -> dict[str, Any]:
    total = Load(
        sum(load.seconds for load in found),
        tuple(itertools.chain.from_iterable(load.latencies for load in found)),
        tuple(itertools.chain.from_iterable(load.failures for load in found)),
    )
    return {
        "requests": len(total.latencies),
        "rate": total.rate,
        **{f"p{percent}": total.percentile(percent) for percent in PERCENTILES},
        "failures": len(total.failures),
        "first_failures": total.failures[:3],
    }


def _check(prefix: Path, endpoint: Endpoint, images: list[bytes], size: int) -> None:
    """Check that a server gives the same answers as this process."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, data in enumerate(images):
            files.append(Path(folder) / f"{number}.jpg")
            files[-1].write_bytes(data)
        block = gluondense.load_exported(prefix)
        for data, wanted in zip(images, predict(block, files, (1, 3, size, size), MEAN, STD)):
            found: Any = send(endpoint.address, "POST", endpoint.path, data).json()
            off = np.subtract([row["probability"] for row in found], wanted.probabilities)
            if np.abs(off).max() > TOLERANCE or found[0]["class"] != wanted.labels[0]:
                raise RuntimeError(f"{prefix.name}: the server's answer is off by {off}.")


def _images(folder: Path | None) -> list[bytes]:
    if folder is not None:
        found = sorted(path for path in folder.rglob("*") if path.is_file())[:64]
        if not found:
            raise ValueError(f"there are no images in {folder}.")
        return [path.read_bytes() for path in found]
    images, random = [], np.random.default_rng(0)
    for _ in range(64):
        small = random.integers(0, 256, (12, 16, 3)).astype("uint8")
        file = io.BytesIO()
        Image.fromarray(small).resize((500, 375)).save(file, "JPEG")
        images.append(file.getvalue())
    return images
