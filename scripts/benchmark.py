# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of inference, training, GPUs, image loading, serving and loading of weights."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np

from gluondense.commands.output import call
from gluondense.commands.parser import Parser
from gluondense.environment.process import usable_cores

MODELS: dict[str, Any] = {"metavar": "MODEL", "help": "names from gluondense.list_models()"}


def main(argv: Optional[list[str]] = None) -> int:
    """Measure, print and write the results; return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if "--gpu" in argv:
        argv = ["gpu", *(word for word in argv if word not in ("--gpu", "inference", "train"))]
    named = argv[:1] and argv[0] in BENCHMARKS
    name = argv[0] if named else "inference"
    add_options, run = BENCHMARKS[name]
    prog = f"benchmark.py {name}" if named else "benchmark.py"
    parser = Parser(prog=prog, description=run.__doc__)
    add_options(parser)
    args = parser.parse_args(argv[1:] if named else argv)
    args.command = shlex.join(["python", "scripts/benchmark.py", *argv])
    if name == "inference" and bool(args.models) == bool(args.load):
        parser.error("give either models or --load FILE")
    # On SIGTERM, stop workers and servers first, as after Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return call(run, args)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _plan(kind: Any, args: argparse.Namespace) -> Any:
    """Make a plan from the options of the same names."""
    return kind(**{field.name: getattr(args, field.name) for field in dataclasses.fields(kind)})


def _infer(args: argparse.Namespace) -> None:
    """Measure inference beside the installed peers, interleaved.

    Other benchmarks: `benchmark.py train`, `gpu`, `loader`, `serving` and `weights`, each with
    --help. `benchmark.py --gpu` is `benchmark.py gpu`.
    """
    from benchmarking import inference
    from benchmarking.pages.inference import page
    from benchmarking.pages.tables import cases_text, markdown, rest_text

    if args.load:
        content = _load(args.load, inference.FORMAT)
        print(cases_text(content["rows"], content["threads"]))
    else:
        contents = inference.measure(_plan(inference.Plan, args))
        content = _record(contents, args, lambda rows: cases_text(rows, args.threads))
    print(rest_text(content))
    if args.markdown:
        args.markdown.write_text(markdown(content), encoding="utf-8")
    if args.html:
        args.html.write_text(page(content), encoding="utf-8")


def _train(args: argparse.Namespace) -> None:
    """Measure the time of training steps and the memory of feature maps."""
    from benchmarking.pages.training import page, text
    from benchmarking.training import measure

    contents = measure(args.models, args.batches, args.size, args.threads, args.rounds, args.only)
    content = _record(contents, args, text)
    if args.html:
        args.html.write_text(page(content), encoding="utf-8")


def _gpu(args: argparse.Namespace) -> None:
    """Measure inference and training steps on the first GPU, beside PyTorch if it is installed."""
    from benchmarking.gpu import measure, text

    sizes = args.models, args.batches, args.size
    contents = measure(*sizes, args.threads, args.rounds, args.only, args.cpu)
    content = _record(contents, args, text)
    for row in content["missing"]:
        print(f"{row['kind']} without {row['name']}: {row['reason']}")


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


def _load(path: Path, version: int) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        if content["format"] == version:
            return content
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is not a --json file of this version: measure again.")


def _measure_loader(args: argparse.Namespace) -> None:
    """Measure image loading on one core beside MXNet's ImageRecordIter and torchvision."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from benchmarking.image_loading import measure, table

    print(table(measure(args.rec, args.batch_size, args.rounds)))


def _serve(args: argparse.Namespace) -> int:
    """Measure multi-model-server with a network's archives beside ONNX Runtime."""
    from benchmarking import serving

    from gluondense.version import versions

    rows = serving.measure(_plan(serving.Plan, args))
    print(serving.table(rows))
    if args.json:
        about = {"arguments": vars(args), "versions": versions(), "rows": rows}
        args.json.write_text(json.dumps(about, indent=2, default=str) + "\n", encoding="utf-8")
    return 1 if any(row["failures"] for row in rows) else 0


def _load_weights(args: argparse.Namespace) -> None:
    """Compare load_weights with torch.load and load_state_dict, each time in a new process."""
    from benchmarking.process import TRAINING_WORKER, environment
    from tabulate import tabulate

    args.file.stat()  # raises an OSError if there is no file
    worker = TRAINING_WORKER.with_name("load_weights.py")
    samples: dict[str, list[tuple[float, ...]]] = {"torch": [], "gluondense": []}
    for _ in range(args.samples):
        for library, rows in samples.items():
            command = [sys.executable, worker, library, args.file, args.model]
            done = subprocess.run(command, capture_output=True, text=True, env=environment(1))
            if done.returncode:
                raise RuntimeError(done.stderr.strip().splitlines()[-1])
            rows.append(tuple(map(float, done.stdout.split())))
    medians = [(library, *np.median(rows, axis=0)) for library, rows in samples.items()]
    print(tabulate(medians, ["", "ms", "memory / file"], "github", floatfmt=".2f"))


def _add_infer_options(parser: Parser) -> None:
    add = parser.add_argument
    names = f"{MODELS['help']}, of detectors (yolo3_*; also GluonCV's), or folders of runs"
    add("models", nargs="*", metavar="MODEL", help=f"{names}; NAME:FIELD=JSON sets a field of one")
    parser.add_fields()
    _add_common(parser, batch=[1, 8], rounds=15, round_help="rounds of half a second of each")
    _add_page(parser)
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
    add("--markdown", type=Path, metavar="FILE", help="write tables in Markdown")
    add("--load", type=Path, metavar="FILE", help="show a --json file instead of measuring")


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", **MODELS)
    parser.add_argument("--size", type=_count, default=224, metavar="PIXELS", help="default: 224")
    _add_common(parser, batch=[16], rounds=5, round_help="timed steps of each, interleaved")
    _add_page(parser)


def _add_gpu_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", **MODELS)
    parser.add_argument("--size", type=_count, default=224, metavar="PIXELS", help="default: 224")
    parser.add_argument("--cpu", action="store_true", help="on the CPU, to try the benchmark")
    _add_common(parser, batch=[1, 64], rounds=10, round_help="rounds of half a second of each")


def _add_common(
    parser: argparse.ArgumentParser, batch: list[int], rounds: int, round_help: str
) -> None:
    add = parser.add_argument
    batches: dict[str, Any] = {"type": _count, "nargs": "+", "default": batch, "metavar": "N"}
    add("--batch", dest="batches", **batches, help=f"default: {' '.join(map(str, batch))}")
    add("--threads", type=_count, default=usable_cores(), help="default: the physical cores")
    add("--rounds", type=_count, default=rounds, help=f"{round_help}; default: {rounds}")
    add("--only", nargs="+", default=[], metavar="NAME", help="backends; default: all that can run")
    add("--json", type=Path, metavar="FILE", help="write all numbers")


def _add_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with charts")


def _add_loader_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rec", help="RecordIO file, as `gluondense make-recordio` writes")
    parser.add_argument("--batch-size", type=_count, default=50, help="default: 50")
    parser.add_argument("--rounds", type=_count, default=5, help="rounds of each; default: 5")


def _add_serving_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", help="a network's name")
    add("--targets", nargs="+", default=["native"], help="default: native")
    add("--size", type=int, default=224, help="height and width (default: 224)")
    add("--clients", type=int, default=8, help="default: 8")
    add("--seconds", type=float, default=60, help="for each server; default: 60")
    add("--round", "--turn", type=float, default=10, help="seconds of a round; default: 10")
    add("--batch", type=int, default=8, help="largest batch; default: 8")
    add("--delay", type=int, default=5, help="ms to wait for a batch; default: 5")
    add("--images", type=Path, help="folder of images; default: random ones")
    add("--no-onnx", dest="onnx", action="store_false", help="without ONNX Runtime")
    add("--json", type=Path, metavar="FILE", help="write all numbers")


def _add_weights_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=Path, help=".pth or .pt of torchvision or timm")
    add("--model", default="densenet121", help="name from gluondense.list_models()")
    add("--samples", type=_count, default=11, help="processes of each; default: 11")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


# Functions that add the options and run the benchmark, which the docstring of the latter describes.
BENCHMARKS: dict[str, tuple[Any, Any]] = {
    "inference": (_add_infer_options, _infer),
    "train": (_add_train_options, _train),
    "gpu": (_add_gpu_options, _gpu),
    "loader": (_add_loader_options, _measure_loader),
    "serving": (_add_serving_options, _serve),
    "weights": (_add_weights_options, _load_weights),
}

if __name__ == "__main__":
    sys.exit(main())
