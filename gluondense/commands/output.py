# SPDX-License-Identifier: Apache-2.0
"""Calls of commands: their errors in one line, their exit codes, their output."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import select
import sys
from typing import Callable, Optional

from .interruption import interruptible, unmasked

BROKEN_PIPE = 141  # of a shell, for a command that SIGPIPE ended


def call(run: Callable[[argparse.Namespace], Optional[int]], args: argparse.Namespace) -> int:
    """Call a command's function and return the exit code.

    A `ValueError`, an `OSError`, an error of MXNet, such as a lack of memory, or of its import is
    printed in one line in terms of the command's flags; the exit code is 2. SIGINT and SIGTERM end
    it with one line and the exit code 128 plus their number. If nobody reads the output any more,
    the command ends silently.
    """
    _accept_any_text()
    return interruptible(lambda: _call(run, args))


def _call(run: Callable[[argparse.Namespace], Optional[int]], args: argparse.Namespace) -> int:
    try:
        with unmasked():
            code = run(args) or 0
    except ImportError as error:
        if error.name != "mxnet":
            raise
        return _fail(error, args)
    except (ValueError, OSError, MemoryError) as error:
        return _fail(error, args)
    except RuntimeError as error:
        if type(error).__name__ != "MXNetError":
            raise
        return _fail(error, args)
    return write_output() or code


def _fail(error: BaseException, args: argparse.Namespace) -> int:
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        write_output()
        return BROKEN_PIPE
    message = _describe(error)
    parser = getattr(args, "parser", None)
    if parser is not None:
        message = parser.with_flags(message)
    return write_output() or _print_error(message)


def _describe(error: BaseException) -> str:
    if type(error).__name__ == "MXNetError":
        return f"MXNet: {mxnet_reason(error)}"
    if isinstance(error, OSError) and error.strerror:  # an error of the system
        failed = "write" if error.errno == errno.ENOSPC else "read or write"
        return f"{error.filename or f'cannot {failed}'}: {error.strerror}"
    return str(error) or type(error).__name__


def _print_error(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def mxnet_reason(error: BaseException) -> str:
    """Return the reason that an MXNetError ends with, in one line.

    Examples
    --------
    >>> mxnet_reason(RuntimeError("MXNetError: Check failed: a < b (2 vs. 1) : too big"))
    'too big'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^.*Check failed: .*?\) ?: ", "", lines[-1]) if lines else "unknown error"


def _accept_any_text() -> None:
    """Let the output escape what the locale's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict":
            with contextlib.suppress(AttributeError):  # a stream of another kind
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _nobody_reads() -> bool:
    """Return whether the output is a pipe whose other end is closed."""
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # there is no output
        poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def write_output() -> int:
    """Write the rest of the output; return the exit code if that fails, after one line."""
    if sys.stdout is None:  # closed by the shell
        return 0
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        # Python would try again on exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return BROKEN_PIPE
        reason = getattr(error, "strerror", None) or error
        return _print_error(f"cannot write: {reason}")
    return 0
