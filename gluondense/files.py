# SPDX-License-Identifier: Apache-2.0
"""Atomic writes and checksums: a reader finds the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK = 1 << 20


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with open(path, "rb") as file:
        return stream_sha256(file)


def stream_sha256(file: BinaryIO) -> str:
    """Return the SHA-256 of the rest of an open file in hexadecimal digits."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def json_sha256(content: object) -> str:
    """Return the SHA-256 of JSON content, which depends on neither its layout nor its order.

    Examples
    --------
    >>> json_sha256({"a": 1, "b": (2,)}) == json_sha256(json.loads('{"b":[2],   "a":1}'))
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def name_as_text(name: str) -> str:
    """Return a file's name as UTF-8 has it, also where the locale has another encoding.

    Examples
    --------
    >>> name_as_text(os.fsdecode("grün".encode()))
    'grün'
    """
    return os.fsencode(name).decode("utf-8", "replace")


def fsync(path: Path) -> None:
    """Flush a file or a folder to the disk.

    A rename can reach the disk before the bytes do: without this, a power cut leaves empty files.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file in the same folder, which replaces ``path`` if the block succeeds.

    If the folder cannot be written, an OSError that names ``path`` is raised, and the file stays as
    it was.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp(), "log.csv")
    >>> with replacing(target) as file:
    ...     _ = file.write_text("epoch,loss")
    >>> target.read_text()
    'epoch,loss'
    """
    new = _temporary(path.parent, path.name)
    try:
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield new
        new.chmod(0o644)
        fsync(new)
        os.replace(new, path)
    except OSError as error:
        if error.filename == str(new):
            error.filename = str(path)
        raise
    finally:
        new.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of a file."""
    with replacing(path) as new:
        new.write_bytes(data)


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write MXNet arrays by name in MXNet's format, completely.

    Raises
    ------
    OSError
        If the file cannot be written, such as on a full disk. MXNet itself raises another error,
        or none if only closing the file fails.
    """
    import mxnet as mx

    try:
        mx.nd.save(str(path), dict(arrays))
        complete = path.stat().st_size > 0 and len(mx.nd.load(str(path)) or ()) == len(arrays)
    except mx.MXNetError:
        complete = False
    if not complete:
        try:
            with open(path, "ab", buffering=0) as file:
                file.write(bytes(_CHUNK))
        except OSError as error:  # the reason
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise OSError(errno.EIO, "MXNet has not written all arrays", str(path))


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give a new folder beside ``folder``, which replaces it if the block succeeds.

    The old folder stays at :func:`previous`, for the caller to move or remove. At any moment the
    old or the new folder is complete, under one of these two names.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp(), "last")
    >>> for epoch in ("1", "2"):
    ...     with replacing_folder(target) as new:
    ...         _ = (new / "epoch").write_text(epoch)
    >>> (target / "epoch").read_text(), (previous(target) / "epoch").read_text()
    ('2', '1')
    """
    new, old = folder.with_name(folder.name + ".new"), previous(folder)
    if not folder.exists() and old.exists():  # interrupted between the two renames below
        old.rename(folder)
    for stale in (new, old):
        shutil.rmtree(stale, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
    except Exception:
        shutil.rmtree(new, ignore_errors=True)
        raise
    for path in (*new.iterdir(), new):
        fsync(path)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    fsync(folder.parent)


def previous(folder: Path) -> Path:
    """Return the path where :func:`replacing_folder` leaves the folder that it replaced."""
    return folder.with_name(folder.name + ".old")


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder in ``parent``, so on its file system, and remove it afterwards."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = _temporary(parent, prefix)
    try:
        folder.mkdir(0o700)
        yield folder
    finally:
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:  # also after Ctrl-C
            shutil.rmtree(folder, ignore_errors=True)


def _temporary(parent: Path, name: str) -> Path:
    """Return a new name: one that is known before the file exists is removed after Ctrl-C too."""
    return parent / f".{name}-{secrets.token_hex(4)}"


def replace_all(pairs: Iterable[tuple[Path, Path]], backup: Path) -> None:
    """Rename each new file over its target; if one fails, restore all the old ones.

    All files are on one file system; the folder ``backup`` takes copies of the old ones meanwhile.
    """
    pairs = list(pairs)
    old = [
        shutil.copy2(target, backup / f"old-{target.name}") if target.exists() else None
        for _, target in pairs
    ]
    for path in (*(new for new, _ in pairs), *(copy for copy in old if copy is not None)):
        fsync(Path(path))
    try:
        for new, target in pairs:
            os.replace(new, target)
    except BaseException:
        for copy, (_, target) in zip(old, pairs):
            if copy is None:
                target.unlink(missing_ok=True)
            else:
                os.replace(copy, target)
        raise
