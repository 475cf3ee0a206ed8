"""What the training scripts share: run a configuration, and say how it ended."""

from __future__ import annotations

import shlex
import signal
import sys

from .config import TrainConfig
from .distributed import speaks
from .loop import RunResult, fit


def train(config: TrainConfig, out: str, resume: bool, progress: bool) -> int:
    """Train, print how it ended, and return the exit code: 0, or 128 and the signal's number.

    Raises
    ------
    ValueError, OSError, FloatingPointError
        As :func:`gluondense.fit` does.
    """
    if speaks():
        fields = ", ".join(f"{name}={value}" for name, value in config.model_args.items())
        print(
            f"{config.model}{f' ({fields})' if fields else ''} on {config.dataset}, recipe "
            f"{config.recipe}, {config.epochs} epochs, batch {config.batch_size}, "
            f"lr {config.lr:g} -> {out}",
            flush=True,
        )
    return _finish(fit(config, out, resume=resume, progress=progress))


def _finish(result: RunResult) -> int:
    if speaks():
        print(_ending(result), flush=True)
    return 0 if result.stopped_by is None else 128 + result.stopped_by


def _ending(result: RunResult) -> str:
    if result.stopped_by is not None:
        name = signal.Signals(result.stopped_by).name
        return (
            f"stopped by {name} at step {result.step} (epoch {result.epoch + 1}), all saved; "
            f"go on with: {sys.argv[0]} --resume {shlex.quote(result.out_dir)}"
        )
    return (
        f"validation accuracy {result.test_accuracy:.2%} after epoch {result.epoch}, "
        f"best {result.best_accuracy:.2%} after epoch {result.best_epoch}, "
        f"{result.wall_s / 60:.1f} min; report: {result.out_dir}/report.html"
    )
