"""One file from the first source that has the right bytes.

A file grows as ``NAME.part`` beside its place and is renamed when its content is right. Every
process that wants the file locks the part; the system frees the lock of a process that died. A
part that was left behind is gone on with, from whatever source: no ``ETag`` is kept, as the
checksum tells whether the pieces fit, and where they don't the file is taken once more as a whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Callable

from .web import empty, receive

logger = logging.getLogger(__name__)

# How long another process may hold a part without adding to it.
LOCK_SECONDS = 300
LOCK_POLL_SECONDS = 0.1
FEWEST_DIGITS = 8


def cache_folder(kind: str, root: str | os.PathLike[str] | None = None) -> Path:
    """The folder where downloads of one kind are kept.

    Parameters
    ----------
    kind
        ``"models"`` or ``"datasets"``, as in MXNet's own cache; ``"native"`` for what is compiled.
    root
        The folder itself; None means ``kind`` in ``$MXNET_HOME``, or else in ``~/.mxnet``.

    Examples
    --------
    >>> cache_folder("models", "weights").name
    'weights'
    """
    if root is None:
        root = Path(os.environ.get("MXNET_HOME") or "~/.mxnet") / kind
    return Path(root).expanduser()


def has_sha256(path: Path, sha256: str) -> bool:
    """Whether a file's SHA-256 begins with these hexadecimal digits.

    Parameters
    ----------
    path
        The file.
    sha256
        All 64 digits or the first ones, at least 8, as publishers put them into file names.

    Raises
    ------
    ValueError
        When there are fewer digits.

    Examples
    --------
    >>> has_sha256(Path(os.devnull), "e3b0c442")
    True
    """
    if len(sha256) < FEWEST_DIGITS:
        raise ValueError(f"sha256 (={sha256!r}) must have at least {FEWEST_DIGITS} digits")
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest().startswith(sha256.lower())


def download_file(
    urls: Sequence[str], path: Path, check: Callable[[Path], bool], advice: str
) -> None:
    """Make sure that a file is there and right, downloading it where it is not.

    Parameters
    ----------
    urls
        Sources, http or https, tried in this order.
    path
        Where the file belongs; missing folders are made.
    check
        Says whether the file at a path has the right content.
    advice
        What the user can do when every source fails; ends the error's line.

    Raises
    ------
    ConnectionError
        When no source gave the right content; names the file and each source's failure.
    TimeoutError
        When another process holds the file and does not get on with it.
    OSError
        When the file can't be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        while not (path.is_file() and check(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(part) as file:
                # The process that had the lock before may have renamed or removed what we opened.
                if _is_at(file, part):
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
            "make room or choose another folder by root or MXNET_HOME",
        ) from error


def _sources(urls: Sequence[str], name: str) -> list[str | Path]:
    """Where a file may be had: URLs, and its path in the mirror if that is a folder."""
    mirror = os.environ.get("GLUONDENSE_MIRROR", "")
    sources: list[str | Path] = [] if _is_offline() else list(urls)
    if "://" not in mirror:
        return [Path(mirror).expanduser() / name, *sources] if mirror else sources
    return sources and [mirror.rstrip("/") + "/" + name, *sources]


def _is_offline() -> bool:
    return os.environ.get("GLUONDENSE_OFFLINE", "").lower() not in ("", "0", "false", "no", "off")


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """Open a part for appending as soon as no other process has it so."""
    with open(part, "ab") as file:
        size, since = -1, 0.0
        while not _lock(file):
            if size < 0:
                logger.warning("waiting for another process, which is downloading %s", part)
            now = os.fstat(file.fileno()).st_size
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > LOCK_SECONDS:
                raise TimeoutError(
                    f"another process holds {part} and has added nothing for {LOCK_SECONDS} s; "
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
    # A process that ended between the last byte and the renaming leaves a complete part.
    if part.tell() and check(path):
        return
    failures = []
    for source in sources:
        failure = _take(source, part, check)
        if not failure:
            return
        failures.append(f"{source}: {failure}")
    if not part.tell():
        path.unlink()
    if _is_offline():
        failures.append("GLUONDENSE_OFFLINE is set")
    message = f"can't download {path.stem} ({'; '.join(failures)}); {advice}"
    # A mirror's URL may have a password in it.
    raise ConnectionError(re.sub(r"://[^/\s@]*@", "://", message))


def _take(source: str | Path, part: BinaryIO, check: Callable[[Path], bool]) -> str:
    """Take what a part lacks from a source; returns why that failed, or nothing."""
    while True:
        had_some = part.tell() > 0
        failure = _copy(source, part) if isinstance(source, Path) else receive(source, part)
        if failure:
            return failure
        part.flush()
        if check(Path(part.name)):
            return ""
        failure = f"wrong checksum of {part.tell()} bytes{_hint(Path(part.name))}"
        empty(part)
        if not had_some:
            return failure


def _copy(source: Path, part: BinaryIO) -> str:
    """Copy the whole file."""
    if not source.is_file():
        return "no such file"
    empty(part)
    with open(source, "rb") as file:
        shutil.copyfileobj(file, part)
    return ""


def _hint(path: Path) -> str:
    """What servers and proxies send in place of a file begins like a web page."""
    with open(path, "rb") as file:
        return " (a web page)" if file.read(64).lstrip().startswith(b"<") else ""
