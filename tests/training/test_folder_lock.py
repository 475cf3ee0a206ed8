"""One process at a time in a run's folder."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from support.training_tiny import TINY

from gluondense.commands.train.fashion_mnist import main
from gluondense.training import fit
from gluondense.training.folder_lock import NAME, locked

HOLD = """
import sys, time
from pathlib import Path
from gluondense.training.folder_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of a folder."""
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield folder, process
        process.kill()


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_says_who_holds_the_folder(holder, resume):
    folder, process = holder
    message = (
        f"{folder} is in use by process {process.pid} on {socket.gethostname()} since "
        r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}: wait until it ends, or give another"
    )
    with pytest.raises(BlockingIOError, match=message):
        fit(TINY, folder, resume=resume, progress=False)


def test_a_second_command_gets_one_line(holder, capsys):
    folder, process = holder
    assert main(["--dataset", "synthetic", "--out", str(folder), "--no-progress"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder} is in use by process {process.pid} on ")
    assert error.endswith("give another --out.\n")
    assert error.count("\n") == 1


def test_a_killed_process_holds_nothing(holder):
    folder, process = holder
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / NAME).exists()
    with locked(folder):
        assert f"process {os.getpid()} on " in (folder / NAME).read_text()


def test_a_forked_process_does_not_keep_the_lock(tmp_path):
    with locked(tmp_path):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
    try:
        with locked(tmp_path):
            pass
    finally:
        child.kill()
        child.join()


def test_two_runs_of_one_process_do_not_share_a_folder(tmp_path):
    with locked(tmp_path), pytest.raises(BlockingIOError, match="is in use by process"):
        fit(TINY, tmp_path, progress=False)


def test_the_lock_leaves_nothing_behind(tmp_path):
    with locked(tmp_path / "new"):
        assert (tmp_path / "new" / NAME).exists()
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with locked(tmp_path / "old"):
        pass
    assert list((tmp_path / "old").iterdir()) == []


def test_a_holder_that_ends_between_open_and_lock_is_no_problem(tmp_path, monkeypatch):
    lock, opened = fcntl.flock, []

    def remove_first(descriptor, operation):
        if not opened:
            (tmp_path / NAME).unlink()
        opened.append(descriptor)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with locked(tmp_path):
        assert len(opened) == 2
        with pytest.raises(BlockingIOError), locked(tmp_path):
            pass


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with locked(tmp_path):
        pass
    assert re.search(r"^warning: .* has no locks \(No locks available\)", capsys.readouterr().err)
