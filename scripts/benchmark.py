"""Measure inference beside the installed peers, interleaved.

``benchmark.py train MODEL ...`` measures the time and memory of training steps.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

from benchmarking.command import call
from benchmarking.inference import FORMAT, Plan, measure
from benchmarking.pages.tables import cases_text, markdown, rest_text

from gluondense.commands.arguments import Parser
from gluondense.environment.process import usable_cores

MODELS: dict[str, Any] = {
    "metavar": "MODEL",
    "help": "names from gluondense.list_models()",
}


def main(argv: Optional[list[str]] = None) -> int:
    """Measure, print and write the results; return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    training = argv[:1] == ["train"]
    parser = _train_parser() if training else _infer_parser()
    args = parser.parse_args(argv[training:])
    args.command = shlex.join(["python", "scripts/benchmark.py", *argv])
    if not training and bool(args.models) == bool(args.load):
        parser.error("give either models or --load FILE")
    return call(_train if training else _infer, args)


def _infer(args: argparse.Namespace) -> None:
    if args.load:
        content = _load(args.load)
        print(cases_text(content["rows"], content["threads"]))
    else:
        content = _measure(args)
    print(rest_text(content))
    if args.markdown:
        args.markdown.write_text(markdown(content), encoding="utf-8")
    if args.html:
        from benchmarking.pages.inference import page

        args.html.write_text(page(content), encoding="utf-8")


def _train(args: argparse.Namespace) -> None:
    from benchmarking.pages.training import page, text
    from benchmarking.training import measure

    contents = measure(
        args.models, args.batch, args.size, args.threads, args.rounds, args.only, _stopwatch()
    )
    content = _record(contents, args, text)
    if args.html:
        args.html.write_text(page(content), encoding="utf-8")


def _record(
    contents: Iterator[dict[str, Any]],
    args: argparse.Namespace,
    table: Callable[[list[dict[str, Any]]], str],
) -> dict[str, Any]:
    """Print new rows and write the JSON file after each case; return the last content."""
    shown, content = 0, {}
    for content in contents:
        content["command"] = args.command
        print(table(content["rows"][shown:]), flush=True)
        shown = len(content["rows"])
        if args.json:
            args.json.write_text(json.dumps(content, indent=1) + "\n")
    return content


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    plan = Plan(
        models=tuple(args.models),
        batches=tuple(args.batch),
        sizes=tuple(args.sizes),
        workers=tuple(args.workers),
        threads=args.threads,
        rounds=args.rounds,
        only=tuple(args.only),
        reference=args.reference,
        image_folder=args.images,
        cache=args.cache,
        roofline=args.roofline,
        together=args.together,
    )
    return _record(measure(plan, _stopwatch()), args, lambda rows: cases_text(rows, plan.threads))


def _stopwatch() -> Callable[[str], None]:
    """Return a log function that prints the elapsed time before each message."""
    begin = time.monotonic()

    def log(line: str) -> None:
        print(f"[{time.monotonic() - begin:5.0f} s] {line}", file=sys.stderr, flush=True)

    return log


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        if content["format"] == FORMAT:
            return content
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is not a --json file of this version: measure again.")


def _train_parser() -> Parser:
    parser = Parser(
        prog="benchmark.py train",
        description="Measure the time of training steps and the memory of feature maps.",
    )
    parser.add_argument("models", nargs="+", **MODELS)
    parser.add_argument("--size", type=_count, default=224, metavar="PIXELS", help="default: 224")
    _add_common(parser, batch=[16], rounds=5, round_help="timed steps of each, interleaved")
    return parser


def _infer_parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("models", nargs="*", **MODELS)
    _add_common(parser, batch=[1, 8], rounds=15, round_help="rounds of half a second of each")
    numbers: dict[str, Any] = {"type": _count, "nargs": "+", "default": []}
    sizes = (
        "sizes of images: every batch is measured with the first, the others with the first batch"
    )
    add("--sizes", **numbers, metavar="PIXELS", help=f"{sizes}; default: the model's own size")
    workers = "also measure the throughput of N processes with one thread each"
    add("--workers", **numbers, metavar="N", help=workers)
    reference = "backend of the second ratio; default: openvino"
    add("--reference", default="openvino", metavar="NAME", help=reference)
    add("--images", type=Path, metavar="FOLDER", help="predict and calibrate with these images")
    add("--cache", type=Path, metavar="FOLDER", help="keep the peers' files for later runs")
    add("--together", action="store_true", help="interleave all models and compare them")
    add("--roofline", "--floor", action="store_true", help="also measure the CPU's roofline")
    add("--markdown", type=Path, metavar="FILE", help="write tables for docs/benchmarks.md")
    add("--load", type=Path, metavar="FILE", help="show a --json file instead of measuring")
    return parser


def _add_common(parser: Parser, batch: list[int], rounds: int, round_help: str) -> None:
    add, default = parser.add_argument, " ".join(map(str, batch))
    add("--batch", type=_count, nargs="+", default=batch, metavar="N", help=f"default: {default}")
    add("--threads", type=_count, default=usable_cores(), help="default: the physical cores")
    add("--rounds", type=_count, default=rounds, help=f"{round_help}; default: {rounds}")
    add("--only", nargs="+", default=[], metavar="NAME", help="backends; default: all that can run")
    add("--json", type=Path, metavar="FILE", help="write all numbers")
    add("--html", type=Path, metavar="FILE", help="write a page with charts")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
