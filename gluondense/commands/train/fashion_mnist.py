# SPDX-License-Identifier: Apache-2.0
"""Train a network on Fashion-MNIST and write a run folder with checkpoints, log and report."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Optional

from ...training.config import TrainConfig
from ...training.recipes.fashion_mnist import RECIPES
from ..arguments import DATASETS
from ..parser import Parser
from . import common
from .flags import WITHOUT

# The digits are resized so that the same network fits. They are not mirrored, as mirrored digits
# are none, and 40 times fewer images need more epochs.
FALLBACK = {"dataset": "digits", "data_dir": None, "augment": ("crop",)}
FALLBACK_SIDE = 28
FALLBACK_EPOCHS = 10
OWN_COMMANDS = ("folder", "imagenet")  # data sets with a training command


def main(argv: Optional[list[str]] = None) -> int:
    """Parse flags, train, print the result; return the process's exit code."""
    return common.main(make_parser().parse_args(argv), make_config)


def make_parser() -> Parser:
    """Return the parser of the flags."""
    helps = {"dataset": ", ".join(name for name in DATASETS if name not in OWN_COMMANDS)}
    parser = common.make_parser(__doc__, RECIPES, "default", WITHOUT["fashion_mnist"], helps)
    parser.add_argument(
        "--fallback-digits",
        action="store_true",
        help="train on scikit-learn's digits if the data set is not available",
    )
    return parser


def make_config(args: argparse.Namespace) -> tuple[TrainConfig, str]:
    """Return the configuration and the run's folder, see :func:`common.make_config`."""
    config, out = common.make_config(args, RECIPES, "default")
    return (_available(config) if args.fallback_digits else config), out


def _available(config: TrainConfig) -> TrainConfig:
    """Return the configuration, changed to the digits if its data set is not available."""
    from ...training.data import open_data

    try:
        open_data(config.data)
    except OSError as error:
        print(
            f"WARNING: {config.data.dataset} is not available ({error}).\n"
            "WARNING: training on scikit-learn's small `digits` instead: "
            "the accuracies below are NOT those of Fashion-MNIST.",
            file=sys.stderr,
        )
        changes: dict[str, Any] = {**FALLBACK, "epochs": FALLBACK_EPOCHS * config.schedule.epochs}
        return config.with_fields(resize=config.data.resize or FALLBACK_SIDE, **changes)
    return config
