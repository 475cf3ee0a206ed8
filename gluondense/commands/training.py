"""What the training scripts share: choose a configuration, run it, and say how it ended."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Mapping
from typing import Callable

from ..data.datasets.registry import IN_MEMORY
from ..training.config import TrainConfig
from ..training.distributed.rank import is_rank_zero
from ..training.loop import RunResult, fit
from ..training.run_folder import RunFolder


def main(
    args: argparse.Namespace, configure: Callable[[argparse.Namespace], tuple[TrainConfig, str]]
) -> int:
    """Train what the flags say, print how it ended or why it can't, and return the exit code.

    Parameters
    ----------
    args
        The flags, ``resume`` and ``no_progress`` among them.
    configure
        Makes the configuration and names the run's folder.

    Returns
    -------
    int
        0; 128 and the signal's number; 2 for a mistake of the user's, 1 for a loss that is no
        number.
    """
    try:
        config, out = configure(args)
        return _train(config, out, args.resume is not None, not args.no_progress)
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def open_run(
    args: argparse.Namespace, recipes: Mapping[str, TrainConfig], default: str
) -> tuple[TrainConfig, str]:
    """Return the configuration of the run that is resumed, or else of a recipe, and the folder.

    Raises
    ------
    ValueError
        If there is no run to resume, or it follows another recipe than the flag says.
    """
    if args.resume is None:
        config = recipes[args.recipe or default]
        return config, args.out or f"runs/{args.model or config.model}-{config.recipe}"
    out = args.resume or args.out
    if out is None:
        raise ValueError("--resume needs the run's folder: --resume FOLDER.")
    config = RunFolder(out).config()
    if args.recipe not in (None, config.recipe):
        raise ValueError(f"{out} follows the recipe {config.recipe!r}, which can't be changed.")
    return config, out


def _train(config: TrainConfig, out: str, resume: bool, progress: bool) -> int:
    if is_rank_zero():
        fields = ", ".join(f"{name}={value}" for name, value in config.model_args.items())
        print(
            f"{config.model}{f' ({fields})' if fields else ''} on {config.dataset}, recipe "
            f"{config.recipe}, {config.epochs} epochs, batch {config.batch_size}, "
            f"lr {config.lr:g} -> {out}",
            flush=True,
        )
    result = fit(config, out, resume=resume, progress=progress)
    if is_rank_zero():
        print(_ending(result, config), flush=True)
    return 0 if result.stopped_by is None else 128 + result.stopped_by


def _ending(result: RunResult, config: TrainConfig) -> str:
    if result.stopped_by is not None:
        name = signal.Signals(result.stopped_by).name
        return (
            f"stopped by {name} at step {result.step} (epoch {result.epoch + 1}), all saved; "
            f"go on with: {sys.argv[0]} --resume {shlex.quote(result.out_dir)}"
        )
    images = "test" if config.dataset in IN_MEMORY else "validation"
    return (
        f"{images} accuracy {result.test_accuracy:.2%} after epoch {result.epoch}, "
        f"best {result.best_accuracy:.2%} after epoch {result.best_epoch}, "
        f"{result.wall_s / 60:.1f} min; report: {result.out_dir}/report.html"
    )
