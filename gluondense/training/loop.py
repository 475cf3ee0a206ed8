"""Training from a configuration to a run folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional, Union

from .config import TrainConfig
from .data import open_data
from .distributed.join import join
from .distributed.workers import Workers
from .run import Run
from .run_folder import RunFolder
from .signals import StopRequest


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Parameters
    ----------
    out_dir
        The run's folder.
    epoch, step
        Epochs finished, and optimizer steps done.
    test_accuracy, best_accuracy, best_epoch
        Accuracies on the test set after the last and the best epoch; None before the first.
    wall_s
        Seconds of training, over all resumes.
    stopped_by
        Number of the signal that ended it early, or None.
    """

    out_dir: str
    epoch: int
    step: int
    test_accuracy: Optional[float]
    best_accuracy: Optional[float]
    best_epoch: Optional[int]
    wall_s: float
    stopped_by: Optional[int] = None


def fit(
    config: TrainConfig,
    out_dir: Union[str, os.PathLike],
    resume: bool = False,
    progress: bool = True,
) -> RunResult:
    """Train a network and leave a run folder: configuration, log, checkpoints, report.

    With a ``dist_…`` key-value store this is one of many workers, which ``scripts/launch.py``
    starts; the first of them writes the folder.

    Every random stream is a function of the seed and the epoch, so on the CPU a run that was
    stopped at an epoch's end and resumed gives the same parameters, bit for bit, as one that
    wasn't.

    Parameters
    ----------
    config
        What to do.
    out_dir
        The run's folder; must not hold another run unless ``resume``.
    resume
        Go on from the folder's last checkpoint, within an epoch if it was written there.
    progress
        Show a progress bar on a terminal.

    Raises
    ------
    ValueError
        If the configuration, the data or a checkpoint doesn't fit.
    OSError
        If the data or the folder can't be read or written, the folder is taken, or another worker
        has gone.
    FloatingPointError
        If the loss stops being finite; the last checkpoint stays as it was.

    Examples
    --------
    >>> result = fit(TrainConfig(model="densenet121"), "runs/first")  # doctest: +SKIP
    """
    with join(config) as workers:
        return _fit(config, RunFolder(out_dir), workers, resume, progress)


def _fit(
    config: TrainConfig, folder: RunFolder, workers: Workers, resume: bool, progress: bool
) -> RunResult:
    if resume:
        folder.check_continues(config)
    elif workers.is_rank_zero:
        folder.check_free()
    run = Run(config, folder, open_data(config), workers)
    if resume:
        run.restore()
    run.start()
    with StopRequest() as stop:
        try:
            while run.epoch < config.epochs and not run.stops(stop):
                if run.train_epoch(stop, progress):
                    run.finish_epoch(stop)
        except FloatingPointError:
            run.write_report()
            raise
        run.write_report()
        signums = workers.all_gather(stop.signum or 0)
    return _result(run, (max(signums) or None) if run.epoch < config.epochs else None)


def _result(run: Run, stopped_by: Optional[int]) -> RunResult:
    best = max(run.log, key=lambda row: row["test_acc"], default=None)
    return RunResult(
        out_dir=str(run.folder.path),
        epoch=run.epoch,
        step=run.step,
        test_accuracy=run.log[-1]["test_acc"] if run.log else None,
        best_accuracy=best["test_acc"] if best else None,
        best_epoch=int(best["epoch"]) if best else None,
        wall_s=run.at.wall_s,
        stopped_by=stopped_by,
    )
