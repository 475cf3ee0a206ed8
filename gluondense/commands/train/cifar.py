# SPDX-License-Identifier: Apache-2.0
"""Train a network on CIFAR-10, CIFAR-100 or SVHN as in the DenseNet paper.

Recipes ending in + augment the images; fast is for few epochs on a CPU. The data set follows from
the recipe.
"""

from __future__ import annotations

import argparse
from typing import Optional

from ...training.config import TrainConfig
from ...training.recipes.cifar import CIFAR_RECIPES
from ..parser import Parser
from . import common
from .flags import WITHOUT


def main(argv: Optional[list[str]] = None) -> int:
    """Parse flags, train, print the result; return the process's exit code."""
    return common.main(make_parser().parse_args(argv), make_config)


def make_parser() -> Parser:
    """Return the parser of the flags."""
    helps = {"data_dir": "folder with the original files: .bin, .tar.gz or .mat"}
    return common.make_parser(__doc__, CIFAR_RECIPES, "c10+", WITHOUT["cifar"], helps)


def make_config(args: argparse.Namespace) -> tuple[TrainConfig, str]:
    """Return the configuration and the run's folder, see :func:`common.make_config`."""
    return common.make_config(args, CIFAR_RECIPES, "c10+", _with_model)


def _with_model(config: TrainConfig, name: str) -> TrainConfig:
    """Change the model, from whose name the data set may be omitted; its fields stay."""
    from ...models.registry import get_spec, list_models

    full = f"{name}_{config.data.dataset}"
    found = full if full in list_models() else name
    get_spec(found)
    return config.with_fields(model=found)
