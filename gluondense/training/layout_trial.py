# SPDX-License-Identifier: Apache-2.0
"""A short trial of the memory layouts in which a GPU can train a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import mxnet as mx
from mxnet import gluon

from ..graph.channels_last import LAYOUTS
from ..models.network import Network
from ..models.spec import NetworkSpec
from .config import TrainConfig
from .distributed.workers import Workers
from .step import TrainStep

_WARM_UP, _TIMED = 3, 5  # steps; cuDNN chooses its kernels in the first one


def step_seconds(
    make_net: Callable[[], Network],
    shape: tuple[int, ...],
    device: mx.Context,
    accumulate: int = 1,
    dtype: str = "float16",
) -> dict[str, float]:
    """Return the seconds of a training step in each layout.

    Parameters
    ----------
    make_net
        Makes the network; it is freed after the trial, so the run's own parameters, statistics and
        random streams stay as they are.
    shape
        Shape of the device's batch, (N, C, H, W).
    device
        The GPU.
    accumulate, dtype
        As in :class:`.step.TrainStep`.
    """
    seconds: dict[str, float] = {}
    for layout in LAYOUTS:
        net = make_net()
        net.spec = replace(net.spec, layout=layout)
        net.initialize(ctx=device)
        loss = gluon.loss.SoftmaxCrossEntropyLoss()
        step = TrainStep(net, loss, accumulate, dtype)
        images, labels = mx.nd.zeros(shape, device), mx.nd.zeros(shape[0], device)
        for _ in range(_WARM_UP):
            step(images, labels)
        mx.nd.waitall()
        began = time.perf_counter()
        for _ in range(_TIMED):
            step(images, labels)
        mx.nd.waitall()
        seconds[layout] = (time.perf_counter() - began) / _TIMED
    return seconds


def choose_layout(
    config: TrainConfig,
    make_net: Callable[[], Network],
    spec: NetworkSpec,
    devices: Sequence[mx.Context],
    workers: Workers,
) -> str:
    """Return the layout that trains faster in float16 on the first GPU, and print the times.

    It is the spec's, without a trial, for other dtypes, where the configuration names the layout,
    for networks with only one, for cached features, and for synchronized batch normalization, which
    MXNet has in NCHW only.
    """
    runtime, data = config.runtime, config.data
    has_layouts = any(field.name == "layout" for field in fields(spec))
    given = "layout" in config.model.args or not has_layouts or data.cache_features
    if runtime.dtype != "float16" or given or (runtime.sync_bn and len(devices) > 1):
        return spec.layout
    count = -(-data.batch_size // (workers.world_size * len(devices)))
    shape = (count, spec.in_channels, *data.input_size)
    seconds = step_seconds(make_net, shape, devices[0], runtime.accumulate, runtime.dtype)
    chosen = min(seconds, key=seconds.__getitem__)
    if workers.is_rank_zero:
        times = ", ".join(f"{layout} {1000 * time:.1f} ms" for layout, time in seconds.items())
        print(f"layout: {chosen}; a step of {count} images takes: {times}", flush=True)
    return chosen
