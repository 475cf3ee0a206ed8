"""Signals that end a command."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from gluondense.commands.interruption import interruptible
from gluondense.commands.output import call


@pytest.fixture(autouse=True)
def unraisable_hook(monkeypatch):
    """Restore the hook, which a process that a signal ends does not need again."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)
    time.sleep(60)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_with_one_line(capsys, signum):
    before = signal.getsignal(signum)
    assert interruptible(lambda: send(signum)) == 128 + signum
    name = signal.Signals(signum).name
    assert capsys.readouterr().err == f"stopped by {name}; run the same command again\n"
    assert signal.getsignal(signum) == before


def test_a_command_can_say_how_to_go_on(capsys):
    def run():
        raise KeyboardInterrupt(signal.SIGTERM, "continue with: x")

    assert interruptible(run) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM; continue with: x\n"


class Lost:
    """Gets a signal in its destructor, which can't raise."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.001)


@pytest.mark.parametrize("nested", [False, True])
def test_a_signal_during_a_destructor_is_not_lost(capsys, nested):
    def run():
        item = Lost()
        del item
        time.sleep(60)

    began = time.monotonic()
    assert interruptible((lambda: interruptible(run)) if nested else run) == 143
    assert time.monotonic() - began < 10
    assert capsys.readouterr().err == "stopped by SIGTERM; run the same command again\n"


class Incomplete:
    """Gets a signal in its constructor, as MXNet's symbols may, which then lack their handle."""

    def __init__(self):
        send(signal.SIGINT)
        self.handle = 1

    def __del__(self):
        assert self.handle


@pytest.mark.parametrize("nested", [False, True])
def test_the_destructor_of_an_incomplete_object_prints_nothing(capsys, nested):
    kept = []

    def run():
        kept.append(object.__new__(Incomplete))
        kept[0].__init__()

    assert interruptible((lambda: interruptible(Incomplete)) if nested else Incomplete) == 130
    assert interruptible((lambda: interruptible(run)) if nested else run) == 130
    kept.clear()  # as late as at exit
    line = "stopped by SIGINT; run the same command again\n"
    assert capsys.readouterr().err == 2 * line


@pytest.mark.parametrize("hide", [False, True])
def test_a_signal_that_another_exception_replaced_is_not_lost(capsys, hide):
    def run(_):
        try:
            send(signal.SIGTERM)
        except BaseException as error:
            raise ValueError("a file that is being written") from (None if hide else error)

    assert call(run, argparse.Namespace()) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM; run the same command again\n"


def test_a_signal_during_an_import_ends_the_command_after_it(capsys, tmp_path, monkeypatch):
    """Modules in C, such as those with pybind11, replace the exception or print it."""
    monkeypatch.syspath_prepend(tmp_path)
    text = "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(0.2)\nend = 1"
    (tmp_path / "slow_import.py").write_text(text)
    ends = []

    def run(_):
        import slow_import

        ends.append(slow_import.end)
        time.sleep(60)

    began = time.monotonic()
    assert call(run, argparse.Namespace()) == 143
    assert time.monotonic() - began < 10
    assert ends == [1]
    assert capsys.readouterr().err == "stopped by SIGTERM; run the same command again\n"


def test_an_import_that_does_not_end_is_interrupted(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("gluondense.commands.interruption.IMPORT_SECONDS", 0.2)
    monkeypatch.syspath_prepend(tmp_path)
    text = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)"
    (tmp_path / "endless_import.py").write_text(text)
    assert interruptible(lambda: __import__("endless_import")) == 130
    assert capsys.readouterr().err == "stopped by SIGINT; run the same command again\n"


def test_other_errors_of_destructors_are_still_shown(capsys):
    class Bad:
        def __del__(self):
            raise ValueError("a bad destructor")

    def run():
        item = Bad()
        del item
        return 3

    with pytest.MonkeyPatch.context() as patch:
        seen = []
        patch.setattr(sys, "unraisablehook", lambda lost: seen.append(str(lost.exc_value)))
        assert interruptible(run) == 3
    assert seen == ["a bad destructor"]


def test_an_ignored_signal_stays_ignored():
    """As in jobs that a shell without job control starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert interruptible(lambda: os.kill(os.getpid(), signal.SIGINT) or 5) == 5
    finally:
        signal.signal(signal.SIGINT, before)


def test_commands_run_in_other_threads_too():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(interruptible(lambda: 4)))
    thread.start()
    thread.join()
    assert codes == [4]


MODULE = """
import os, signal, sys
from gluondense.commands.interruption import interruptible
text = "os.kill(os.getpid(), signal.SIGTERM)\\nfor _ in range(10**9): pass"
sys.exit(interruptible(lambda: exec(text)))
"""


def test_the_exit_code_after_exec(root, tmp_path):
    """Python would end by SIGINT after a KeyboardInterrupt in code that exec() runs."""
    (tmp_path / "module.py").write_text(MODULE)
    command = [sys.executable, "-m", "module"]
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    line = "stopped by SIGTERM; run the same command again\n"
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, line)
