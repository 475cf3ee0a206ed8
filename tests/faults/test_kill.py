"""SIGKILL at random instants; then the same command again gives what an undisturbed one gives."""

from __future__ import annotations

import signal

import pytest
from faults.commands import (
    COMMANDS,
    COMPILE,
    CONTENT,
    DOWNLOAD,
    RECORDS,
    TRAINING,
    again,
    results,
    resume_or_start,
    run_results,
)
from faults.worker import ALL, KILL, Fault


def random_kill(rng, undisturbed) -> Fault:
    """Kill at an instant or, as often, just before a call that changes a file."""
    if rng.random() < 0.5:
        return Fault(after=rng.random() * undisturbed.seconds)
    return Fault(KILL, rng.randint(1, undisturbed.calls), ALL)


@pytest.mark.faults
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_killed_command_loses_nothing(worker, inputs, started, tmp_path, tries, counts, command):
    before, out, undisturbed = started(command)
    after, argv = results(out), command.words(command.argv, inputs, out)
    assert before.keys() == after.keys()
    assert before != after
    for _ in tries:
        again(tmp_path, out)
        done = worker.run(argv, out, random_kill(tries.rng, undisturbed))
        assert done.code in (0, -signal.SIGKILL), done.stderr
        counts[f"kills survived: {command.name}"] += done.code != 0
        found = results(out)
        if found not in (before, after):  # between the renames of an export's files
            assert command.name.startswith("export")
            assert all(found[name] in (before[name], after[name]) for name in before)
            kept = {path.name: path for path in out.glob(".*/old-*")}
            assert {name[len("old-") :] for name in kept} >= before.keys()
            refused = worker.run(["archive", out / "net", tmp_path / "net.zip"], tmp_path)
            assert refused.code == 2, "a mixture of two exports was accepted"
        done = worker.run(argv, out)
        assert (done.code, done.stderr) == (0, "")
        assert results(out) == after


@pytest.mark.faults(share=2)
def test_a_killed_make_recordio_goes_on(worker, inputs, started, tmp_path, tries, counts):
    _, out, undisturbed = started(RECORDS)
    after, argv = results(out), RECORDS.words(RECORDS.argv, inputs, out)
    for _ in tries:
        again(tmp_path, out)
        for _ in range(tries.rng.randint(1, 3)):
            done = worker.run(argv, out, random_kill(tries.rng, undisturbed))
            counts["kills survived: make-recordio"] += done.code != 0
            if done.code == 0:
                break
            assert done.code == -signal.SIGKILL or "exists already" in done.stderr, done.stderr
        done = worker.run(argv, out)
        assert done.code == 0 or "exists already" in done.stderr, done.stderr
        assert results(out) == after


@pytest.mark.faults
def test_a_killed_download_goes_on(worker, inputs, files, started, tmp_path, tries, counts):
    _, out, undisturbed = started(DOWNLOAD)
    after, argv = results(out), DOWNLOAD.words(DOWNLOAD.argv, inputs, out)
    assert (out / "file").read_bytes() == CONTENT
    part = out / "file.part"
    for _ in tries:
        again(tmp_path, out)
        for _ in range(tries.rng.randint(1, 3)):
            done = worker.run(argv, out, random_kill(tries.rng, undisturbed))
            assert done.code in (0, -signal.SIGKILL), done.stderr
            counts["kills survived: download"] += done.code != 0
            assert set(results(out)) <= {"file", "file.part"}
        size, requests = part.stat().st_size if part.exists() else 0, len(files.requests)
        if size:
            assert CONTENT.startswith(part.read_bytes())
        done = worker.run(argv, out)
        assert (done.code, done.stderr) == (0, "")
        assert results(out) == after
        if 0 < size < len(CONTENT):
            assert files.ranges[requests:] == [f"bytes={size}-"]


@pytest.mark.faults
def test_a_killed_compilation_starts_again(
    worker, inputs, native_operator, started, tmp_path, tries, counts
):
    _, out, undisturbed = started(COMPILE)
    after, argv = results(out), COMPILE.words(COMPILE.argv, inputs, out)
    (library,) = out.glob("*.so")
    assert library.read_bytes() == native_operator.read_bytes()
    for _ in tries:
        again(tmp_path, out)
        done = worker.run(argv, out, random_kill(tries.rng, undisturbed))
        assert done.code in (0, -signal.SIGKILL), done.stderr
        counts["kills survived: compilation"] += done.code != 0
        done = worker.run(argv, out)
        assert done.code == 0, done.stderr
        assert results(out) == after


@pytest.mark.faults(share=6)
def test_a_killed_run_resumes_to_the_same_parameters(
    worker, inputs, started, tmp_path, tries, counts
):
    _, out, undisturbed = started(TRAINING)
    run = out / "run"
    after, argv = run_results(run), TRAINING.words(TRAINING.argv, inputs, out)
    for _ in tries:
        again(tmp_path, out)
        for _ in range(tries.rng.randint(1, 3)):
            words = resume_or_start(argv, run)
            done = worker.run(words, out, random_kill(tries.rng, undisturbed))
            assert done.code in (0, -signal.SIGKILL), done.stderr
            counts["kills survived: train"] += done.code != 0
        done = worker.run(resume_or_start(argv, run), out)
        assert (done.code, done.stderr) == (0, "")
        assert run_results(run) == after
