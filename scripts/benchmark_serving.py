"""Measure multi-model-server with a network's archives beside ONNX Runtime in a plain process."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import itertools
import json
import signal
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Optional

import numpy as np
from benchmarking.command import call
from benchmarking.load import Load, put_under_load
from benchmarking.servers import model_server, onnx_server, send
from PIL import Image
from tabulate import tabulate

import gluondense
from gluondense.commands.arguments import Parser
from gluondense.data.files.image import decode_image
from gluondense.data.transforms.batch import normalize
from gluondense.deploy import archive, predict
from gluondense.deploy.targets import get_target
from gluondense.environment.process import usable_cores
from gluondense.version import versions

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Largest difference of probabilities between the server and this process, which run one graph.
TOLERANCE = 1e-5
PERCENTILES = (50, 90, 99)


def main(argv: Optional[list[str]] = None) -> int:
    """Export, serve, measure, print a table; return the exit code."""
    args = _parser().parse_args(argv)
    # On SIGTERM, stop the servers first, as after Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return call(_run, args)
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        rows = _measure(args, Path(folder))
    print(_table(rows))
    if args.json:
        about = {"arguments": vars(args), "versions": versions(), "rows": rows}
        args.json.write_text(json.dumps(about, indent=2, default=str) + "\n", encoding="utf-8")
    return 1 if any(row["failures"] for row in rows) else 0


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("model", help="a network's name")
    parser.add_argument("--targets", nargs="+", default=["native"], help="default: native")
    parser.add_argument("--size", type=int, default=224, help="height and width (default: 224)")
    parser.add_argument("--clients", type=int, default=8, help="default: 8")
    parser.add_argument("--seconds", type=float, default=60, help="for each server; default: 60")
    parser.add_argument(
        "--round", "--turn", type=float, default=10, help="seconds of a round; default: 10"
    )
    parser.add_argument("--batch", type=int, default=8, help="largest batch; default: 8")
    parser.add_argument("--delay", type=int, default=5, help="ms to wait for a batch; default: 5")
    parser.add_argument("--images", type=Path, help="folder of images; default: random ones")
    parser.add_argument("--no-onnx", action="store_true", help="without ONNX Runtime")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    return parser


def _measure(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    images = _images(args.images)
    shape = (1, 3, args.size, args.size)
    net = gluondense.get_model(args.model)
    net.initialize()
    targets = [*args.targets, *([] if args.no_onnx else ["onnx"])]
    for target in targets:
        more = {}
        if get_target(target).needs_calibration:
            pixels = [decode_image(io.BytesIO(data), "it", 3, shape[2:]) for data in images[:32]]
            more["calibration"] = normalize(np.stack(pixels), MEAN, STD)
        if target != "onnx":
            more["preprocess"] = True
        gluondense.export(net, folder / target, shape, target, mean=MEAN, std=STD, **more)
    with contextlib.ExitStack() as stack:
        endpoints = [_serve(stack, target, args, folder) for target in args.targets]
        if "onnx" in targets:
            address = stack.enter_context(onnx_server(folder / "onnx", folder, usable_cores()))
            endpoints.append(Endpoint("ONNX Runtime", "onnx", address, "/"))
        for endpoint in endpoints:
            _check(folder / endpoint.target, endpoint, images[:4], args.size)
            endpoint.load(images, args.clients, min(5, args.round))
        return _interleave(endpoints, images, args)


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


def _serve(
    stack: contextlib.ExitStack, target: str, args: argparse.Namespace, folder: Path
) -> Endpoint:
    archive(folder / target, folder / "store" / f"{target}.mar")
    log_folder = folder / f"server-{target}"
    log_folder.mkdir()
    server = stack.enter_context(model_server(folder / "store", log_folder))
    response = server.register(f"{target}.mar", args.batch, args.delay)
    if response.status != 200:
        raise RuntimeError(f"multi-model-server refuses {target}.mar: {response.body!r}")
    return Endpoint("multi-model-server", target, server.inference, f"/predictions/{target}")


def _interleave(
    endpoints: list[Endpoint], images: list[bytes], args: argparse.Namespace
) -> list[dict]:
    """Measure the servers in alternating rounds, so that disturbances affect all of them."""
    rounds = max(1, round(args.seconds / args.round))
    loads: list[list[Load]] = [[] for _ in endpoints]
    for _ in range(rounds):
        for endpoint, found in zip(endpoints, loads):
            found.append(endpoint.load(images, args.clients, args.round))
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


def _images(folder: Optional[Path]) -> list[bytes]:
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


def _table(rows: list[dict[str, Any]]) -> str:
    head = [
        "",
        "",
        "requests/s",
        "to the last",
        *(f"{percent} %, ms" for percent in PERCENTILES),
        "failed",
    ]
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
    return tabulate(cells, head, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
