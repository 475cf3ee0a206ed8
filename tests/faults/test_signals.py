"""SIGTERM and SIGINT at any phase: one line, exit code 128 + N within 10 s, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.commands import (
    COMMANDS,
    COMPILE,
    DOWNLOAD,
    EVALUATE,
    PREDICT,
    RECORDS,
    TRAINING,
    again,
    results,
    resume_or_start,
    run_results,
)
from faults.worker import ALL, OUTSIDE, SIGNAL, SIGNUMS, Fault, longest_ending

START_SECONDS = 3  # of the imports of a command


def check(signum, code, output, seconds) -> None:
    """Check how a command has ended after a signal."""
    lines = [line for line in output.splitlines() if line.startswith("stopped by ")]
    assert code == 128 + signum, (code, output)
    assert len(lines) == 1, output
    assert lines[0].startswith(f"stopped by {signum.name}"), output
    assert "Traceback" not in output
    assert seconds < longest_ending(), output


@pytest.fixture
def signalled(worker, tries, counts):
    """Return a function that sends a command a signal, and returns whether that has stopped it.

    The signal comes at an instant or, as often, just before a call that changes a file.
    """

    def run(name, argv, out, undisturbed):
        signum = tries.rng.choice(SIGNUMS)
        fault = Fault(after=tries.rng.random() * undisturbed.seconds, signum=signum)
        if undisturbed.calls and tries.rng.random() < 0.5:
            fault = Fault(SIGNAL - signum, tries.rng.randint(1, undisturbed.calls), ALL)
        done = worker.run(argv, out, fault)
        if done.code in (0, OUTSIDE):
            return False
        check(signum, done.code, f"{done.stdout}\n{done.stderr}", done.ending)
        counts[f"signals: {name}"] += 1
        return True

    return run


@pytest.mark.faults
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_stopped_command_changes_nothing(
    worker, inputs, started, signalled, tmp_path, tries, command
):
    before, out, undisturbed = started(command)
    after, argv = results(out), command.words(command.argv, inputs, out)
    for _ in tries:
        again(tmp_path, out)
        signalled(command.name, argv, out, undisturbed)
        assert results(out) in (before, after)
        assert not list(out.glob(".*"))
        done = worker.run(argv, out)
        assert (done.code, done.stderr) == (0, "")
        assert results(out) == after


@pytest.mark.faults
@pytest.mark.parametrize("command", [EVALUATE, PREDICT], ids=lambda command: command.name)
def test_a_stopped_command_without_files_can_be_repeated(
    worker, inputs, started, signalled, tries, command
):
    _, out, undisturbed = started(command)
    argv = command.words(command.argv, inputs, out)
    for _ in tries:
        signalled(command.name, argv, out, undisturbed)
        done = worker.run(argv, out)
        assert (done.code, done.stdout) == (0, undisturbed.stdout)


@pytest.mark.faults
@pytest.mark.parametrize("command", [COMPILE, DOWNLOAD, RECORDS], ids=lambda command: command.name)
def test_a_stopped_command_goes_on(worker, inputs, started, signalled, tmp_path, tries, command):
    _, out, undisturbed = started(command)
    after, argv = results(out), command.words(command.argv, inputs, out)
    for _ in tries:
        again(tmp_path, out)
        for _ in range(tries.rng.randint(1, 3)):
            if not signalled(command.name, argv, out, undisturbed):
                break
        done = worker.run(argv, out)
        assert done.code == 0 or "exists already" in done.stderr, done.stderr
        assert results(out) == after


@pytest.mark.faults(share=4)
def test_a_stopped_run_resumes_to_the_same_parameters(
    worker, inputs, started, signalled, tmp_path, tries
):
    _, out, undisturbed = started(TRAINING)
    run = out / "run"
    after, argv = run_results(run), TRAINING.words(TRAINING.argv, inputs, out)
    for _ in tries:
        again(tmp_path, out)
        for _ in range(tries.rng.randint(1, 3)):
            if not signalled("train", resume_or_start(argv, run), out, undisturbed):
                break
        done = worker.run(resume_or_start(argv, run), out)
        assert (done.code, done.stderr) == (0, "")
        assert run_results(run) == after


@pytest.mark.faults(share=2)
def test_a_signal_during_the_imports(inputs, tmp_path, tries, counts, root):
    commands = [PREDICT, TRAINING, COMMANDS[0], RECORDS]

    def start(out):
        argv = command.words(command.argv, inputs, out)
        return subprocess.Popen(
            [sys.executable, "-m", "gluondense", *argv],
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    for number in tries:
        command, out = commands[number % len(commands)], tmp_path / f"{number}"
        with start(out) as process:
            while not catches(process.pid, signal.SIGTERM):
                time.sleep(0.002)
            time.sleep(tries.rng.random() * START_SECONDS)
            signum, began = tries.rng.choice(SIGNUMS), time.monotonic()
            process.send_signal(signum)
            output = "\n".join(process.communicate(timeout=120))
        if process.returncode == -signum:  # after the command, during the exit of Python
            with start(out.with_name("undisturbed")) as process:
                undisturbed = "\n".join(process.communicate(timeout=120))
            assert len(output.splitlines()) == len(undisturbed.splitlines()), output
        elif process.returncode != 0:
            check(signum, process.returncode, output, time.monotonic() - began)
            counts["signals: during imports"] += 1


def catches(pid: int, signum: int) -> bool:
    """Return whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(mask, 16) & 1 << signum - 1)
