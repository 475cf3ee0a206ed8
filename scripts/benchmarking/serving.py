# SPDX-License-Identifier: Apache-2.0
"""The serving benchmark: multi-model-server beside ONNX Runtime, under the same load."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from tabulate import tabulate

import gluondense
from gluondense.data.preprocessing import IMAGENET
from gluondense.deploy import archive, predict
from gluondense.deploy.targets import get_target
from gluondense.environment.process import usable_cores

from .load import Load, put_under_load
from .servers import model_server, onnx_server, send

# Largest difference of probabilities between the server and this process, which run one graph.
TOLERANCE = 1e-5
PERCENTILES = (50, 90, 99)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The measurements to make: the options of ``benchmark.py serving``, see its ``--help``."""

    model: str
    targets: Sequence[str]
    size: int
    clients: int
    seconds: float
    round: float
    batch: int
    delay: int
    images: Path | None
    onnx: bool


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Export, serve and measure; return a row for each server.

    Raises
    ------
    ValueError
        If a name is unknown or the folder has no images.
    RuntimeError
        If a server does not start, or its answers differ from this process's.
    """
    images = _images(plan.images)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _export(plan, folder, images)
        endpoints = [_serve(stack, target, plan, folder) for target in plan.targets]
        if plan.onnx:
            address = stack.enter_context(onnx_server(folder / "onnx", folder, usable_cores()))
            endpoints.append(Endpoint("ONNX Runtime", "onnx", address, "/"))
        for endpoint in endpoints:
            _check(folder / endpoint.target, endpoint, images[:4], plan.size)
            endpoint.load(images, plan.clients, min(5, plan.round))
        return _interleave(endpoints, images, plan)


def _export(plan: Plan, folder: Path, images: list[bytes]) -> None:
    shape = (1, 3, plan.size, plan.size)
    preprocessing = dataclasses.replace(IMAGENET, input_size=plan.size)
    net = gluondense.get_model(plan.model)
    net.initialize()
    for target in (*plan.targets, *["onnx"] * plan.onnx):
        more = {}
        if get_target(target).needs_calibration:
            pixels = [preprocessing.pixels(data) for data in images[:32]]
            more["calibration"] = preprocessing.normalize(np.stack(pixels))
        if target != "onnx":
            more["preprocess"] = True
        gluondense.export(net, folder / target, shape, target, preprocessing=preprocessing, **more)


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


def _serve(stack: contextlib.ExitStack, target: str, plan: Plan, folder: Path) -> Endpoint:
    archive(folder / target, folder / "store" / f"{target}.mar")
    log_folder = folder / f"server-{target}"
    log_folder.mkdir()
    server = stack.enter_context(model_server(folder / "store", log_folder))
    response = server.register(f"{target}.mar", plan.batch, plan.delay)
    if response.status != 200:
        raise RuntimeError(f"multi-model-server refuses {target}.mar: {response.body!r}")
    return Endpoint("multi-model-server", target, server.inference, f"/predictions/{target}")


def _interleave(endpoints: list[Endpoint], images: list[bytes], plan: Plan) -> list[dict]:
    """Measure the servers in alternating rounds, so that disturbances affect all of them."""
    loads: list[list[Load]] = [[] for _ in endpoints]
    for _ in range(max(1, round(plan.seconds / plan.round))):
        for endpoint, found in zip(endpoints, loads):
            found.append(endpoint.load(images, plan.clients, plan.round))
    rows = []
    for endpoint, found in zip(endpoints, loads):
        total = Load.total(found)
        rows.append(
            {
                "server": endpoint.server,
                "target": endpoint.target,
                # The last one is the peer, if it is measured.
                "ratio": median(one.rate / peer.rate for one, peer in zip(found, loads[-1])),
                "rates": [load.rate for load in found],
                "requests": len(total.latencies),
                "rate": total.rate,
                **{f"p{percent}": total.percentile(percent) for percent in PERCENTILES},
                "failures": len(total.failures),
                "first_failures": total.failures[:3],
            }
        )
    return rows


def _check(prefix: Path, endpoint: Endpoint, images: list[bytes], size: int) -> None:
    """Check that a server gives the same answers as this process."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, data in enumerate(images):
            files.append(Path(folder) / f"{number}.jpg")
            files[-1].write_bytes(data)
        block = gluondense.load_exported(prefix)
        for data, wanted in zip(images, predict(block, files)):
            response = send(endpoint.address, "POST", endpoint.path, data)
            if response.status != 200:
                raise RuntimeError(f"{prefix.name}: the server answers {response.body!r}.")
            found: Any = response.json()
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


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table: requests per second, ratio to the last server, latencies."""
    latencies = [f"{percent} %, ms" for percent in PERCENTILES]
    cells = [
        [
            row["server"],
            row["target"],
            f"{row['rate']:.1f} ({min(row['rates']):.1f} – {max(row['rates']):.1f})",
            f"{row['ratio']:.2f}",
            *(f"{row[f'p{percent}']:.0f}" for percent in PERCENTILES),
            row["failures"],
        ]
        for row in rows
    ]
    heads = ["", "", "requests/s", "to the last", *latencies, "failed"]
    return tabulate(cells, heads, tablefmt="github", disable_numparse=True)
