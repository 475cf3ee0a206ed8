# SPDX-License-Identifier: Apache-2.0
"""Train a detector on images with boxes: a VOC folder, a COCO JSON file, or a CSV file.

DATA is a folder in the layout of VOC, a .json file in COCO's format, or a .csv file with the
columns path, x1, y1, x2, y2 and class. With --pretrained the default recipe is finetune; the
weights are those of the backbone, or of another detector's run. Flags have the names of GluonCV's
train_yolo3.py where they mean the same.
"""

from __future__ import annotations

import argparse
from typing import Optional

from ...training.config import TrainConfig
from ...training.configuration.settings import absolute
from ...training.recipes.detection import DETECTION_RECIPES
from ..parser import Parser
from . import common
from .flags import WITHOUT

DEFAULT = "scratch"
SMOOTHING = 1 / 40  # of GluonCV, for up to 40 classes
HELPS = {
    "image_dir": "folder of the images, if it is not the one that the annotations name",
    "bad_images": "for bad boxes, annotations and images: skip names them and leaves them out, "
    "clip also cuts off what is outside of the image, error stops",
    "label_smoothing": "target of the wrong classes; that of the right class is 1 minus this",
    "mixup": "add mixup to --augment, as GluonCV's flag",
    "mix_off_epochs": "last epochs without mosaic and mixup",
}


def main(argv: Optional[list[str]] = None) -> int:
    """Parse flags, train, print the result; return the process's exit code."""
    return common.main(make_parser().parse_args(argv), make_config)


def make_parser() -> Parser:
    """Return the parser of the flags."""
    without = WITHOUT["detection"]
    parser = common.make_parser(__doc__, DETECTION_RECIPES, DEFAULT, without, HELPS)
    parser.usage = "%(prog)s DATA [flags]"
    text = "VOC folder, COCO .json or .csv file; not needed to resume"
    parser.add_argument("data_dir", nargs="?", metavar="DATA", type=absolute, help=text)
    add = parser.add_argument_group("names of GluonCV's train_yolo3.py").add_argument
    text = "backbone: the same as --model yolo3_efm_NAME_custom"
    add("--network", metavar="NAME", help=text)
    add("--data-shape", dest="resize", type=int, metavar="N", help="the same as --input-size N")
    add("--num-workers", dest="data_workers", type=int, metavar="N", help="the same as -j N")
    text = "the same as --multi-scale none"
    add("--no-random-shape", dest="multi_scale", action="store_const", const=(), help=text)
    add("--syncbn", dest="sync_bn", action="store_const", const=True, help="the same as --sync-bn")
    text = f"the same as --label-smoothing {SMOOTHING}"
    add("--label-smooth", dest="label_smoothing", action="store_const", const=SMOOTHING, help=text)
    text = "the same as --dtype float16"
    add("--amp", dest="dtype", action="store_const", const="float16", help=text)
    return parser


def make_config(args: argparse.Namespace) -> tuple[TrainConfig, str]:
    """Return the configuration and the run's folder, see :func:`common.make_config`."""
    if args.data_dir is None and args.resume is None:
        raise ValueError("name your images: gluondense train detection DATA (see --help).")
    if args.network is not None:
        if args.model is not None:
            raise ValueError("--network and --model both name the network: give one of them.")
        args.model = f"yolo3_efm_{args.network}_custom"
    default = DEFAULT if args.pretrained in (None, "none") else "finetune"
    return common.make_config(args, DETECTION_RECIPES, default, _with_model, _derive)


def _with_model(config: TrainConfig, name: str) -> TrainConfig:
    """Change the detector; the fields of its neck stay, those of another backbone don't."""
    from ...detection.registry import get_detector_spec
    from ...models.registry import SPECS

    if name in SPECS:
        raise ValueError(f"--model {name} is a classifier: give --network {name}.")
    args = dict(config.model.args)
    if get_detector_spec(name).backbone != get_detector_spec(config.model.name).backbone:
        args.pop("backbone_args", None)
    return config.with_fields(model=name, model_args=args)


def _derive(args: argparse.Namespace, config: TrainConfig, given: common.Fields) -> common.Fields:
    """Return the augmentations with the mixup that ``--mixup`` asks for."""
    if not given.get("mixup"):
        return {}
    augment = given.get("augment", config.data.augment)
    return {"mixup": 0.0, "augment": tuple(dict.fromkeys((*augment, "mixup")))}
