"""Pack pictures into a RecordIO file (.rec, .idx), as im2rec does: in parallel, and resumable."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Optional

import numpy as np

from ..data.datasets.folders import PictureList, list_folders, list_rows
from ..data.datasets.imagenet import list_validation
from ..data.files.record_maker import BAD, ENCODINGS, RecordOptions, make_recordio
from ..data.files.recordio import read_labels
from .arguments import Parser

SHOWN = 10  # skipped pictures on the terminal; the file has all


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, convert, print what was written; return the process's exit code."""
    args = _parser().parse_args(argv)
    try:
        options = RecordOptions(
            resize=args.resize,
            center_crop=args.center_crop,
            quality=args.quality if args.quality is not None else 95 if _jpeg(args) else 3,
            encoding=args.encoding,
            pass_through=args.pass_through,
            bad=args.bad,
        )
        pictures, keys = _pictures(args)
        for prefix, part in _split(args, len(pictures)):
            chosen = PictureList(
                pictures.root, pictures.names[part], pictures.labels[part], pictures.class_names
            )
            numbers = None if keys is None else keys[part]
            done = make_recordio(
                prefix, chosen, options, numbers, args.workers, not args.no_progress
            )
            print(
                f"{done.path}: {done.written} pictures of {len(pictures.class_names)} classes, "
                f"{done.path.stat().st_size / 1e6:.1f} MB"
                + (f", resumed at {done.resumed_at}" if done.resumed_at else "")
            )
            for name, problem in done.skipped[:SHOWN]:
                print(f"skipped {name}: {problem}", file=sys.stderr)
            if done.skipped:
                print(f"{len(done.skipped)} skipped, see {prefix}.skipped.txt", file=sys.stderr)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("prefix", help="the files' path without suffix, such as rec/train")
    parser.add_argument("root", help="folder with one folder a class, or a flat validation folder")
    parser.add_argument("--list", metavar="FILE.lst", help="pictures and labels, as of im2rec")
    parser.add_argument(
        "--ground-truth", metavar="FILE", help="answers of a flat validation folder"
    )
    parser.add_argument(
        "--classes-of",
        metavar="FOLDER",
        help="folder whose folders' names are the classes: the training set's",
    )
    parser.add_argument("--resize", type=int, default=0, help="length of the shorter side")
    parser.add_argument("--center-crop", action="store_true", help="cut to a square")
    parser.add_argument("--quality", type=int, help="JPEG 0 to 100 (default: 95), PNG 0 to 9")
    parser.add_argument("--encoding", choices=ENCODINGS, default=".jpg")
    parser.add_argument("--pass-through", action="store_true", help="keep the files' own bytes")
    parser.add_argument(
        "--no-shuffle", action="store_true", help="keep the order of the names or the list"
    )
    parser.add_argument("--seed", type=int, default=100, help="of the shuffling")
    parser.add_argument("--train-ratio", type=float, default=1.0, help="share of PREFIX_train.rec")
    parser.add_argument("--bad", choices=BAD, default="skip", help="unreadable pictures")
    parser.add_argument(
        "-j", "--workers", type=int, default=_cores(), help="processes; default: all cores"
    )
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    return parser


def _jpeg(args: argparse.Namespace) -> bool:
    return args.encoding == ".jpg"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pictures(args: argparse.Namespace) -> tuple[PictureList, Optional[np.ndarray]]:
    if args.list:
        pictures = list_rows(args.root, args.list)
        keys = np.array([key for key, _, _ in read_labels(args.list)])
        return pictures, keys
    classes = list_folders(args.classes_of).class_names if args.classes_of else None
    if args.ground_truth:
        return list_validation(args.root, classes, args.ground_truth), None
    return list_folders(args.root, classes), None


def _split(args: argparse.Namespace, count: int) -> list[tuple[str, np.ndarray]]:
    if not 0 < args.train_ratio <= 1:
        raise ValueError(f"--train-ratio {args.train_ratio} must lie above 0 and up to 1")
    order = np.arange(count)
    if not args.no_shuffle and not args.list:
        order = np.random.RandomState(args.seed).permutation(count)
    cut = round(count * args.train_ratio)
    if cut == count:
        return [(args.prefix, order)]
    return [(f"{args.prefix}_train", order[:cut]), (f"{args.prefix}_val", order[cut:])]


if __name__ == "__main__":
    sys.exit(main())
