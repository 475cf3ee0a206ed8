# SPDX-License-Identifier: Apache-2.0
"""Train a network on your own images: a folder of class folders, or a CSV file.

DATA is a folder with one folder per class, a folder with train and, if wanted, val and test, or a
.csv file with the columns path and label. Without validation images, some of the training images
are split off; the run's split.csv lists them. With --pretrained the default recipe is finetune.
"""

from __future__ import annotations

import argparse
from typing import Optional

from ...training.config import TrainConfig
from ...training.configuration.folder_fields import FOLDER_FIELDS
from ...training.configuration.settings import absolute
from ...training.recipes.folder import FOLDER_RECIPES
from ..parser import Parser
from . import common
from .flags import WITHOUT

DEFAULT = "scratch"


def main(argv: Optional[list[str]] = None) -> int:
    """Parse flags, train, print the result; return the process's exit code."""
    return common.main(make_parser().parse_args(argv), make_config)


def make_parser() -> Parser:
    """Return the parser of the flags."""
    parser = common.make_parser(__doc__, FOLDER_RECIPES, DEFAULT, WITHOUT["folder"])
    parser.usage = "%(prog)s DATA [flags]"
    text = "folder of class folders, of train and val, or .csv file; not needed to resume"
    parser.add_argument("data_dir", nargs="?", metavar="DATA", type=absolute, help=text)
    return parser


def make_config(args: argparse.Namespace) -> tuple[TrainConfig, str]:
    """Return the configuration and the run's folder, see :func:`common.make_config`."""
    if args.data_dir is None and args.resume is None:
        raise ValueError("name your images: gluondense train folder DATA (see --help).")
    fixed = {name for name in FOLDER_FIELDS if getattr(args, name) is not None} - {"image_dir"}
    if args.resume is not None and fixed:
        raise ValueError(
            f"`{min(fixed)}` can't change on --resume: the run keeps the splits that it has."
        )
    default = DEFAULT if args.pretrained in (None, "none") else "finetune"
    return common.make_config(args, FOLDER_RECIPES, default, derive=_derive)


def _derive(args: argparse.Namespace, config: TrainConfig, given: common.Fields) -> common.Fields:
    """Return the task that ``--multi-label`` asks for."""
    if args.multi_label and "task" not in given:
        return {"task": "multi_label"}
    return {}
