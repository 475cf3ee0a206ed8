"""Train a network on CIFAR-10, CIFAR-100 or SVHN as the DenseNet paper does."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import Any, Optional

from .. import get_spec, list_models
from ..training import TrainConfig
from ..training.config import KVSTORES
from ..training.recipes.cifar import CIFAR_RECIPES
from . import training as command
from .arguments import Parser

# flag -> field, for flags whose value goes into the field as it is.
FIELDS = {
    "data_dir": "data_dir",
    "epochs": "epochs",
    "batch_size": "batch_size",
    "lr": "lr",
    "momentum": "momentum",
    "wd": "wd",
    "lr_mode": "schedule",
    "lr_decay": "lr_decay",
    "warmup_epochs": "warmup_epochs",
    "label_smoothing": "label_smoothing",
    "mixup": "mixup",
    "cutmix": "cutmix",
    "ema": "ema",
    "save_steps": "save_steps",
    "keep": "keep_checkpoints",
    "kvstore": "kvstore",
    "compression": "compression",
    "seed": "seed",
    "log_interval": "log_interval",
}


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, train, print how it ended; return the process's exit code."""
    return command.main(_parser().parse_args(argv), make_config)


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--recipe", choices=sorted(CIFAR_RECIPES), help="+ is with augmentation; default: c10+")
    add("--model", help="such as densenet100_k12_bc, of the data set; default: densenet40_k12")
    add("--data-dir", metavar="FOLDER", help="where the original files lie: .bin, .tar.gz, .mat")
    add("--out", "--save-dir", metavar="FOLDER", help="default: runs/MODEL-RECIPE")
    add("--resume", nargs="?", const="", metavar="FOLDER", help="go on with that run")
    add("--num-epochs", "--epochs", dest="epochs", type=int, help="default: 300, SVHN 40")
    add("--batch-size", type=int, help="images a step, over all devices; default: 64")
    add("--lr", type=float, help="peak; default: 0.1")
    add("--momentum", type=float)
    add("--wd", type=float, help="weight decay; default: 0.0001")
    add("--lr-mode", choices=("step", "poly", "cosine", "constant"))
    add("--lr-decay", type=float, help="factor of a step; default: 0.1")
    add("--lr-decay-epoch", type=_numbers, metavar="150,225", help="default: 50 %% and 75 %%")
    add("--warmup-epochs", type=float)
    add("--drop-rate", type=float, help="default: 0.2 without augmentation, else 0")
    add("--label-smoothing", type=float)
    add("--mixup", type=float, metavar="ALPHA")
    add("--cutmix", type=float, metavar="ALPHA")
    add("--ema", type=float, metavar="DECAY")
    add("--gpus", type=_numbers, metavar="0,1", help="default: train on the CPU")
    add("--num-gpus", type=int, default=0, help="the first so many")
    add(
        "--kvstore",
        choices=KVSTORES,
        help="dist_… trains on many machines: scripts/launch.py",
    )
    add("--compression", type=float, metavar="THRESHOLD", help="2-bit gradients between workers")
    add("--seed", type=int)
    add("--save-steps", type=int, help="steps between checkpoints; default: five minutes")
    add("--keep", type=int, metavar="N", help="checkpoints that stay, besides the best; default: 1")
    add("--log-interval", type=int, help="steps between lines; default: only epochs")
    add("--tensorboard", action="store_true", help="event files in OUT/events")
    add("--no-progress", action="store_true", help="no progress bar")
    parser.add_fields()
    return parser


def make_config(args: argparse.Namespace) -> tuple[TrainConfig, str]:
    """Make the configuration and the folder's name from the flags.

    Raises
    ------
    ValueError
        If they don't fit each other.
    """
    config, out = command.open_run(args, CIFAR_RECIPES, "c10+")
    given: dict[str, Any] = {
        field: getattr(args, flag)
        for flag, field in FIELDS.items()
        if getattr(args, flag) is not None
    }
    if args.data_dir is not None:  # a run is resumed from anywhere
        given["data_dir"] = os.path.abspath(os.path.expanduser(args.data_dir))
    if args.gpus is not None or args.num_gpus:
        given["gpus"] = tuple(args.gpus or range(args.num_gpus))
    if args.tensorboard:
        given["tensorboard"] = True
    fields = {**config.model_args, **dict(args.set)}
    if args.drop_rate is not None:
        fields["dropout"] = args.drop_rate
    if args.model is not None:
        given["model"] = _model(args.model, config.dataset)
    config = replace(config, **given, model_args=fields)
    if args.lr_decay_epoch is not None:
        steps = tuple(epoch / config.epochs for epoch in args.lr_decay_epoch)
        config = replace(config, lr_steps=steps)
    return config, out


def _model(name: str, dataset: str) -> str:
    """Find a network's name, of which the data set may be left out."""
    full = f"{name}_{dataset}"
    found = full if full in list_models() else name
    get_spec(found)
    return found


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
