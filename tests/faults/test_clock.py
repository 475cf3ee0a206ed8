"""The system clock jumps during a command, which then gives the same results."""

from __future__ import annotations

import csv
import re

import pytest
from faults.commands import COMMANDS, DOWNLOAD, RECORDS, TRAINING, again, results, run_results
from faults.worker import ALL, JUMP, Fault

DAY = 86_400
JUMPS = (-50 * 365 * DAY, -DAY, -7200, 3600, DAY, 20 * 365 * DAY)  # also to before 1980


@pytest.fixture
def jumped(worker, tries, counts):
    """Return a function: how a command ended during which the clock jumped."""

    def run(name, argv, out, undisturbed):
        nth = tries.rng.randint(1, max(undisturbed.calls, 1))
        done = worker.run(argv, out, Fault(JUMP, nth, ALL, jump=tries.rng.choice(JUMPS)))
        assert (done.code, done.stderr) == (0, undisturbed.stderr)
        counts[f"clock jumps: {name}"] += 1
        return done

    return run


@pytest.mark.faults(share=0.5)
@pytest.mark.parametrize(
    "command", [*COMMANDS, DOWNLOAD, RECORDS], ids=lambda command: command.name
)
def test_the_clock_does_not_change_results(
    worker, inputs, started, jumped, tmp_path, tries, command
):
    _, out, undisturbed = started(command)
    after, argv = results(out), command.words(command.argv, inputs, out)
    for _ in tries:
        again(tmp_path, out)
        jumped(command.name, argv, out, undisturbed)
        assert results(out) == after


@pytest.mark.faults(share=2)
def test_the_clock_does_not_change_a_run(worker, inputs, started, jumped, tmp_path, tries):
    """Neither parameters nor durations; the lock and the checkpoints are as always."""
    _, out, undisturbed = started(TRAINING)
    run = out / "run"
    after, argv = run_results(run), TRAINING.words(TRAINING.argv, inputs, out)
    for _ in tries:
        again(tmp_path, out)
        done = jumped("train", argv, out, undisturbed)
        assert run_results(run) == after
        assert not (run / "run.lock").exists()
        with open(run / "log.csv", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for name in ("epoch_s", "wall_s", "cpu_s"):
                    assert 0 < float(row[name]) <= done.seconds + 1, name
        minutes = re.search(r"([\d.]+) min; report", done.stdout)
        assert 0 <= float(minutes[1]) * 60 <= done.seconds + 6
