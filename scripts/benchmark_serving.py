"""Measure multi-model-server with a network's archives beside ONNX Runtime in a plain process."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Optional

from benchmarking.command import call
from benchmarking.pages.serving import table
from benchmarking.serving import ServingPlan, measure

from gluondense.commands.arguments import Parser
from gluondense.version import versions


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
    plan = ServingPlan(
        model=args.model,
        targets=tuple(args.targets),
        size=args.size,
        clients=args.clients,
        seconds=args.seconds,
        round_seconds=args.round,
        batch=args.batch,
        delay_ms=args.delay,
        image_folder=args.images,
        with_onnx=not args.no_onnx,
    )
    rows = measure(plan)
    print(table(rows))
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


if __name__ == "__main__":
    sys.exit(main())
