"""Measure how fast networks predict, beside the peers that are installed, taking turns."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

from tabulate import tabulate

import gluondense
from gluondense.arguments import Parser
from gluondense.benchmark import Lap, available, race
from gluondense.benchmark.prepare import prepare
from gluondense.environment import usable_cores

PACKAGES = ("mxnet", "torch", "onnxruntime", "openvino", "numpy")


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, measure, print and write; return the process's exit code."""
    args = _parser().parse_args(argv)
    results = []
    try:
        for model in args.models:
            size = args.size or _size(model)
            with tempfile.TemporaryDirectory() as folder:
                net = prepare(model, Path(folder), size)
                names = _chosen(available(Path(folder)), args.only)
                for batch in args.batch:
                    channels = net.spec.in_channels
                    options = {"threads": args.threads, "rounds": args.rounds}
                    laps = race(Path(folder), names, batch, size, channels, **options)
                    results += [_row(model, size, lap, laps[0]) for lap in laps]
                    _print(model, size, batch, args.threads, laps)
        if args.json:
            args.json.write_text(json.dumps({**_about(args), "rows": results}, indent=1) + "\n")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _size(model: str) -> int:
    stem = gluondense.get_spec(model).stem
    return 32 if stem == "cifar" else 224


def _chosen(found: list[str], only: list[str]) -> list[str]:
    unknown = sorted(set(only) - set(found))
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)} cannot run here: choose of {', '.join(found)}, or install more."
        )
    return [name for name in found if name in only] if only else found


def _row(model: str, size: int, lap: Lap, first: Lap) -> dict[str, Any]:
    low, high = lap.spread_ms
    return {
        "model": model,
        "size": size,
        "batch": lap.batch,
        "name": lap.name,
        "ratio": lap.median_ms / first.median_ms,
        "median_ms": lap.median_ms,
        "quartiles_ms": [low, high],
        "first_s": lap.first_s,
        "rss_mb": lap.rss_mb,
    }


def _print(model: str, size: int, batch: int, threads: int, laps: list[Lap]) -> None:
    print(f"\n{model}, {size}x{size}, batch {batch}, {threads} threads; ms for each image")
    rows = [
        [
            lap.name,
            lap.median_ms / laps[0].median_ms,
            lap.median_ms,
            "{:.1f} - {:.1f}".format(*lap.spread_ms),
            lap.first_s,
            lap.rss_mb,
        ]
        for lap in laps
    ]
    heads = ["", "ratio", "median", "quartiles", "first, s", "memory, MB"]
    print(tabulate(rows, heads, floatfmt=("", ".2f", ".1f", "", ".1f", ".0f")), flush=True)


def _about(args: argparse.Namespace) -> dict[str, Any]:
    versions = {"gluondense": gluondense.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"threads": args.threads, "cores": usable_cores(), "versions": versions}


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="names from gluondense.list_models()")
    add("--batch", type=int, nargs="+", default=[1, 8], metavar="N", help="default: 1 8")
    add("--size", type=int, metavar="PIXELS", help="height and width; default: 224, CIFAR's 32")
    add("--threads", type=int, default=usable_cores(), help="default: the physical cores")
    add("--rounds", type=int, default=15, help="turns of each, of half a second; default: 15")
    add("--only", nargs="+", default=[], metavar="NAME", help="default: all that can run here")
    add("--json", type=Path, metavar="FILE", help="write the numbers")
    return parser


if __name__ == "__main__":
    sys.exit(main())
