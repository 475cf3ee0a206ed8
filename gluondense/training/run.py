# SPDX-License-Identifier: Apache-2.0
"""The parts of a training run, each built once from its section of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import mxnet as mx
from mxnet import gluon

from ..data.datasets.imagenet import ImageFiles
from ..models.registry import build_model
from ..native.build import CompilerError
from .config import TrainConfig
from .data import balance_classes, make_test_loader, make_train_loader, open_data
from .devices import find_devices, seed_all
from .distributed.workers import Workers
from .freezing import Freezer, scale_rates
from .precision import check_dtype, make_loss_scale
from .run_preprocessing import choose_preprocessing
from .schedule import make_schedule
from .sections import DataConfig, ModelConfig, OptimizerConfig
from .state import Meter, TrainState, whole
from .step import TrainStep
from .tasks.registry import find_task


class Run:
    """The parts of a run, which stay the same, and its state, which changes.

    Parameters
    ----------
    config
        The configuration, from whose sections the parts are built.
    workers
        The processes that train together.
    split
        The run's file of images and splits, if it continues with them.

    Attributes
    ----------
    devices
        Devices of this process.
    data, preprocessing
        The data set, and the preprocessing of its images, which checkpoints and exports keep.
    train_loader, test_loader
        This process's share of the batches.
    task
        What is learned.
    net, freezer, train_step, loss_scale, trainer, schedule
        The network, the part of it that is trained, its forward and backward pass, and how it is
        updated.
    state
        Position, running means, times and log.

    Raises
    ------
    ValueError
        If a device doesn't exist, or model, data and configuration don't fit each other.
    OSError
        If the data or a teacher can't be read.
    """

    def __init__(self, config: TrainConfig, workers: Workers, split: Optional[Path] = None) -> None:
        model, runtime = config.model, config.runtime
        self.config, self.workers = config, workers
        self.data = data = open_data(config.data, split=split)
        files = isinstance(data, ImageFiles)
        self.preprocessing = choose_preprocessing(config.data, data.info, files)
        self.devices = find_devices(runtime.gpus)
        check_dtype(runtime.dtype, self.devices)
        task_class = find_task(config.task.name)
        self.net = build_model(
            model.name,
            in_channels=data.info.in_channels,
            memory_efficient=model.memory_efficient,
            **task_class.network_fields(data.info),
            **model.args,
        )
        _check_input_size(config, self.net)
        parts = workers.world_size * len(self.devices) * runtime.accumulate
        _check_last_batch(config.data, data.train_count, parts)
        # Loaders fork their processes, which must happen before MXNet computes anything.
        sources = config.data, data, self.preprocessing, workers
        self.train_loader = make_train_loader(*sources, runtime.seed)
        self.test_loader = make_test_loader(*sources)
        _initialize(self.net, model, self.devices, runtime.seed)
        steps = len(self.train_loader)
        self.schedule = make_schedule(config.schedule, config.optimizer.lr, steps)
        self.trainer = _make_trainer(self.net, config.optimizer, workers)
        head_epochs = config.schedule.head_epochs
        grad_req = "write" if runtime.accumulate == 1 else "add"
        self.freezer = Freezer(self.net, model.freeze, head_epochs, grad_req)
        task_config = balance_classes(config.task, data)
        self.task = task_class(task_config, data.info, self.devices)
        self.train_step = TrainStep(
            self.net, self.task.loss, runtime.accumulate, runtime.dtype, runtime.sync_bn
        )
        self.loss_scale = make_loss_scale(runtime.dtype)
        totals = [metric.total for metric in self.task.train_metrics]
        self.state = TrainState(steps, Meter(totals, workers.all_reduce))

    def end(self) -> Optional[str]:
        """Return the field that ends the run here, ``epochs``, ``max_steps`` or ``patience``."""
        schedule, state = self.config.schedule, self.state
        if state.epoch >= schedule.epochs:
            return "epochs"
        if schedule.max_steps and state.step >= schedule.max_steps:
            return "max_steps"
        if schedule.patience and state.log:
            best = self.task.best.best_row(state.log)["epoch"]
            if state.epoch - max(best, schedule.head_epochs) >= schedule.patience:
                return "patience"
        return None

    @property
    def columns(self) -> list[str]:
        """Columns of the log."""
        metrics = (*self.task.train_metrics, *self.task.test_metrics)
        main = [metric.column for metric in metrics if not metric.detail]
        details = [metric.column for metric in metrics if metric.detail]
        times = ["images_per_s", "epoch_s", "wall_s", "cpu_s"]
        return ["epoch", "step", "lr", *main, *times, *details]


@dataclass(frozen=True)
class RunResult:
    """The end of a run.

    Parameters
    ----------
    out_dir
        The run's folder.
    epoch, step
        Finished epochs and optimizer steps.
    last, best
        Rows of the log: the last epoch and the best one; empty before the first.
    wall_s
        Seconds of training, over all resumes.
    stopped_by
        Number of the signal that ended the run early, or None.
    ended_by
        The field that ended the run: ``"epochs"``, ``"max_steps"`` or ``"patience"``; None if it
        can be resumed as it is.
    """

    out_dir: str
    epoch: int
    step: int
    last: dict[str, float] = field(repr=False)
    best: dict[str, float] = field(repr=False)
    wall_s: float
    stopped_by: Optional[int] = None
    ended_by: Optional[str] = None

    @property
    def test_accuracy(self) -> Optional[float]:
        """Accuracy on the test set after the last epoch."""
        return self.last.get("test_acc")

    @property
    def best_accuracy(self) -> Optional[float]:
        """Accuracy on the test set after the best epoch."""
        return self.best.get("test_acc")

    @property
    def best_epoch(self) -> Optional[float]:
        """Number of the best epoch, from 1; a fraction if ``max_steps`` ended the run there."""
        return whole(self.best["epoch"]) if self.best else None


def _initialize(
    net: gluon.HybridBlock, config: ModelConfig, devices: list[mx.Context], seed: int
) -> None:
    if config.native and devices[0].device_type == "cpu":
        try:
            net.hybridize(backend="native", static_alloc=True, static_shape=True)
        except (CompilerError, OSError, RuntimeError) as error:
            print(f"training with MXNet's own operators, which are slower: {error}", flush=True)
    seed_all(seed)
    net.initialize(mx.init.Xavier() if config.init == "xavier" else None, ctx=devices)


def _make_trainer(
    net: gluon.HybridBlock, config: OptimizerConfig, workers: Workers
) -> gluon.Trainer:
    if config.no_decay_bn:
        for parameter in net.collect_params(".*(gamma|beta|bias)$").values():
            parameter.wd_mult = 0.0
    scale_rates(net, config.layer_decay)
    settings = {"learning_rate": config.lr, "wd": config.wd}
    if config.name == "adamw":
        settings.update(beta1=config.momentum, beta2=config.beta2)
    else:
        settings["momentum"] = config.momentum
    return workers.make_trainer(net.collect_params(), config.name, settings)


def _check_input_size(config: TrainConfig, net: gluon.HybridBlock) -> None:
    height, width = config.data.input_size
    if min(height, width) < net.min_size:
        raise ValueError(
            f"Images of {height}x{width} are too small for {config.model.name}, which needs "
            f"{net.min_size}x{net.min_size}: pass --resize {net.min_size} or more."
        )


def _check_last_batch(config: DataConfig, images: int, parts: int) -> None:
    rest = images % config.batch_size
    if not config.drop_last and 0 < rest < parts:
        raise ValueError(
            f"`batch_size` (={config.batch_size}) leaves {rest} of {images} images for the last "
            f"step, too few for {parts} parts (workers, devices and `accumulate`): "
            "choose another one."
        )
