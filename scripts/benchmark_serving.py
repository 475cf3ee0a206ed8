"""Measure multi-model-server with a network's archives, beside ONNX Runtime in a plain process."""

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
from benchmarking.serving import Load, ask, model_server, onnx_server, put_under_load
from PIL import Image
from tabulate import tabulate

import gluondense
from gluondense.commands.arguments import Parser
from gluondense.data.files.image import decode_image
from gluondense.data.transforms.batch import normalize
from gluondense.deploy import archive, predict
from gluondense.deploy.targets import get_target
from gluondense.environment.process import usable_cores
from gluondense.training.checkpoint import versions

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# How far the first answers may be from the process's own: 8 bits are those of the same graph.
TOLERANCE = 1e-5
PERCENTILES = (50, 90, 99)


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, export, serve, ask, print; return the process's exit code."""
    args = _parser().parse_args(argv)
    # Ended by `timeout` or a shell, it stops its servers first, as after Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = _measure(args, Path(folder))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    print(_table(rows))
    if args.json:
        about = {"arguments": vars(args), "versions": versions(), "rows": rows}
        args.json.write_text(json.dumps(about, indent=2, default=str) + "\n", encoding="utf-8")
    return 0 if not any(row["failures"] for row in rows) else 1


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("model", help="a network's name")
    parser.add_argument("--targets", nargs="+", default=["native"], help="default: native")
    parser.add_argument("--size", type=int, default=224, help="height and width (default: 224)")
    parser.add_argument("--clients", type=int, default=8, help="default: 8")
    parser.add_argument("--seconds", type=float, default=60, help="for each; default: 60")
    parser.add_argument("--turn", type=float, default=10, help="seconds of a turn; default: 10")
    parser.add_argument("--batch", type=int, default=8, help="the largest; default: 8")
    parser.add_argument("--delay", type=int, default=5, help="ms to wait for a batch; default: 5")
    parser.add_argument("--images", type=Path, help="folder of pictures; else they are drawn")
    parser.add_argument("--no-onnx", action="store_true", help="leave ONNX Runtime out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all numbers")
    return parser


def _measure(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    pictures = _pictures(args.images)
    shape = (1, 3, args.size, args.size)
    net = gluondense.get_model(args.model)
    net.initialize()
    targets = [*args.targets, *([] if args.no_onnx else ["onnx"])]
    for target in targets:
        more = {}
        if get_target(target).needs_calibration:
            pixels = [decode_image(io.BytesIO(data), "it", 3, shape[2:]) for data in pictures[:32]]
            more["calibration"] = normalize(np.stack(pixels), MEAN, STD)
        if target != "onnx":
            more["preprocess"] = True
        gluondense.export(net, folder / target, shape, target, mean=MEAN, std=STD, **more)
    with contextlib.ExitStack() as stack:
        lines = [_serve(stack, target, args, folder) for target in args.targets]
        if "onnx" in targets:
            address = stack.enter_context(onnx_server(folder / "onnx", folder, usable_cores()))
            lines.append(Line("ONNX Runtime", "onnx", address, "/"))
        for line in lines:
            _check(folder / line.target, line, pictures[:4], args.size)
            line.load(pictures, args.clients, min(5, args.turn))
        return _race(lines, pictures, args)


@dataclasses.dataclass(frozen=True)
class Line:
    """A server with a model that answers."""

    server: str
    target: str
    address: str
    path: str

    def load(self, pictures: list[bytes], clients: int, seconds: float) -> Load:
        """Keep it busy."""
        return put_under_load(self.address, self.path, pictures, clients, seconds)


def _serve(
    stack: contextlib.ExitStack, target: str, args: argparse.Namespace, folder: Path
) -> Line:
    archive(folder / target, folder / "store" / f"{target}.mar")
    place = folder / f"server-{target}"
    place.mkdir()
    server = stack.enter_context(model_server(folder / "store", place))
    done = server.register(f"{target}.mar", args.batch, args.delay)
    if done.status != 200:
        raise RuntimeError(f"multi-model-server refuses {target}.mar: {done.body!r}")
    return Line("multi-model-server", target, server.inference, f"/predictions/{target}")


def _race(lines: list[Line], pictures: list[bytes], args: argparse.Namespace) -> list[dict]:
    """Let the servers take turns, so that what slows the machine for a while slows all."""
    rounds = max(1, round(args.seconds / args.turn))
    loads: list[list[Load]] = [[] for _ in lines]
    for _ in range(rounds):
        for line, found in zip(lines, loads):
            found.append(line.load(pictures, args.clients, args.turn))
    last = loads[-1]
    return [
        {
            "server": line.server,
            "target": line.target,
            # The last is the peer where there is one.
            "ratio": median(one.rate / peer.rate for one, peer in zip(found, last)),
            "rates": [load.rate for load in found],
            **_numbers(found),
        }
        for line, found in zip(lines, loads)
    ]


def _numbers(found: list[Load]) -> dict[str, Any]:
    all_of_it = Load(
        sum(load.seconds for load in found),
        tuple(itertools.chain.from_iterable(load.latencies for load in found)),
        tuple(itertools.chain.from_iterable(load.failures for load in found)),
    )
    return {
        "requests": len(all_of_it.latencies),
        "rate": all_of_it.rate,
        **{f"p{percent}": all_of_it.percentile(percent) for percent in PERCENTILES},
        "failures": len(all_of_it.failures),
        "first_failures": all_of_it.failures[:3],
    }


def _check(prefix: Path, line: Line, pictures: list[bytes], size: int) -> None:
    """Refuse to measure a server that answers otherwise than this process."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, data in enumerate(pictures):
            files.append(Path(folder) / f"{number}.jpg")
            files[-1].write_bytes(data)
        block = gluondense.load_exported(prefix)
        for data, wanted in zip(pictures, predict(block, files, (1, 3, size, size), MEAN, STD)):
            answer = ask(line.address, "POST", line.path, data)
            found = answer.json()
            off = np.subtract([row["probability"] for row in found], wanted.probabilities)
            if np.abs(off).max() > TOLERANCE or found[0]["class"] != wanted.labels[0]:
                raise RuntimeError(f"{prefix.name}: the server's answer is off by {off}.")


def _pictures(folder: Optional[Path]) -> list[bytes]:
    if folder is not None:
        found = sorted(path for path in folder.rglob("*") if path.is_file())[:64]
        if not found:
            raise ValueError(f"there are no pictures in {folder}.")
        return [path.read_bytes() for path in found]
    pictures, random = [], np.random.default_rng(0)
    for _ in range(64):
        small = random.integers(0, 256, (12, 16, 3)).astype("uint8")
        file = io.BytesIO()
        Image.fromarray(small).resize((500, 375)).save(file, "JPEG")
        pictures.append(file.getvalue())
    return pictures


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
