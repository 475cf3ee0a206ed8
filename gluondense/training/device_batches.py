# SPDX-License-Identifier: Apache-2.0
"""Training batches on the devices, copied one batch ahead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from mxnet import gluon
from mxnet.ndarray import NDArray

from .run import Run


class DeviceBatch(NamedTuple):
    """A batch on the devices of this process.

    Attributes
    ----------
    images, targets
        The network's input and the targets, float32, one array for each device.
    size
        Number of images.
    key
        Key of the random streams of the step.
    """

    images: list[NDArray]
    targets: list[NDArray]
    size: int
    key: tuple[int, ...]


def batches_ahead(run: Run) -> Iterator[DeviceBatch]:
    """Yield the rest of the epoch's batches; the next one is copied before a batch is yielded.

    So its copies and normalization are queued before the step that the loop runs meanwhile, also
    where that step waits for the device, as float16's check of the gradients does.
    """
    state, ahead = run.state, None
    start = state.batch
    for index, batch in enumerate(run.train_loader.batches(state.epoch, start), start):
        following = _copy(run, index, *batch)
        if ahead is not None:
            yield ahead
        ahead = following
    if ahead is not None:
        yield ahead


def _copy(run: Run, index: int, images: np.ndarray, labels: np.ndarray) -> DeviceBatch:
    """Copy each device's part to it, straight from the host, and make its input there."""
    state, config, devices = run.state, run.config, run.devices
    key = (config.runtime.seed, state.epoch, index, *run.workers.rng_key)
    epochs_left = config.schedule.epochs - state.epoch
    mix, targets = run.task.targets(images, labels, np.random.default_rng(key), epochs_left)

    def split(array: np.ndarray) -> list[np.ndarray]:
        return gluon.utils.split_data(array, len(devices), even_split=False)

    inputs = [run.to_input(*part) for part in zip(split(images), devices)]
    if mix is not None:
        partners = [run.to_input(*part) for part in zip(split(images[mix.partners]), devices)]
        inputs = [mix.images(*pair) for pair in zip(inputs, partners)]
    parts = split(np.asarray(targets, np.float32))
    copies = [run.to_input.copy(*part) for part in zip(parts, devices)]
    return DeviceBatch(inputs, copies, len(images), key)
