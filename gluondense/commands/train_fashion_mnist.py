"""Train a network on Fashion-MNIST and leave a run folder with checkpoints, log and report."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any, Optional

from ..data import load_dataset
from ..data.datasets.registry import IN_MEMORY
from ..training import RECIPES, TrainConfig
from ..training.config import DTYPES, KVSTORES
from . import training as command
from .arguments import Parser

# The small set is trained on as if it were the big one, so that the same network fits; a mirrored
# digit is no digit, and 40 times fewer images need more epochs.
FALLBACK = {"dataset": "digits", "data_dir": None, "resize": 28, "augment": ("crop",)}
FALLBACK_EPOCHS = 10


def main(argv: Optional[list[str]] = None) -> int:
    """Parse, train, print how it ended; return the process's exit code."""
    return command.main(_parser().parse_args(argv), _config)


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--model", help="name from gluondense.list_models(); default: the recipe's")
    parser.add_argument("--recipe", choices=sorted(RECIPES), help="default: default")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int, help="images a step, over all devices")
    parser.add_argument("--lr", type=float, help="peak learning rate")
    parser.add_argument(
        "--resize", type=int, metavar="PIXELS", help="side that images are resized to"
    )
    parser.add_argument("--dataset", choices=sorted(IN_MEMORY), help="default: fashion_mnist")
    parser.add_argument("--data-dir", metavar="FOLDER", help="where the data set's files lie")
    parser.add_argument(
        "--fallback-digits",
        action="store_true",
        help="if the data set can't be had, train on scikit-learn's digits",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="the run's folder; default: runs/MODEL-RECIPE"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="go on with the run in FOLDER (or --out) from its last checkpoint",
    )
    parser.add_argument("--gpus", type=_numbers, metavar="0,1,…", help="default: train on the CPU")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--kvstore",
        choices=KVSTORES,
        help="dist_… trains on many machines, see scripts/launch.py; default: device",
    )
    parser.add_argument(
        "--compression",
        type=float,
        metavar="THRESHOLD",
        help="workers send gradients of 2 bits: -THRESHOLD, 0 or THRESHOLD, such as 0.5",
    )
    parser.add_argument(
        "--accumulate",
        type=int,
        metavar="PARTS",
        help="cut each step's batch into parts, one after the other, which saves memory",
    )
    parser.add_argument(
        "--memory-efficient",
        action="store_const",
        const=True,
        help="compute maps again in backward instead of keeping them; same results",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="what convolutions compute in: float16 on GPUs, bfloat16 on CPUs; default: float32",
    )
    parser.add_argument(
        "--sync-bn",
        action="store_const",
        const=True,
        help="batch statistics of all devices together",
    )
    parser.add_fields()
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    return parser


def _config(args: argparse.Namespace) -> tuple[TrainConfig, str]:
    names = ("epochs", "batch_size", "lr", "resize", "dataset", "data_dir", "gpus", "seed")
    names += ("kvstore", "compression", "accumulate", "memory_efficient", "dtype", "sync_bn")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    config, out = command.open_run(args, RECIPES, "default")
    config = replace(config, **given).with_model(args.model or config.model)
    if args.set:
        fields = {**config.model_args, **dict(args.set)}
        config = replace(config, model_args=fields)
    return (_available(config) if args.fallback_digits else config), out


def _available(config: TrainConfig) -> TrainConfig:
    """Return the configuration, changed to the digits if its data set can't be had."""
    try:
        load_dataset(config.dataset, data_dir=config.data_dir, download=config.download)
    except OSError as error:
        print(
            f"WARNING: {config.dataset} can't be had ({error}).\n"
            "WARNING: training on scikit-learn's small `digits` instead: "
            "the accuracies below are NOT those of Fashion-MNIST.",
            file=sys.stderr,
        )
        changes: dict[str, Any] = {**FALLBACK, "epochs": FALLBACK_EPOCHS * config.epochs}
        if config.resize is not None:
            del changes["resize"]
        return replace(config, **changes)
    return config


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
