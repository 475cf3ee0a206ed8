from __future__ import annotations

import numpy as np
import pytest

from gluondense.environment.process import import_gluoncv
from gluondense.training.configuration.sections import ScheduleConfig
from gluondense.training.schedule import make_schedule


def rates(steps_per_epoch=10, **fields):
    config = ScheduleConfig(**{"epochs": 4, **fields})
    schedule = make_schedule(config, 0.4, steps_per_epoch)
    return np.array([schedule(step) for step in range(config.epochs * steps_per_epoch)])


def test_cosine_starts_at_the_rate_falls_and_ends_at_zero():
    rate = rates()
    assert (rate[0], rate[-1]) == (0.4, pytest.approx(0))
    assert (np.diff(rate) < 0).all()


def test_warmup_rises_linearly_to_the_rate():
    rate = rates(warmup_epochs=1)
    np.testing.assert_allclose(rate[:10], 0.4 * np.arange(1, 11) / 10)
    assert (np.diff(rate[10:]) < 0).all()
    assert rate[10] == 0.4


def test_steps_are_fractions_of_the_whole_run():
    rate = rates(name="step", lr_steps=(0.5, 0.75), warmup_epochs=1)
    assert rate[[10, 19, 20, 29, 30, 39]] == pytest.approx([0.4, 0.4, 0.04, 0.04, 0.004, 0.004])


def test_constant():
    assert set(rates(name="constant")) == {0.4}


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
@pytest.mark.parametrize("warmup", [0, 1, 2])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_shortest_phases_are_finite(schedule, warmup, epochs):
    if warmup <= epochs:
        rate = rates(1, name=schedule, warmup_epochs=warmup, epochs=epochs)
        assert np.isfinite(rate).all()
        assert rate.max() <= 0.4
        assert rate[0] > 0


@pytest.mark.parametrize("mode", ["step", "poly", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 5])
def test_schedules_are_those_of_gluoncvs_script(mode, warmup):
    scheduler = import_gluoncv().utils.lr_scheduler
    batches, epochs, drops = 20, 90, (30, 60)
    # scripts/classification/imagenet/train_imagenet.py, with its names.
    theirs = scheduler.LRSequential(
        [
            scheduler.LRScheduler(
                "linear", base_lr=0, target_lr=0.1, nepochs=warmup, iters_per_epoch=batches
            ),
            scheduler.LRScheduler(
                mode,
                base_lr=0.1,
                target_lr=0,
                nepochs=epochs - warmup,
                iters_per_epoch=batches,
                step_epoch=[epoch - warmup for epoch in drops],
                step_factor=0.1,
                power=2,
            ),
        ]
    )
    config = ScheduleConfig(
        epochs=epochs,
        name=mode,
        lr_steps=tuple(drop / epochs for drop in drops),
        warmup_epochs=warmup,
        warmup_lr=0.0,
    )
    ours = make_schedule(config, 0.1, batches)
    for step in range(epochs * batches):
        assert ours(step) == pytest.approx(theirs(step), rel=1e-12), step
