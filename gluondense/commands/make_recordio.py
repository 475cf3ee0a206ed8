# SPDX-License-Identifier: Apache-2.0
"""Pack images into a RecordIO file (.rec, .idx) as im2rec does, in parallel and resumable."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from .output import call
from .parser import Parser

if TYPE_CHECKING:
    import numpy as np

    from ..data.files.image_list import ImageList

SHOWN = 10  # skipped images on the terminal; the file lists all
DEFAULT_QUALITY = {".jpg": 95, ".png": 3}


def main(argv: Optional[list[str]] = None) -> int:
    """Convert the images; return the exit code."""
    return call(_convert, _parser().parse_args(argv))


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("prefix", help="path of the files without suffix, such as rec/train")
    add("root", help="folder with one folder per class, or a flat validation folder")
    add("--list", metavar="FILE.lst", help="images and labels in im2rec's format")
    listed = "images of ROOT in columns path, label and split, as in a run's split.csv"
    add("--csv", metavar="FILE.csv", help=listed)
    add("--split", choices=("train", "val", "test"), help="split of --csv to pack; default: all")
    add("--ground-truth", metavar="FILE", help="labels of a flat validation folder")
    named = "folder whose subfolders name the classes, such as the training set"
    add("--classes-of", metavar="FOLDER", help=named)
    add("--resize", type=int, default=0, help="length of the shorter side in pixels; 0 keeps it")
    add("--center-crop", action="store_true", help="crop to a square")
    add("--quality", type=int, help="JPEG 0 to 100 (default: 95), PNG 0 to 9 (default: 3)")
    add("--encoding", choices=tuple(DEFAULT_QUALITY), default=".jpg", help="default: .jpg")
    add("--pass-through", action="store_true", help="store the bytes of the files unchanged")
    add("--no-shuffle", action="store_true", help="keep the order of the names or the list")
    add("--seed", type=int, default=100, help="seed of the shuffling; default: 100")
    add("--train-ratio", type=float, default=1.0, help="share of the images in PREFIX_train.rec")
    add(
        "--bad",
        choices=("skip", "error"),
        default="skip",
        help="what to do with unreadable images; default: skip",
    )
    add("-j", "--workers", type=int, default=_cores(), help="processes; default: all cores")
    add("--no-progress", action="store_true", help="no progress bar")
    return parser


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _convert(args: argparse.Namespace) -> None:
    from ..data.files.encode import RecordOptions
    from ..data.files.image_list import ImageList
    from ..data.files.record_maker import make_recordio

    options = RecordOptions(
        resize=args.resize,
        center_crop=args.center_crop,
        quality=DEFAULT_QUALITY[args.encoding] if args.quality is None else args.quality,
        encoding=args.encoding,
        pass_through=args.pass_through,
        bad=args.bad,
    )
    images, keys = _list_images(args)
    for prefix, part in _split(args, len(images)):
        chosen = ImageList(images.root, images.names[part], images.labels[part], images.class_names)
        chosen_keys = None if keys is None else keys[part]
        done = make_recordio(
            prefix, chosen, options, chosen_keys, args.workers, not args.no_progress
        )
        print(
            f"{done.path}: {done.written} images of {len(images.class_names)} classes, "
            f"{done.path.stat().st_size / 1e6:.1f} MB"
            + (f", resumed at {done.resumed_at}" if done.resumed_at else "")
        )
        for name, problem in done.skipped[:SHOWN]:
            print(f"skipped {name}: {problem}", file=sys.stderr)
        if done.skipped:
            print(f"{len(done.skipped)} skipped, see {prefix}.skipped.txt", file=sys.stderr)


def _list_images(args: argparse.Namespace) -> tuple[ImageList, Optional[np.ndarray]]:
    """Return the images and, for a list file, the keys of their records."""
    import numpy as np

    from ..data.datasets.imagenet import list_validation
    from ..data.files.image_list import list_folders, list_from_file, read_list_file

    _check_label_sources(args)
    if args.csv:
        return _list_csv(args), None
    if args.split:
        raise ValueError(f"--split {args.split} chooses images of --csv, which is not given")
    if args.list:
        images = list_from_file(args.root, args.list)
        return images, np.array([key for key, _, _ in read_list_file(args.list)])
    classes = list_folders(args.classes_of).class_names if args.classes_of else None
    if args.ground_truth:
        return list_validation(args.root, classes, args.ground_truth), None
    return list_folders(args.root, classes), None


def _check_label_sources(args: argparse.Namespace) -> None:
    """Raise a ValueError if the labels are given twice."""
    sources = {
        "--csv": args.csv,
        "--list": args.list,
        "--ground-truth": args.ground_truth,
        "--classes-of": args.classes_of,  # together with --ground-truth it names the classes
    }
    given = [flag for flag, value in sources.items() if value]
    if len(given) > 1 and given[0] in ("--csv", "--list"):
        raise ValueError(f"{given[1]} is not for {given[0]}, which has the labels: leave it out")


def _list_csv(args: argparse.Namespace) -> ImageList:
    from ..data.datasets.folder.csv_file import Columns, read_csv
    from ..data.datasets.folder.files import check_files

    table = read_csv(args.csv, Path(args.root), Columns())
    if args.split:
        table = table.split(args.split)
    if not len(table):
        raise ValueError(f"{args.csv} has no images of split {args.split}")
    check_files(table, inside=True)
    return table.images


def _split(args: argparse.Namespace, count: int) -> list[tuple[str, np.ndarray]]:
    """Return the prefix of each RecordIO file and the indices of its images."""
    import numpy as np

    if not 0 < args.train_ratio <= 1:
        raise ValueError(f"--train-ratio {args.train_ratio} must be in (0, 1]")
    order = np.arange(count)
    if not args.no_shuffle and not args.list:
        order = np.random.RandomState(args.seed).permutation(count)
    cut = round(count * args.train_ratio)
    if cut == count:
        return [(args.prefix, order)]
    return [(f"{args.prefix}_train", order[:cut]), (f"{args.prefix}_val", order[cut:])]
