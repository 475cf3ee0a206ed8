# SPDX-License-Identifier: Apache-2.0
"""Training: recipes, the loop, checkpoints and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .checkpoint.description import Checkpoint
    from .checkpoint.read import load
    from .config import TrainConfig
    from .loop import RunResult, fit
    from .recipes.fashion_mnist import RECIPES, get_recipe
    from .report import write_report
    from .step import StepResult, TrainStep
else:
    __getattr__, __dir__ = attach(__name__)

__all__ = [
    "RECIPES",
    "Checkpoint",
    "RunResult",
    "StepResult",
    "TrainConfig",
    "TrainStep",
    "fit",
    "get_recipe",
    "load",
    "write_report",
]
