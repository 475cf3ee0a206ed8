# SPDX-License-Identifier: Apache-2.0
"""Extraction of exports from archives, which may be untrusted."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import in_one_line
from ...files import stream_sha256
from ...text import parse_json
from ..artifact_files import SUFFIXES, ExportedFiles

MANIFEST = "MAR-INF/MANIFEST.json"
# Largest size of an extracted member. Extraction stops there, whatever the header declares.
MAX_BYTES = 4 << 30
MAX_MANIFEST_BYTES = 16 << 20


class _Refused(ValueError):
    """The archive is readable, but must not be extracted."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A file in an archive.

    Parameters
    ----------
    name, size
        Path in the archive, and declared size after decompression in bytes.
    plain
        Whether it is a regular file, not a link or a device.
    open
        Opens it for reading in binary mode; links and devices cannot be opened.
    """

    name: str
    size: int
    plain: bool
    open: Callable[[], Any]


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has the suffix of an archive."""
    return os.fspath(path).endswith((".mar", ".zip", ".tar.gz"))


def unpack(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> ExportedFiles:
    """Extract the three files of an export from an archive of :func:`gluondense.deploy.archive`.

    No code of the archive is executed, and no other member is written. An archive is rejected if a
    member's path leads outside the folder or a member is no regular file. All members of a ``.mar``
    must match the checksums of its manifest; archives of the other kinds have no manifest.

    Parameters
    ----------
    path
        The archive.
    folder
        Existing folder to extract to.

    Raises
    ------
    FileNotFoundError, ValueError
        If the archive does not exist, or is damaged, unsafe, or contains no export.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no archive {path}: check the path.")
    try:
        with _open(path) as found:
            members = _check_members(found)
            if path.suffix == ".mar" and MANIFEST not in members:
                raise _Refused(f"it has no {MANIFEST}, whose checksums it must match.")
            _verify(members)
            return _copy(members, Path(folder))
    except _Refused as error:
        raise ValueError(f"{path} is refused: {error}") from None
    except Exception as error:  # the readers of archives raise many types for a damaged one
        # EINVAL: the archive names a place before its start.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # an error of the disk, not of the archive
        raise ValueError(
            f"{path} is not a sound archive ({in_one_line(error)}): copy it again."
        ) from None


@contextmanager
def _open(path: Path) -> Iterator[Iterator[Member]]:
    """Open an archive for reading and give its members, except folders."""
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path, "r:gz") as tar:
            yield _tar_members(tar)
    else:
        with zipfile.ZipFile(path) as packed:
            yield _zip_members(packed)


def _zip_members(packed: zipfile.ZipFile) -> Iterator[Member]:
    for row in packed.infolist():
        if not row.is_dir():
            plain = stat.S_IFMT(row.external_attr >> 16) in (0, stat.S_IFREG)
            # orig_filename: zipfile cuts names at a NUL.
            yield Member(row.orig_filename, row.file_size, plain, partial(packed.open, row))


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    for row in tar:
        if not row.isdir():
            plain = row.isreg() and not row.issparse()
            yield Member(row.name, row.size, plain, partial(tar.extractfile, row))


def _check_members(members: Iterable[Member]) -> dict[str, Member]:
    known: dict[str, Member] = {}
    for member in members:
        name = member.name
        if not _is_inside(name):
            raise _Refused(f"its member '{_shown(name)}' would be outside of the folder.")
        if not member.plain:
            raise _Refused(f"its member '{_shown(name)}' is a link or a device, not a file.")
        if name in known:
            raise _Refused(f"it has two members '{_shown(name)}'.")
        if member.size > MAX_BYTES:
            raise _Refused(
                f"its member '{_shown(name)}' has {member.size:,} bytes, over {MAX_BYTES:,}."
            )
        known[name] = member
    return known


def _shown(name: str) -> str:
    return in_one_line(name, 100)


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if not parts or ":" in parts[0]:  # a Windows drive
        return False
    return not (name.startswith("/") or ".." in parts or "\\" in name or "\0" in name)


def _verify(members: dict[str, Member]) -> None:
    """Compare all members with the checksums of the manifest, if there is one."""
    if MANIFEST not in members:
        return
    with members[MANIFEST].open() as file:
        data = file.read(MAX_MANIFEST_BYTES)
    try:
        content = parse_json(data, "its manifest")
    except ValueError as error:
        raise _Refused(f"{error}.") from None
    sums = content.get("sha256") if isinstance(content, dict) else None
    if not isinstance(sums, dict):
        raise _Refused("its manifest has no checksums: gluondense did not write it.")
    if sums.keys() != members.keys() - {MANIFEST}:
        odd = sorted(sums.keys() ^ (members.keys() - {MANIFEST}))
        raise _Refused(f"its manifest and its members differ in {', '.join(map(_shown, odd[:4]))}.")
    for name, expected in sums.items():
        with members[name].open() as file:
            found = stream_sha256(file)
        if found != expected:
            raise _Refused(
                f"its member {_shown(name)} is damaged (other SHA-256 than in the manifest)."
            )


def _copy(members: dict[str, Member], folder: Path) -> ExportedFiles:
    prefixes = [name[: -len(SUFFIXES[0])] for name in members if name.endswith(SUFFIXES[0])]
    if len(prefixes) != 1 or "/" in prefixes[0]:
        raise _Refused(f"it must hold the graph of one export, not of {len(prefixes)}.")
    for suffix in SUFFIXES:
        name = f"{prefixes[0]}{suffix}"
        if name not in members:
            raise _Refused(f"it has no member {name}.")
        with members[name].open() as source, open(folder / name, "wb") as goal:
            left = members[name].size + 1
            while chunk := source.read(min(left, 1 << 20)):
                goal.write(chunk)
                left -= len(chunk)
    return ExportedFiles.of(folder / prefixes[0])
