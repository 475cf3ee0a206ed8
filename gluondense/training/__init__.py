"""Training: recipes, the loop, checkpoints and the report."""

from .checkpoint import Checkpoint, load
from .config import RECIPES, TrainConfig, get_recipe
from .loop import RunResult, fit
from .report import write_report

__all__ = [
    "RECIPES",
    "Checkpoint",
    "RunResult",
    "TrainConfig",
    "fit",
    "get_recipe",
    "load",
    "write_report",
]
