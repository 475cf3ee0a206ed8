# SPDX-License-Identifier: Apache-2.0
"""Train a network on ImageNet or other labelled image files, with the flags of GluonCV's script.

--batch-size counts the images of each device, and the learning rate is scaled linearly with the
total batch size: --lr refers to the recipe's batch size, unless --no-lr-scaling.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional

from ...errors import check_known
from ...training.config import TrainConfig
from ...training.distributed.rank import launched_world_size
from ...training.recipes.imagenet import IMAGENET_RECIPES
from ..parser import Parser
from . import common
from .flags import WITHOUT

HELPS = {
    "data_dir": "folder with train and val, in ILSVRC's layout",
    "batch_size": "images per step on each device of each worker",
    "lr": "peak learning rate for the recipe's batch size",
}


def main(argv: Optional[list[str]] = None) -> int:
    """Parse flags, train, print the result; return the process's exit code."""
    return common.main(make_parser().parse_args(argv), make_config)


def make_parser() -> Parser:
    """Return the parser of the flags."""
    parser = common.make_parser(__doc__, IMAGENET_RECIPES, "densenet", WITHOUT["imagenet"], HELPS)
    add = parser.add_argument
    add("--use-rec", action="store_true", help="read DATA_DIR/rec/train.rec and val.rec")
    add("--no-lr-scaling", action="store_true", help="use --lr for any batch size")
    return parser


def make_config(args: argparse.Namespace) -> tuple[TrainConfig, str]:
    """Return the configuration and the run's folder, see :func:`common.make_config`."""
    return common.make_config(args, IMAGENET_RECIPES, "densenet", derive=_derive)


def _derive(args: argparse.Namespace, config: TrainConfig, given: common.Fields) -> common.Fields:
    """Return the record files of ``--use-rec``, the total batch size and its learning rate."""
    fields: common.Fields = {}
    if args.use_rec:
        if args.data_dir is None:
            raise ValueError("--use-rec reads DATA_DIR/rec/train.rec and val.rec: give --data-dir.")
        for part in ("train", "val"):
            fields[f"rec_{part}"] = str(Path(args.data_dir) / "rec" / f"{part}.rec")
    if args.lr is None and args.batch_size is None:
        return fields
    size = config.data.batch_size
    if args.batch_size is not None:
        devices = max(1, len(given.get("gpus", config.runtime.gpus)))
        size = args.batch_size * devices * launched_world_size()
    if args.no_lr_scaling:
        lr = config.optimizer.lr if args.lr is None else args.lr
    else:
        hint = "its batch size scales the learning rate, unless --no-lr-scaling"
        check_known("ImageNet recipe", config.recipe, IMAGENET_RECIPES, hint)
        base = IMAGENET_RECIPES[config.recipe]
        lr = (base.optimizer.lr if args.lr is None else args.lr) * size / base.data.batch_size
    return {**fields, "batch_size": size, "lr": lr}
