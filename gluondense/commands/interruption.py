# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM end a command with one line and the exit code 128 plus their number."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Callable, Optional

SIGNUMS = (signal.SIGINT, signal.SIGTERM)
AGAIN_SECONDS = 0.05
IMPORT_SECONDS = 60  # the longest delay of a signal; MXNet takes 2 s, more on a busy machine
IMPORT = "<frozen importlib._bootstrap>"
AGAIN = "run the same command again"


class Interrupted(KeyboardInterrupt):
    """Raised for a signal, with its number.

    After a KeyboardInterrupt itself has left code that :func:`exec` runs, as in MXNet's import,
    Python ends by SIGINT, whatever the exit code.
    """


def interruptible(run: Callable[[], int]) -> int:
    """Return the exit code of a command's function, or 128 + N if signal N has interrupted it.

    The signal raises an exception, so that the function removes its temporary files. It may raise
    one itself with what the user can do next: ``KeyboardInterrupt(signum, "continue with …")``.
    """
    try:
        with _raising(), unmasked():
            return run()
    except KeyboardInterrupt as error:
        signum, advice = (*error.args, *(signal.SIGINT, AGAIN)[len(error.args) :])[:2]
        print(f"stopped by {signal.Signals(signum).name}; {advice}", file=sys.stderr)
        return 128 + signum


@contextmanager
def unmasked() -> Iterator[None]:
    """Raise `Interrupted` again where the end of a ``with`` statement, or C, has replaced it.

    A zip file that is closed during a write raises a ValueError, for example.
    """
    try:
        yield
    except Exception as error:
        cause: Optional[BaseException] = error
        while cause is not None and not isinstance(cause, Interrupted):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise Interrupted(*cause.args) from None


def use_default_signals() -> None:
    """Let signals end the process at once, as by default.

    Python's handlers would print a traceback of its exit.
    """
    for signum in SIGNUMS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)


@contextmanager
def _raising() -> Iterator[None]:
    """Let signals raise `Interrupted` in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread sets handlers
        return
    hook = _UnraisableHook(sys.unraisablehook)
    handlers = {signum: signal.getsignal(signum) for signum in SIGNUMS}
    for signum, handler in [*handlers.items()]:
        # Ignored: a shell has started the command in the background. None: not Python's handler.
        if handler in (signal.SIG_IGN, None):
            del handlers[signum]
        else:
            signal.signal(signum, hook.interrupt)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        # After a signal it stays: what that has left incomplete is deleted as late as at exit.
        if sys.unraisablehook is hook and not hook.interrupted:
            sys.unraisablehook = hook.previous
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


class _UnraisableHook:
    """Handles signals, and the exceptions that they cause in destructors.

    A destructor, such as that of each of MXNet's arrays, cannot pass an exception on: Python hands
    it to this hook and continues. If the exception is that of a signal, the signal is repeated. If
    a signal has come before, the exception is dropped: the object may be one whose ``__init__`` the
    signal has interrupted.
    """

    def __init__(self, previous: Callable[[Any], Any]) -> None:
        self.previous = previous
        self.interrupted = False
        self._first: Optional[float] = None  # when the signal came that an import delays

    def interrupt(self, signum: int, frame: Optional[FrameType]) -> None:
        """Handle a signal."""
        self._first = self._first or time.monotonic()
        if _is_import(frame) and time.monotonic() - self._first < IMPORT_SECONDS:
            _repeat(signum)
            return
        self.interrupted = True
        raise Interrupted(signum)

    def __call__(self, lost: Any) -> None:
        """Handle an exception that a destructor has raised."""
        error = lost.exc_value
        if isinstance(error, Interrupted):
            _repeat(error.args[0])
        elif not self.interrupted:
            self.previous(lost)


def _is_import(frame: Optional[FrameType]) -> bool:
    """Return whether a frame belongs to an import.

    Modules written in C may print an exception there, replace it or crash.
    """
    while frame is not None and frame.f_code.co_filename != IMPORT:
        frame = frame.f_back
    return frame is not None


def _repeat(signum: int) -> None:
    timer = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signum))
    timer.daemon = True
    timer.start()
