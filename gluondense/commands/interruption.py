# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM end a command with one line and the exit code 128 plus their number."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Callable, Optional

SIGNUMS = (signal.SIGINT, signal.SIGTERM)
AGAIN_SECONDS = 0.05
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
    """Raise `Interrupted` again where an import in C has replaced it by another exception."""
    try:
        yield
    except Exception as error:
        cause: Optional[BaseException] = error
        while cause is not None and not isinstance(cause, Interrupted):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise Interrupted(*cause.args) from None


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

    def interrupt(self, signum: int, frame: Optional[FrameType]) -> None:
        """Handle a signal."""
        self.interrupted = True
        raise Interrupted(signum)

    def __call__(self, lost: Any) -> None:
        """Handle an exception that a destructor has raised."""
        error = lost.exc_value
        if isinstance(error, Interrupted):
            timer = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), error.args[0]))
            timer.daemon = True
            timer.start()
        elif not self.interrupted:
            self.previous(lost)
