"""Every write, creation, rename and flush of a command fails once, or all of them from one on."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from faults.commands import (
    COMMANDS,
    CONTENT,
    DOWNLOAD,
    RECORDS,
    TRAINING,
    again,
    results,
    resume_or_start,
    run_results,
)
from faults.worker import ALL, CREATE, RENAME, SHORT, SYNC, WRITE, Fault

FAULTS = {
    "full disk": Fault(errno.ENOSPC, classes=WRITE | CREATE, sticky=True),
    "ENOSPC": Fault(errno.ENOSPC, classes=ALL),
    "EIO": Fault(errno.EIO, classes=WRITE | RENAME | SYNC),
    "EACCES": Fault(errno.EACCES, classes=CREATE | RENAME),
    "short write": Fault(SHORT, classes=WRITE),
}


@pytest.fixture
def faults(worker, tmp_path, tries, counts):
    """Return a function: a command's end with each fault at each call, from the same files.

    It tries as many as there is time for, spread over all.
    """

    def run(name, argv, out):
        places = []
        for kind, fault in FAULTS.items():
            again(tmp_path, out)
            counted = worker.run(argv, out, Fault(fault.kind, 0, fault.classes))
            assert counted.code == 0, counted.stderr
            places += [(kind, nth) for nth in range(1, counted.calls + 1)]
        tries.rng.shuffle(places)
        for tried, (kind, nth) in enumerate(places):
            if tried >= 2 and tries.over:
                return
            again(tmp_path, out)
            done = worker.run(argv, out, replace(FAULTS[kind], nth=nth))
            counts[f"failed writes: {name}"] += 1
            yield f"{kind} at {nth}", done

    return run


def check_line(done, label):
    """Check that a command has failed with one line."""
    errors = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert done.code == 2, (label, done)
    assert len(errors) == 1, (label, done.stderr)
    assert errors[0].startswith("error: "), (label, done.stderr)


@pytest.mark.faults
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_whose_write_fails_changes_nothing(worker, inputs, started, faults, command):
    before, out, _ = started(command)
    after, argv = results(out), command.words(command.argv, inputs, out)
    for label, done in faults(command.name, argv, out):
        if done.code == 0:
            assert results(out) == after, label
            continue
        check_line(done, label)
        assert results(out) == before, label
        assert not list(out.glob(".*")), label
        done = worker.run(argv, out)
        assert (done.code, done.stderr) == (0, ""), label
        assert results(out) == after, label


@pytest.mark.faults(share=2)
def test_make_recordio_whose_write_fails_goes_on(worker, inputs, started, faults):
    _, out, _ = started(RECORDS)
    after, argv = results(out), RECORDS.words(RECORDS.argv, inputs, out)
    for label, done in faults("make-recordio", argv, out):
        if done.code:
            check_line(done, label)
            done = worker.run(argv, out)
            assert done.code == 0 or "exists already" in done.stderr, (label, done.stderr)
        assert results(out) == after, label


@pytest.mark.faults
def test_a_download_whose_write_fails_goes_on(worker, inputs, started, faults):
    _, out, _ = started(DOWNLOAD)
    after, argv = results(out), DOWNLOAD.words(DOWNLOAD.argv, inputs, out)
    for label, done in faults("download", argv, out):
        if done.code:
            check_line(done, label)
            for path in out.iterdir():
                assert path.name == "file.part", label
                assert CONTENT.startswith(path.read_bytes()), label
            done = worker.run(argv, out)
            assert (done.code, done.stderr) == (0, ""), label
        assert results(out) == after, label


@pytest.mark.faults(share=6)
def test_a_run_whose_write_fails_can_be_resumed(worker, inputs, started, faults):
    _, out, _ = started(TRAINING)
    run = out / "run"
    after, argv = run_results(run), TRAINING.words(TRAINING.argv, inputs, out)
    for label, done in faults("train", argv, out):
        if done.code:
            check_line(done, label)
            done = worker.run(resume_or_start(argv, run), out)
            assert (done.code, done.stderr) == (0, ""), label
        assert run_results(run) == after, label
