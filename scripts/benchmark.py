"""Measure how fast networks predict, beside the peers that are installed, taking turns.

``benchmark.py train MODEL ...`` measures training steps, their time and memory.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Callable, Optional

from benchmarking.results import markdown, race_text, rest_text
from benchmarking.run import FORMAT, Plan, measure

from gluondense.commands.arguments import Parser
from gluondense.environment.process import usable_cores


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, measure, print and write; return the process's exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["train"]:
        return _train(argv[1:])
    parser = _parser()
    args = parser.parse_args(argv)
    if bool(args.models) == bool(args.load):
        parser.error("give either models or --load FILE")
    try:
        if args.load:
            content = _load(args.load)
            print(race_text(content["rows"], content["threads"]))
        else:
            command = shlex.join(["python", "scripts/benchmark.py", *argv])
            content = _measure(args, command)
        print(rest_text(content))
        if args.markdown:
            args.markdown.write_text(markdown(content), encoding="utf-8")
        if args.html:
            from benchmarking.page import page

            args.html.write_text(page(content), encoding="utf-8")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    return 0


def _train(argv: list[str]) -> int:
    from benchmarking.training import measure, page, text

    args = _train_parser().parse_args(argv)
    shown, content = 0, {}
    try:
        for content in measure(
            args.models, args.batch, args.size, args.threads, args.rounds, args.only, _clock()
        ):
            content["command"] = shlex.join(["python", "scripts/benchmark.py", "train", *argv])
            print(text(content["rows"][shown:]), flush=True)
            shown = len(content["rows"])
            if args.json:
                args.json.write_text(json.dumps(content, indent=1) + "\n")
        if args.html:
            args.html.write_text(page(content), encoding="utf-8")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    return 0


def _train_parser() -> Parser:
    parser = Parser(
        prog="benchmark.py train",
        description="Measure training steps, update included: their time, and the memory of maps.",
    )
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="names from gluondense.list_models()")
    add("--batch", type=_count, nargs="+", default=[16], metavar="N", help="default: 16")
    add("--size", type=_count, default=224, metavar="PIXELS", help="default: 224")
    add("--threads", type=_count, default=usable_cores(), help="default: the physical cores")
    add("--rounds", type=_count, default=5, help="steps of each, in turns; default: 5")
    add("--only", nargs="+", default=[], metavar="NAME", help="default: all that can run here")
    add("--json", type=Path, metavar="FILE", help="write all numbers")
    add("--html", type=Path, metavar="FILE", help="write a page: memory against time")
    return parser


def _measure(args: argparse.Namespace, command: str) -> dict[str, Any]:
    plan = Plan(
        models=tuple(args.models),
        batches=tuple(args.batch),
        sizes=tuple(args.sizes),
        workers=tuple(args.workers),
        threads=args.threads,
        rounds=args.rounds,
        only=tuple(args.only),
        reference=args.reference,
        pictures=args.images,
        cache=args.cache,
        floor=args.floor,
        together=args.together,
    )
    shown, content = 0, {}
    for content in measure(plan, _clock()):
        content["command"] = command
        print(race_text(content["rows"][shown:], plan.threads), flush=True)
        shown = len(content["rows"])
        if args.json:
            args.json.write_text(json.dumps(content, indent=1) + "\n")
    return content


def _clock() -> Callable[[str], None]:
    begin = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - begin:5.0f} s] {line}", file=sys.stderr, flush=True)

    return say


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        if content["format"] == FORMAT:
            return content
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is no file of --json of this version: measure again.")


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL", help="names from gluondense.list_models()")
    add("--batch", type=_count, nargs="+", default=[1, 8], metavar="N", help="default: 1 8")
    add(
        "--sizes",
        type=_count,
        nargs="+",
        default=[],
        metavar="PIXELS",
        help="heights and widths: every batch is measured with the first, the others with the first"
        " batch; default: what the model was made for",
    )
    add(
        "--workers",
        type=_count,
        nargs="+",
        default=[],
        metavar="N",
        help="also images a second of so many processes of one thread",
    )
    add("--threads", type=_count, default=usable_cores(), help="default: the physical cores")
    add("--rounds", type=_count, default=15, help="turns of each, of half a second; default: 15")
    add("--only", nargs="+", default=[], metavar="NAME", help="default: all that can run here")
    add("--reference", default="openvino", metavar="NAME", help="of the second ratio; openvino")
    add("--images", type=Path, metavar="FOLDER", help="predict and calibrate with these pictures")
    add("--cache", type=Path, metavar="FOLDER", help="keep what peers read; quantizing takes long")
    add("--together", action="store_true", help="all models take turns, and are compared")
    add("--floor", action="store_true", help="also what this CPU's peaks allow")
    add("--json", type=Path, metavar="FILE", help="write all numbers")
    add("--markdown", type=Path, metavar="FILE", help="write tables for docs/benchmarks.md")
    add("--html", type=Path, metavar="FILE", help="write a page with charts")
    add("--load", type=Path, metavar="FILE", help="measure nothing, show a file of --json")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
