"""Results of runs, from their configurations and logs."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.training_tiny import TINY

from gluondense.analysis.costs import summary
from gluondense.experiment.page import _curves
from gluondense.experiment.plan import PlannedRun
from gluondense.experiment.results import Group, Result


def result(accuracies, seed=1, **fields):
    log = [
        {"epoch": float(n), "step": 10.0 * n, "test_acc": acc, "wall_s": 1.0}
        for n, acc in enumerate(accuracies, start=1)
    ]
    run = PlannedRun("a", seed, ("cifar",))
    return Result(run, Path(run.folder), TINY.with_fields(epochs=9, **fields), log)


@pytest.mark.parametrize(
    ("epochs", "fields", "complete"),
    [
        (8, {}, False),
        (9, {}, True),
        (3, {"max_steps": 30}, True),
        (2, {"max_steps": 30}, False),
        (5, {"patience": 2}, False),
        (6, {"patience": 2}, True),  # the best epoch is the fourth
        (6, {"patience": 2, "head_epochs": 5}, False),
    ],
)
def test_a_run_is_complete_where_training_ends_it(epochs, fields, complete):
    accuracies = [0.1, 0.2, 0.3, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert result(accuracies[:epochs], **fields).is_complete == complete


def test_curves_of_runs_that_patience_ended_at_different_epochs():
    runs = [result([0.25, 0.5], 1, patience=1), result([0.5, 0.75, 0.25], 2, patience=1)]
    group = Group("a", tuple(runs), summary("densenet_tutorial"), ())
    band, mean = _curves([group]).data
    assert list(mean.x) == [1, 2, 3]
    assert list(mean.y) == [0.375, 0.625, 0.25]
    assert list(band.y) == [0.5, 0.75, 0.25, 0.25, 0.5, 0.25]
