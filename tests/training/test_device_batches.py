from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.training_tiny import TINY

from gluondense.data.loaders import to_input as module
from gluondense.data.loaders.to_input import DeviceCopy, ToInput
from gluondense.training import run as run_module
from gluondense.training.device_batches import batches_ahead
from gluondense.training.distributed.workers import Workers
from gluondense.training.run import Run

CONFIG = TINY.with_fields(batch_size=39, mixup=0.4)


class CountedCopy(DeviceCopy):
    """Records the dtype, number of images and device of each copy."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __call__(self, array, device):
        self.seen.append((str(array.dtype), len(array), device))
        return super().__call__(array, device)


def make_run(monkeypatch, config, count=2):
    devices = [mx.cpu(number) for number in range(count)]
    monkeypatch.setattr(run_module, "find_devices", lambda gpus: devices)
    run = Run(config, Workers())
    run.to_input = ToInput(run.preprocessing.mean, run.preprocessing.std, CountedCopy())
    return run


@pytest.mark.parametrize("as_gpu", [False, True])
def test_each_device_gets_its_part_straight_from_the_host(monkeypatch, as_gpu):
    """With the path of a GPU, the images are copied as bytes, those of the partners too."""
    if as_gpu:
        monkeypatch.setattr(
            ToInput,
            "__call__",
            lambda self, images, device: module.input_on_device(
                images, self._mean, self._std, device, self.copy
            ),
        )
    run = make_run(monkeypatch, CONFIG)
    batch = next(batches_ahead(run))
    copies = run.to_input.copy.seen
    dtype = "uint8" if as_gpu else "float32"
    step = [
        *((dtype, size, mx.cpu(device)) for _ in range(2) for device, size in ((0, 20), (1, 19))),
        *(("float32", size, mx.cpu(device)) for device, size in ((0, 20), (1, 19))),  # targets
    ]
    assert copies == step * 2  # this batch, and the next one
    assert [x.context for x in batch.images + batch.targets] == [mx.cpu(0), mx.cpu(1)] * 2
    assert [x.shape for x in batch.images] == [(20, 3, 8, 8), (19, 3, 8, 8)]

    pixels, labels = next(run.train_loader.batches(0))
    assert pixels.dtype == np.uint8
    rng = np.random.default_rng(batch.key)
    mix, targets = run.task.targets(pixels, labels, rng, CONFIG.schedule.epochs)
    inputs = run.preprocessing.normalize(pixels)
    expected = mix.images(inputs, inputs[mix.partners])
    np.testing.assert_array_equal(np.concatenate([x.asnumpy() for x in batch.images]), expected)
    np.testing.assert_array_equal(np.concatenate([y.asnumpy() for y in batch.targets]), targets)


def test_all_batches_come_in_order_each_with_the_key_of_its_step(monkeypatch):
    run = make_run(monkeypatch, TINY.with_fields(augment=()), count=1)
    run.state.batch = 2
    batches = list(batches_ahead(run))
    assert [batch.key[:3] for batch in batches] == [(0, 0, index) for index in range(2, 5)]
    for batch, (pixels, _) in zip(batches, run.train_loader.batches(0, start=2)):
        expected = run.preprocessing.normalize(pixels)
        np.testing.assert_array_equal(batch.images[0].asnumpy(), expected)
        assert batch.size == 40
    run.state.batch = 5
    assert list(batches_ahead(run)) == []
