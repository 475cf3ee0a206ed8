# SPDX-License-Identifier: Apache-2.0
"""A lock on a run's folder, so that two processes never write into it at once."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAME = "run.lock"
_held: set[int] = set()  # descriptors that a forked process must not inherit


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the kernel releases it when the process ends, even if killed.

    The file in the folder says who holds the lock: process, host and time. It is removed at the
    end, and so are the folders that were made for it and are still empty. If the file system has no
    locks, a warning is printed on stderr and nothing is locked.

    Raises
    ------
    BlockingIOError
        If another process, or another run in this process, holds the lock.
    OSError
        If the folder can't be made or written.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with locked(folder):
    ...     "process" in (folder / "run.lock").read_text()
    True
    >>> list(folder.iterdir())
    []
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(folder)
    except BlockingIOError:
        raise
    except OSError as error:
        raise type(error)(
            f"Cannot write to the folder {folder} ({error.strerror}): give another `out_dir`."
        ) from None
    _held.add(descriptor)
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / NAME).unlink()
        with suppress(OSError):  # the first one that is not empty ends it
            for path in made:
                path.rmdir()
        _held.discard(descriptor)
        os.close(descriptor)


def _acquire(folder: Path) -> int:
    """Open and lock the file, write who holds it; return its descriptor."""
    path = folder / NAME
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(descriptor, folder)
            if _is_at(descriptor, path):
                since = time.strftime("%Y-%m-%d %H:%M:%S %z")
                text = f"process {os.getpid()} on {socket.gethostname()} since {since}\n"
                os.ftruncate(descriptor, 0)
                os.write(descriptor, text.encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the holder removed the file between open and lock


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 1000).decode("utf-8", "replace").strip()
        raise BlockingIOError(
            f"{folder} is in use by {holder or 'another process'}: wait until it ends, or give "
            "another `out_dir`."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        print(
            f"warning: the file system of {folder} has no locks ({error.strerror}): take care "
            "that no other process trains in this folder.",
            file=sys.stderr,
        )


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _close_inherited() -> None:
    # A lock ends with its last descriptor: those of forked loader processes would outlive a kill.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_inherited)
