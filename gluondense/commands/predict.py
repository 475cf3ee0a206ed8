# SPDX-License-Identifier: Apache-2.0
"""Predict the class, the labels or the boxes of images, with a trained run or an export."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from . import boxes
from .arguments import add_preprocessing, add_weights_file, preprocessing_fields
from .explain.cam import write_page
from .output import call
from .parser import Parser

if TYPE_CHECKING:
    from ..deploy.prediction import Prediction

EXPLAINED = 3  # classes of each image with --explain


def main(argv: Optional[list[str]] = None) -> int:
    """Print the most probable classes or all labels of each image; return the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "model",
        help="a run's folder, a checkpoint's, an export (prefix or one of its files), weights such "
        "as densenet121.tv_in1k, or a weights file",
    )
    add_weights_file(parser)
    parser.add_argument("images", nargs="+", metavar="image.png")
    parser.add_argument(
        "--top",
        type=int,
        help="classes to print (default: 5, or all labels of a multi-label network), or boxes",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--explain",
        metavar="FILE.html",
        help="write a page with class activation maps of the top 3 classes of each image",
    )
    add = parser.add_argument_group("boxes of detectors").add_argument
    add("--threshold", type=float, help="smallest probability of a box (default: 0.5)")
    add("--out", metavar="FOLDER", help="write the images with their boxes drawn")
    add_preprocessing(parser)
    return call(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    predictions = _predict_without_mxnet(args)
    if predictions is None:
        predictions = _predict_in_mxnet(args)
    if args.json:
        print(json.dumps([item.to_dict() for item in predictions], ensure_ascii=False))
    else:
        tables = (boxes.table if hasattr(item, "boxes") else _table for item in predictions)
        print("\n\n".join(table(item) for table, item in zip(tables, predictions)))


def _predict_without_mxnet(args: argparse.Namespace) -> Optional[list[Any]]:
    """Predict with a native export that this machine has compiled; None for other models.

    It answers in a fraction of a second, where MXNet's import takes seconds.
    """
    from .. import runtime

    others = args.explain, args.out, args.network, args.threshold is not None
    if any(others) or not runtime.is_trusted(args.model):
        return None
    from ..data.overrides import adjust
    from ..deploy.prediction import predict

    try:
        net = runtime.load(args.model)
    except ValueError:  # an older export or a detector, which MXNet runs, or a damaged file
        return None
    if net.metadata.output == "features" or net.metadata.preprocessing is None:
        return None
    preprocessing = adjust(net.metadata.preprocessing, **preprocessing_fields(args))
    return predict(net, args.images, top=args.top, preprocessing=preprocessing)


def _predict_in_mxnet(args: argparse.Namespace) -> list[Any]:
    from ..analysis.tasks import task_of
    from ..deploy.prediction import predict
    from ..evaluation.model import open_model
    from ..training.devices import find_devices

    weights = {"fields": dict(args.set), "allow_nan": args.allow_nan}
    model = open_model(args.model, find_devices(()), args.network, **weights)
    model = model.adjusted(**preprocessing_fields(args))
    preprocessing, net, names = model.known_preprocessing(), model.net, model.class_names
    is_detector = task_of(net) == "detection"
    if args.out and not is_detector:
        raise ValueError(f"--out draws boxes, but {args.model} is not a detector: leave it out.")
    if args.explain and is_detector:
        raise ValueError("--explain is for classes, not for a detector's boxes: leave it out.")
    if args.explain:
        top, name = min(args.top or EXPLAINED, EXPLAINED), Path(args.model).name
        write_page(args.explain, name, net, args.images, preprocessing, names, top)
    options = {"top": args.top, "threshold": args.threshold}
    predictions: list[Any] = predict(
        net, args.images, class_names=names, preprocessing=preprocessing, **options
    )
    if args.out:
        boxes.write_images(args.out, predictions, names)
    return predictions


def _table(prediction: Prediction) -> str:
    width = max(map(len, prediction.labels))
    lines = [
        f"  {label:<{width}}  {probability:7.2%}"
        for label, probability in zip(prediction.labels, prediction.probabilities)
    ]
    if prediction.present is not None and prediction.thresholds is not None:
        rows = zip(lines, prediction.present, prediction.thresholds)
        lines = [
            f"{line}  {'yes' if yes else 'no ':3}  from {limit:.2%}" for line, yes, limit in rows
        ]
    return "\n".join([prediction.image, *lines])
