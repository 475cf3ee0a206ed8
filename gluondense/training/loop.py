# SPDX-License-Identifier: Apache-2.0
"""Training from a configuration to a run folder: build the parts, loop over epochs, report."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Optional, Union

import numpy as np

from ..environment.allocator import map_large_arrays
from . import checkpoint
from .config import TrainConfig
from .data import eval_batch_size
from .device_batches import DeviceBatch, batches_ahead
from .devices import seed_all
from .distributed.join import join
from .fine_tuning.pretrained import adopt_preprocessing
from .folder_lock import locked
from .observers.base import Observer
from .observers.events import EventFiles
from .observers.files import RunFiles, restore
from .observers.moving_average import MovingAverage
from .observers.progress import ProgressLog
from .observers.signals import StopOnSignal
from .run import Run, RunResult
from .run_data import split_to_resume
from .run_folder import RunFolder


def fit(
    config: TrainConfig,
    out_dir: Union[str, os.PathLike],
    resume: bool = False,
    progress: bool = True,
    overwrite: bool = False,
) -> RunResult:
    """Train a network and write a run folder: configuration, log, checkpoints and report.

    With a ``dist_…`` key-value store, this process is one of several workers, which
    ``gluondense launch`` starts; rank 0 writes the folder.

    Every random stream is a function of the seed, the epoch and the step: on the CPU, a run that is
    stopped and resumed gives the same parameters, bit for bit, as an uninterrupted one.

    Parameters
    ----------
    config
        The run.
    out_dir
        The run's folder; must not contain another run unless ``resume`` or ``overwrite``.
    resume
        Continue from the folder's last checkpoint.
    progress
        Show a progress bar if stderr is a terminal.
    overwrite
        Remove another run's files from the folder, and no other files.

    Raises
    ------
    ValueError
        If configuration, data and checkpoint don't fit each other.
    OSError
        If the data can't be read, the folder can't be written, contains a run or is in use by
        another process, or another worker has ended.
    FloatingPointError
        If the loss stops being finite; the last checkpoint is kept.

    Examples
    --------
    >>> result = fit(TrainConfig.of("densenet121"), "runs/first")  # doctest: +SKIP
    """
    map_large_arrays()
    folder = RunFolder(out_dir)
    with join(config.runtime, config.data.batch_size) as workers, ExitStack() as stack:
        if workers.is_rank_zero:
            stack.enter_context(locked(folder.path))
        if resume:
            folder.check_continues(config)
        elif workers.is_rank_zero and not overwrite:
            folder.check_free()
        config = folder.adopt_preprocessing(config) if resume else adopt_preprocessing(config)
        run = Run(config, workers, split_to_resume(folder, config.data) if resume else None)
        resumes = resume and checkpoint.find(folder.last) is not None
        if not resumes:
            run.load_initial_weights()
        average = MovingAverage(run.net, config.optimizer.ema) if config.optimizer.ema else None
        if resumes:
            restore(run, folder, average)
        elif workers.is_rank_zero and overwrite:
            folder.clear()
        run.cache_features()
        with StopOnSignal() as stop:
            train(run, [stop, *_observers(run, folder, average, progress)])
            signum = max(workers.all_gather(stop.signum or 0))
    state = run.state
    # A signal may have come between the last step of `max_steps` and the end of its evaluation.
    evaluated = bool(state.log) and state.log[-1]["step"] == state.step
    end = run.end() if evaluated else None
    return RunResult(
        out_dir=str(folder.path),
        epoch=state.epoch,
        step=state.step,
        last=state.log[-1] if state.log else {},
        best=run.task.best.best_row(state.log),
        wall_s=state.wall_s,
        stopped_by=signum if signum and end is None else None,
        ended_by=end,
    )


def _observers(
    run: Run, folder: RunFolder, average: Optional[MovingAverage], bar: bool
) -> Iterator[Observer]:
    config = run.config.runtime
    if average is not None:
        yield average
    if run.workers.is_rank_zero:
        yield RunFiles(folder, average)
        if config.tensorboard:
            yield EventFiles(folder.events, config.log_interval)
        yield ProgressLog(config.log_interval, bar)


def train(run: Run, observers: Sequence[Observer]) -> None:
    """Train to the last epoch, or until an observer asks to stop.

    Raises
    ------
    FloatingPointError
        If the loss stops being finite.
    """
    state, workers = run.state, run.workers
    workers.init_kvstore(run.trainer, run.schedule, state.step)
    for observer in observers:
        observer.on_start(run)
    state.log = workers.all_gather(state.log)[0]
    failure = None
    try:
        while not _requests(run, observers)[1]:
            ended = run.end() is not None
            if (ended and not state.batch) or not (ended or _train_epoch(run, observers)):
                break
            _finish_epoch(run, observers)
            if state.batch:  # stopped during the evaluation, or ended within an epoch
                break
    except FloatingPointError as error:
        failure = error
    for observer in observers:
        observer.on_end(run)
    if failure is not None:
        raise failure


def _train_epoch(run: Run, observers: Sequence[Observer]) -> bool:
    """Train to the end of the epoch or of the run (True), or until a request to stop (False)."""
    state = run.state
    if run.freezer.start_epoch(state.epoch) and run.workers.is_rank_zero:
        print(f"epoch {state.epoch + 1}: training {run.freezer.describe()}", flush=True)
    state.tick()
    for batch in batches_ahead(run):
        _train_batch(run, batch)
        for observer in observers:
            observer.on_step(run)
        save, stop = _requests(run, observers)
        if save or stop:
            state.sync()
            _save(run, observers)
        if stop:
            return False
        if run.end() is not None:
            break
    state.sync()
    return True


def _train_batch(run: Run, batch: DeviceBatch) -> None:
    state, workers, config = run.state, run.workers, run.config
    if run.net.spec.is_stochastic:  # at each step, so that a resumed run draws the same masks
        seed_all(*batch.key)
    xs, ys = batch.images, batch.targets
    losses, outputs = run.train_step(xs, run.task.loss_targets(xs, ys), run.loss_scale.value)
    run.trainer.set_learning_rate(run.schedule(state.step))
    size = workers.step_batch_size(run.train_loader.count(state.batch))
    any_rank, clip = (lambda overflow: workers.any(overflow)[0]), config.optimizer.clip
    run.loss_scale.step(run.trainer, size, any_rank, clip)
    state.batch += 1
    state.meter.add(state.step, batch.size, list(map(run.task.measure, losses, outputs, ys)))


def _finish_epoch(run: Run, observers: Sequence[Observer]) -> None:
    """Evaluate the epoch and tell the observers; if stopped meanwhile, save the trained epoch.

    An epoch that the end of the run cuts short is not finished: a longer run can resume it.
    """
    state, task = run.state, run.task
    began = time.perf_counter()
    predictions = _evaluate(run, observers)
    if predictions is None:
        _save(run, observers)
        return
    metrics = task.metrics(predictions)
    loss = metrics.get("test_loss", 0.0)
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"The loss on the test set became {loss} after step {state.step}: "
            "lower the learning rate or lengthen the warm-up."
        )
    state.tick()
    values = {
        "epoch": state.epochs,
        "step": state.step,
        "lr": run.schedule(state.step - 1),  # the trainer may just have been restored
        **dict(zip((metric.column for metric in task.train_metrics), state.meter.means())),
        **metrics,
        "images_per_s": state.meter.images / state.train_s,
        "epoch_s": state.train_s + time.perf_counter() - began,
        "wall_s": state.wall_s,
        "cpu_s": state.cpu_s,
    }
    state.log.append({name: values[name] for name in run.columns})
    if state.batch == len(run.train_loader):
        state.finish_epoch()
    is_best = task.best.best_row(state.log) is state.log[-1]
    for observer in observers:
        observer.on_epoch(run, predictions, is_best)


class _Stopped(Exception):
    """An observer asked to stop during the evaluation."""


def _evaluate(run: Run, observers: Sequence[Observer]) -> Any:
    """Return the predictions for the test set, of which each worker has a part; None if stopped."""

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch in run.test_loader:
            if any(observer.wants_stop(run) for observer in observers):
                raise _Stopped
            yield batch

    workers, predictions = run.workers, None
    workers.synchronize(run.net, run.trainer)
    size = eval_batch_size(run.config.data, workers)
    with ExitStack() as contexts, suppress(_Stopped):
        for observer in observers:
            contexts.enter_context(observer.evaluating(run))
        net = run.evaluated.now()
        predictions = run.task.evaluate(net, batches(), size, run.devices, run.to_input)
    if workers.any(predictions is None)[0] or predictions is None:
        return None
    return type(predictions)(*map(workers.all_gather_rows, predictions.arrays))


def _requests(run: Run, observers: Sequence[Observer]) -> list[bool]:
    """Return whether any observer of any worker wants to save, and to stop."""
    save = any(observer.wants_save(run) for observer in observers)
    return run.workers.any(save, any(observer.wants_stop(run) for observer in observers))


def _save(run: Run, observers: Sequence[Observer]) -> None:
    run.workers.synchronize(run.net, run.trainer)
    for observer in observers:
        observer.on_save(run)
