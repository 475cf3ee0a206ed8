# SPDX-License-Identifier: Apache-2.0
"""The parts of a training run, each built once from its section of the configuration."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import mxnet as mx
from mxnet import gluon

from ..data.loaders.to_input import ToInput
from ..detection.registry import build_network
from ..errors import check
from .config import TrainConfig
from .configuration.sections import DataConfig, OptimizerConfig
from .data import (
    balance_classes,
    describe_weights,
    open_data,
    steps_per_epoch,
)
from .devices import find_devices, seed_all
from .distributed.workers import Workers
from .fine_tuning.cached_features import FeatureLoader, Output, compute_features
from .fine_tuning.freezing import Freezer, scale_rates
from .fine_tuning.pretrained import describe_loaded, find_initial_weights
from .layout_trial import choose_layout
from .native_operator import Evaluated, use_native
from .precision import check_dtype, in_precision, make_loss_scale
from .schedule import make_schedule
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
    to_input
        Copies a batch to the devices and makes the network's input of it there.
    task
        What is learned.
    net, model, evaluated, freezer, train_step, loss_scale, trainer, schedule
        The network, the block that gets the loaders' batches (the network, a part of it that the
        task trains, or its output with cached features), the block that is evaluated, the
        parameters that are trained, forward and backward pass, and how the network is updated.
    pretrained
        What was loaded before training, see :func:`.pretrained.load_initial_weights`; or None.
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
        self.devices = find_devices(runtime.gpus)
        check_dtype(runtime.dtype, self.devices)
        self.data = data = open_data(config.data, split=split)
        task_class = find_task(config.task.name)
        self.preprocessing = task_class.preprocessing(config, data)
        make_net = functools.partial(
            build_network,
            model.name,
            in_channels=data.info.in_channels,
            memory_efficient=model.memory_efficient,
            **task_class.network_fields(config, data),
            **model.args,
        )
        self.net = make_net()
        _check_input_size(config, self.net)
        parts = workers.world_size * len(self.devices) * runtime.accumulate
        _check_last_batch(config.data, data.train_count, parts)
        # Loaders fork their processes, which must happen before MXNet computes anything.
        sources = config, data, self.preprocessing, workers
        self.train_loader = task_class.train_loader(*sources)
        self.test_loader = task_class.test_loader(*sources)
        self.to_input = ToInput(self.preprocessing.mean, self.preprocessing.std)
        layout = choose_layout(config, make_net, self.net.spec, self.devices, workers)
        if layout != self.net.spec.layout:
            self.net.spec = replace(self.net.spec, layout=layout)
        # The block that gets the batches of the loaders: the network, or a part of it.
        self.model: gluon.HybridBlock = task_class.trained_block(self.net)
        native = use_native(self.model, model, self.devices, runtime.dtype)
        seed_all(runtime.seed)
        initializer = mx.init.Xavier() if model.init == "xavier" else None
        self.net.initialize(initializer, ctx=self.devices)
        steps = steps_per_epoch(config.data, data.train_count)
        self.schedule = make_schedule(config.schedule, config.optimizer.lr, steps)
        self.trainer = _make_trainer(self.net, config.optimizer, workers)
        head_epochs = config.schedule.head_epochs
        grad_req = "write" if runtime.accumulate == 1 else "add"
        frozen = (*model.freeze, "features") if config.data.cache_features else model.freeze
        self.freezer = Freezer(
            self.net, frozen, head_epochs, grad_req, self.model, task_class.is_output
        )
        task_config = balance_classes(config.task, data)
        if task_config != config.task and workers.is_rank_zero:
            print(describe_weights(task_config, data.info), flush=True)
        self.task = task_class(task_config, data.info, self.devices)
        self.task.attach(self.net)
        evaluated = self.net
        if config.data.cache_features:
            self.model = evaluated = Output(self.net)
            self.model.hybridize(static_alloc=True, static_shape=True)
        # On GPUs, the test set is evaluated in the precision of training. On CPUs, float32 is as
        # fast, and what exports compute in. Boxes that are decoded in float16 would be imprecise.
        low = runtime.dtype == "float16" and evaluated is self.model
        precision = "float16" if low else "float32"
        native = native and evaluated is self.net and len(self.devices) == 1
        self.evaluated = Evaluated(in_precision(evaluated, precision), native)
        self.train_step = TrainStep(
            self.model, self.task.loss, runtime.accumulate, runtime.dtype, runtime.sync_bn
        )
        self.pretrained: Optional[dict[str, Any]] = None
        self.loss_scale = make_loss_scale(runtime.dtype)
        totals = [metric.total for metric in self.task.train_metrics]
        self.state = TrainState(steps, Meter(totals, workers.all_reduce))

    def load_initial_weights(self) -> None:
        """Load the weights that ``pretrained`` names, if any, and say so."""
        weights = find_initial_weights(self.config.model)
        if weights is None:
            return
        info = self.data.info
        self.pretrained = self.task.load_initial_weights(self.net, weights, info, self.devices)
        if self.workers.is_rank_zero:
            loaded = describe_loaded(self.pretrained, len(info.class_names))
            print(f"weights: {loaded}", flush=True)
            print(f"preprocessing: {self.preprocessing.describe()}", flush=True)
            if weights.preprocessing is None:
                print("preprocessing: that of the weights is unknown", flush=True)

    def cache_features(self) -> None:
        """Compute the features of all images, which the loaders then yield; if configured."""
        data, size = self.config.data, self.config.data.batch_size
        if not data.cache_features:
            return
        began = time.perf_counter()
        options = self.to_input, self.devices[0]
        train = compute_features(self.net, self.train_loader, *options, repair=True)
        test = compute_features(self.net, self.test_loader, *options, repair=False)
        last = "discard" if data.drop_last else "keep"
        seed = self.config.runtime.seed
        self.train_loader = FeatureLoader(*train, size, shuffle=True, seed=seed, last=last)
        self.test_loader = FeatureLoader(*test, size)
        count, seconds = len(train[0]) + len(test[0]), time.perf_counter() - began
        print(f"features of {count:,} images computed in {seconds:.0f} s", flush=True)

    def end(self) -> Optional[str]:
        """Return the field that ends the run here, ``epochs``, ``max_steps`` or ``patience``."""
        state = self.state
        best = self.task.best.best_row(state.log).get("epoch")
        return self.config.schedule.end(state.epoch, state.step, best)

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


def _make_trainer(
    net: gluon.HybridBlock, config: OptimizerConfig, workers: Workers
) -> gluon.Trainer:
    if config.no_decay_bn:
        for parameter in net.collect_params(".*(gamma|beta|bias)$").values():
            parameter.wd_mult = 0.0
    if config.layer_decay != 1:
        scale_rates(net, config.layer_decay)
    settings = {"learning_rate": config.lr, "wd": config.wd}
    if config.name == "adamw":
        settings.update(beta1=config.momentum, beta2=config.beta2)
    else:
        settings["momentum"] = config.momentum
    return workers.make_trainer(net.collect_params(), config.name, settings)


def _check_input_size(config: TrainConfig, net: gluon.HybridBlock) -> None:
    for side in config.data.train_sizes:
        rule = f"at least {net.min_size}, the smallest image of {config.model.name}"
        check("train_sizes", side, rule, side >= net.min_size)
    height, width = config.data.input_size
    if min(height, width) < net.min_size:
        raise ValueError(
            f"Images of {height}x{width} are too small for {config.model.name}, which needs "
            f"{net.min_size}x{net.min_size}: set `resize` to {net.min_size} or more."
        )


def _check_last_batch(config: DataConfig, images: int, parts: int) -> None:
    rest = images % config.batch_size
    if not config.drop_last and 0 < rest < parts:
        raise ValueError(
            f"`batch_size` (={config.batch_size}) leaves {rest} of {images} images for the last "
            f"step, too few for {parts} parts (workers, devices and `accumulate`): "
            "choose another one."
        )
