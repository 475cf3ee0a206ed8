# SPDX-License-Identifier: Apache-2.0
"""Download one file from the first source that has the right content.

Bytes are appended to ``NAME.part`` in the target's folder, which is renamed once its content is
verified. Each process locks the part; the operating system releases the lock of a process that
dies. An incomplete part is resumed from any source. No ``ETag`` is stored: the checksum shows
whether the pieces match, and if they don't, the whole file is downloaded again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Callable

from ..files import sha256 as digest

logger = logging.getLogger(__name__)

# Another process may hold a part this long without appending to it.
LOCK_SECONDS = 300
LOCK_POLL_SECONDS = 0.1
MIN_DIGITS = 8


def cache_folder(kind: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache folder of one kind of downloads.

    Parameters
    ----------
    kind
        ``"models"`` or ``"datasets"``, as in MXNet's own cache; ``"native"`` for compiled code.
    root
        The folder itself; default: ``kind`` in ``$MXNET_HOME``, or in ``~/.mxnet``.

    Examples
    --------
    >>> cache_folder("models", "weights").name
    'weights'
    """
    if root is None:
        root = Path(os.environ.get("MXNET_HOME") or "~/.mxnet") / kind
    return Path(root).expanduser()


def has_sha256(path: Path, sha256: str) -> bool:
    """Return whether a file's SHA-256 begins with the given hexadecimal digits.

    Parameters
    ----------
    path, sha256
        The file, and all 64 digits or at least the first 8, as in publishers' file names.

    Examples
    --------
    >>> has_sha256(Path(os.devnull), "e3b0c442")
    True
    """
    if len(sha256) < MIN_DIGITS:
        raise ValueError(f"sha256 (={sha256!r}) must have at least {MIN_DIGITS} digits")
    return digest(path).startswith(sha256.lower())


def download_file(
    urls: Sequence[str], path: Path, check: Callable[[Path], bool], advice: str
) -> None:
    """Download a file unless it exists with the right content.

    Parameters
    ----------
    urls
        HTTP or HTTPS sources, tried in this order.
    path
        The target; missing folders are created.
    check
        Returns whether the file at a path has the right content.
    advice
        What the user can do if every source fails; the end of the error message.

    Raises
    ------
    ConnectionError
        If no source has the right content; the message lists each source's failure.
    TimeoutError
        If another process holds the file and makes no progress.
    OSError
        If the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        while not (path.is_file() and check(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(part) as file:
                # The previous holder of the lock may have renamed or removed the opened file.
                if not _is_at(file, part):
                    continue
                # Or it was renamed just before the file was opened, which created a new one.
                if path.is_file() and check(path):
                    part.unlink()
                    return
                _fill(file, _sources(urls, path.name), check, advice)
                os.replace(part, path)
                return
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        place = error.filename or part
        raise OSError(
            error.errno,
            f"can't download to {path} ({place}: {error.strerror}); "
            "free some space, or set root or MXNET_HOME to another folder",
        ) from error


def _sources(urls: Sequence[str], name: str) -> list[str | Path]:
    """Return the sources of a file: URLs, and its path in the mirror if that is a folder."""
    mirror = os.environ.get("GLUONDENSE_MIRROR", "")
    sources: list[str | Path] = [] if _is_offline() else list(urls)
    if "://" not in mirror:
        return [Path(mirror).expanduser() / name, *sources] if mirror else sources
    return sources and [mirror.rstrip("/") + "/" + name, *sources]


def _is_offline() -> bool:
    return os.environ.get("GLUONDENSE_OFFLINE", "").lower() not in ("", "0", "false", "no", "off")


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """Open a part for appending once no other process holds its lock."""
    with open(part, "ab") as file:
        size, since = -1, 0.0
        while not _lock(file):
            if size < 0:
                logger.warning("waiting for another process that is downloading %s", part)
            now = os.fstat(file.fileno()).st_size
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > LOCK_SECONDS:
                raise TimeoutError(
                    f"another process holds {part} and appended nothing for {LOCK_SECONDS} s; "
                    "end that process and try again"
                )
            time.sleep(LOCK_POLL_SECONDS)
        yield file


def _lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _fill(
    part: BinaryIO, sources: Sequence[str | Path], check: Callable[[Path], bool], advice: str
) -> None:
    """Complete a part from the first source that has the right content."""
    path = Path(part.name)
    # The part is complete if a process ended between the last byte and the renaming.
    if part.tell() and check(path):
        return
    failures = []
    for source in sources:
        failure = _resume(source, part, check)
        if not failure:
            return
        failures.append(f"{source}: {failure}")
    if not part.tell():
        path.unlink()
    if _is_offline():
        failures.append("GLUONDENSE_OFFLINE is set")
    message = f"can't download {path.stem} ({'; '.join(failures)}); {advice}"
    # A mirror's URL may contain a password.
    raise ConnectionError(re.sub(r"://[^/\s@]*@", "://", message))


def _resume(source: str | Path, part: BinaryIO, check: Callable[[Path], bool]) -> str:
    """Complete a part from one source; return the reason of a failure, or an empty string."""
    from .web import empty, receive  # imports requests

    while True:
        resumed = part.tell() > 0
        failure = _copy(source, part) if isinstance(source, Path) else receive(source, part)
        if failure:
            return failure
        part.flush()
        if check(Path(part.name)):
            return ""
        failure = f"wrong checksum of {part.tell()} bytes{_hint(Path(part.name))}"
        empty(part)
        if not resumed:
            return failure


def _copy(source: Path, part: BinaryIO) -> str:
    """Copy the whole file; return the reason of a failure, or an empty string."""
    from .web import empty

    if not source.is_file():
        return "no such file"
    empty(part)
    with open(source, "rb") as file:
        shutil.copyfileobj(file, part)
    return ""


def _hint(path: Path) -> str:
    """Recognize a web page, which servers and proxies send instead of a file."""
    with open(path, "rb") as file:
        return " (a web page)" if file.read(64).lstrip().startswith(b"<") else ""
