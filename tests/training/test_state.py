from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from gluondense.training.state import Meter, TrainState

NAMES = ("loss_sum", "hits")


def test_meter_counts_all_devices_and_steps():
    meter = Meter(NAMES)
    for step in range(1, 6):
        meter.add(step, 4, [mx.nd.array([3, 1])] * 2)
    meter.sync()
    assert (meter.means(), meter.images) == ([1.5, 0.5], 20)
    assert meter.sums == {"loss_sum": 30, "hits": 10}


def test_meter_adds_up_all_workers():
    meter = Meter(NAMES, lambda values: [2 * value for value in values])
    meter.add(1, 4, [mx.nd.array([3, 1])])
    meter.sync()
    assert (meter.means(), meter.images) == ([0.75, 0.25], 8)


def test_meter_names_the_first_step_that_is_not_finite():
    meter = Meter(NAMES)
    for step, loss in enumerate([1.0, 1.0, np.nan, np.nan], start=1):
        meter.add(step, 1, [mx.nd.array([loss, 1])])
    with pytest.raises(FloatingPointError, match="became nan at step 3"):
        meter.sync()
    assert (meter.images, meter.means()[0]) == (2, 1.0)


def test_state_continues_where_it_was_saved():
    state = TrainState(5, Meter(NAMES))
    state.epoch, state.batch = 1, 2
    state.meter.add(7, 4, [mx.nd.array([3, 1])])
    state.sync()
    other = TrainState(5, Meter(NAMES))
    other.restore(1, state.progress())
    assert (other.step, other.meter.sums, other.meter.images) == (7, state.meter.sums, 4)
    assert other.progress() == state.progress()
    other.finish_epoch()
    assert (other.step, other.meter.images, other.train_s, other.log) == (10, 0, 0, [])
    assert other.wall_s == state.wall_s > 0
