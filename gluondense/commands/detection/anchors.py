# SPDX-License-Identifier: Apache-2.0
"""Find anchors for the boxes of a data set by k-means on their IoU.

Prints nine widths and heights in pixels of the input, three for each scale, and the mean IoU of the
boxes with the anchor that fits each best. `gluondense train detection` does the same by default;
the line of JSON is for its --set anchors=JSON.
"""

from __future__ import annotations

import argparse
import json
from typing import Optional

from ...data.detection.problems import BAD
from ..output import call
from ..parser import Parser


def main(argv: Optional[list[str]] = None) -> int:
    """Print the anchors; return the exit code."""
    return call(_run, _parser().parse_args(argv))


def _parser() -> Parser:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        names={"resize": "--input-size"},
    )
    add = parser.add_argument
    text = "VOC folder, COCO .json or .csv file"
    add("data_dir", metavar="DATA", help=text)
    add("--image-dir", metavar="FOLDER", help="folder of the images, if not the annotations'")
    text = "split to read; default: train, or else trainval"
    add("--train-split", metavar="SPLIT", help=text)
    add("--input-size", type=int, default=416, metavar="N", help="side of the input; default: 416")
    text = "keep the aspect ratio of an image and pad it, instead of stretching it"
    add("--letterbox", action="store_true", help=text)
    text = "skip, clip or refuse bad boxes and annotations; default: skip"
    add("--bad", choices=BAD, default="skip", help=text)
    return parser


def _run(args: argparse.Namespace) -> None:
    import numpy as np

    from ...data.detection.dataset import open_detection
    from ...detection.anchors import find_anchors, mean_iou
    from ...detection.grid import check_size
    from ...detection.spec import ANCHORS_PER_SCALE, COCO_ANCHORS, STRIDES

    check_size(args.input_size, args.input_size)
    data = open_detection(args.data_dir, args.image_dir, train=args.train_split, bad=args.bad)
    assert data.train is not None  # it was opened for training
    size = args.input_size, args.input_size
    sizes = data.train.annotations.sizes_in(size, args.letterbox)
    anchors = find_anchors(sizes)
    print(f"{len(sizes)} boxes of {len(data.train)} images at {args.input_size} pixels")
    for index, stride in enumerate(STRIDES):
        first = ANCHORS_PER_SCALE * index
        three = " ".join(f"{w:g}x{h:g}" for w, h in anchors[first : first + ANCHORS_PER_SCALE])
        print(f"stride {stride:2d}: {three}")
    fits = [mean_iou(sizes, np.array(each)) for each in (anchors, COCO_ANCHORS)]
    print(f"mean IoU {fits[0]:.3f} (YOLOv3's anchors for COCO: {fits[1]:.3f})")
    print(json.dumps(anchors))
