"""Train a network on ImageNet or other labelled image files, with the flags of GluonCV's script.

--batch-size counts the images of each device, and the learning rate is scaled linearly with the
total batch size: --lr refers to the recipe's batch size, unless --no-lr-scaling.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Optional

from ...training.config import TrainConfig
from ...training.distributed.rank import launched_world_size
from ...training.recipes.imagenet import IMAGENET_RECIPES
from ..arguments import Parser
from . import common

HELPS = {
    "data_dir": "folder with train and val, in ILSVRC's layout",
    "batch_size": "images per step on each device of each worker",
    "lr": "peak learning rate for the recipe's batch size",
}


def main(argv: Optional[list[str]] = None) -> int:
    """Parse flags, train, print the result; return the process's exit code."""
    return common.main(_parser().parse_args(argv), make_config)


def _parser() -> Parser:
    parser = common.make_parser(__doc__, IMAGENET_RECIPES, "densenet", {"dataset"}, HELPS)
    add = parser.add_argument
    add("--use-rec", action="store_true", help="read DATA_DIR/rec/train.rec and val.rec")
    add("--no-lr-scaling", action="store_true", help="use --lr for any batch size")
    add("--mode", choices=("hybrid",), default="hybrid", help="networks are static graphs")
    return parser


def make_config(args: argparse.Namespace) -> tuple[TrainConfig, str]:
    """Return the configuration and the run's folder.

    Raises
    ------
    ValueError
        If the flags contradict each other or a value is invalid.
    """
    config, out = common.open_run(args, IMAGENET_RECIPES, "densenet")
    given = common.given_fields(args, config)
    given = {**_record_files(args), **given}
    given.update(_scaled(args, config, given))
    config = config.with_fields(**given)
    if args.model is not None:
        config = config.with_model(args.model)
    return common.with_model_args(config, args), out


def _record_files(args: argparse.Namespace) -> dict[str, Any]:
    if not args.use_rec:
        return {}
    if args.data_dir is None:
        raise ValueError("--use-rec reads DATA_DIR/rec/train.rec and val.rec: give --data-dir.")
    folder = Path(args.data_dir) / "rec"
    return {f"rec_{part}": str(folder / f"{part}.rec") for part in ("train", "val")}


def _scaled(args: argparse.Namespace, config: TrainConfig, given: dict[str, Any]) -> dict[str, Any]:
    """Return the total batch size and the learning rate for it."""
    if args.lr is None and args.batch_size is None:
        return {}
    size, lr = config.data.batch_size, args.lr
    if args.batch_size is not None:
        devices = max(1, len(given.get("gpus", config.runtime.gpus)))
        size = args.batch_size * devices * launched_world_size()
    if args.no_lr_scaling:
        return {"batch_size": size, "lr": config.optimizer.lr if lr is None else lr}
    base = IMAGENET_RECIPES[config.recipe]
    lr = base.optimizer.lr if lr is None else lr
    return {"batch_size": size, "lr": lr * size / base.data.batch_size}
