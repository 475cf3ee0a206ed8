"""Measure the accuracy of a run, an export or published weights on a data set's test images."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from .arguments import DATASETS, Parser, call

if TYPE_CHECKING:
    from ..evaluation import Report, Subject


def main(argv: Optional[list[str]] = None) -> int:
    """Print the accuracy, write what was asked for; return the exit code."""
    return call(_run, _parser().parse_args(argv))


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("model", help="a run's folder, an export's prefix, or weights such as densenet121.tv_in1k")
    add("--dataset", choices=DATASETS, help="default: the run's, else imagenet")
    add("--data-dir", metavar="FOLDER", help="folder of its files; default: the run's")
    add("--rec-val", metavar="FILE.rec", help="images in a RecordIO file")
    add("--ground-truth", metavar="FILE", help="labels of a flat DATA_DIR/val")
    add("--crops", type=int, choices=(1, 10), default=1)
    add("--input-size", type=int, help="height and width of the network's input; default: its own")
    add("--crop-ratio", type=float, help="default: its own, else 0.875")
    add("--interpolation", choices=("bilinear", "bicubic"), help="default: its own")
    add("--batch-size", type=int, help="images of all devices; default: 32, of ten crops 8")
    add("-j", "--num-data-workers", dest="workers", type=int, default=4, help="default: 4")
    add("--num-gpus", type=int, default=0, help="default: evaluate on the CPU")
    add("--json", metavar="FILE", help="write all metrics, also of each class")
    add("--report", metavar="FILE.html", help="write a page")
    return parser


def _run(args: argparse.Namespace) -> None:
    report = _evaluate(args)
    print("\n".join(report.lines()))
    if args.json:
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"
        Path(args.json).write_text(text, encoding="utf-8")
    if args.report:
        Path(args.report).write_text(report.page(), encoding="utf-8")


def _evaluate(args: argparse.Namespace) -> Report:
    from ..evaluation import evaluate_subject, open_subject, open_test_data
    from ..training.devices import find_devices

    devices = find_devices(tuple(range(args.num_gpus)))
    subject = _with_flags(open_subject(args.model, devices), args)
    config = subject.config
    dataset = args.dataset or (config.dataset if config else "imagenet")
    data_dir, rec_val, truth = args.data_dir, args.rec_val, args.ground_truth
    if config is not None and dataset == config.dataset and not (data_dir or rec_val):
        data_dir, rec_val = config.data_dir, config.rec_val
        truth = truth or config.ground_truth
    data = open_test_data(dataset, data_dir, rec_val, truth)
    batch = args.batch_size or (32 if args.crops == 1 else 8)
    return evaluate_subject(subject, data, devices, args.crops, batch, args.workers)


def _with_flags(subject: Subject, args: argparse.Namespace) -> Subject:
    given: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("crop_ratio", "interpolation")
        if getattr(args, name) is not None
    }
    if args.input_size is not None:
        if args.input_size < 1:
            raise ValueError(f"--input-size {args.input_size} must be at least 1.")
        given["size"] = (args.input_size, args.input_size)
    return replace(subject, **given)
