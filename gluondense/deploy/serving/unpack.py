"""Extraction of exports from archives, which may be untrusted."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Union

from ...files import stream_sha256
from ..artifact_files import SUFFIXES, ExportedFiles

MANIFEST = "MAR-INF/MANIFEST.json"
# Largest size of an extracted member. Extraction stops there, whatever the header declares.
MAX_BYTES = 4 << 30


@dataclasses.dataclass(frozen=True)
class Member:
    """A file in an archive.

    Parameters
    ----------
    name, size
        Path in the archive, and declared size after decompression in bytes.
    plain
        Whether it is a regular file, not a link or a device.
    handle
        The reader's entry.
    """

    name: str
    size: int
    plain: bool
    handle: object


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has the suffix of an archive."""
    return os.fspath(path).endswith((".mar", ".zip", ".tar.gz"))


def unpack(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> ExportedFiles:
    """Extract the three files of an export from an archive of :mod:`gluondense.deploy.serving`.

    No code of the archive is executed, and no other member is written. An archive is rejected if a
    member's path leads outside the folder or a member is no regular file. If it has a manifest with
    checksums, all members must match it.

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
        with _open(path) as reader:
            members = _check_members(list(reader.members()))
            _verify(reader, members)
            return _copy(reader, members, Path(folder))
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk, not of the archive
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a sound archive ({reason}): copy it again.") from None
    except (ValueError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is refused: {error}") from None


class _Zip:
    def __init__(self, packed: zipfile.ZipFile) -> None:
        self.packed = packed

    def members(self) -> Iterator[Member]:
        for row in self.packed.infolist():
            if not row.is_dir():
                kind = stat.S_IFMT(row.external_attr >> 16)
                # orig_filename: zipfile cuts names at a NUL.
                yield Member(row.orig_filename, row.file_size, kind in (0, stat.S_IFREG), row)

    def open(self, member: Member) -> BinaryIO:
        return self.packed.open(member.handle)  # type: ignore[arg-type, return-value]


class _Tar:
    def __init__(self, packed: tarfile.TarFile) -> None:
        self.packed = packed

    def members(self) -> Iterator[Member]:
        for row in self.packed:
            if not row.isdir():
                yield Member(row.name, row.size, row.isreg() and not row.issparse(), row)

    def open(self, member: Member) -> BinaryIO:
        found = self.packed.extractfile(member.handle)  # type: ignore[arg-type]
        assert found is not None  # None is for links and devices only
        return found  # type: ignore[return-value]


_Reader = Union[_Zip, _Tar]


@contextmanager
def _open(path: Path) -> Iterator[_Reader]:
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path, "r:gz") as tar:
            yield _Tar(tar)
    else:
        with zipfile.ZipFile(path) as packed:
            yield _Zip(packed)


def _check_members(members: list[Member]) -> dict[str, Member]:
    known: dict[str, Member] = {}
    for member in members:
        name = member.name
        if not _is_inside(name):
            raise ValueError(f"its member {name!r} would be outside of the folder.")
        if not member.plain:
            raise ValueError(f"its member {name!r} is a link or a device, not a file.")
        if name in known:
            raise ValueError(f"it has two members {name!r}.")
        if member.size > MAX_BYTES:
            raise ValueError(f"its member {name!r} has {member.size:,} bytes, over {MAX_BYTES:,}.")
        known[name] = member
    return known


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if not parts or ":" in parts[0]:  # a Windows drive
        return False
    return not (name.startswith("/") or ".." in parts or "\\" in name or "\0" in name)


def _verify(reader: _Reader, members: dict[str, Member]) -> None:
    """Compare all members with the checksums of the manifest, if there is one."""
    if MANIFEST not in members:
        return
    with reader.open(members[MANIFEST]) as file:
        content = json.loads(file.read(16 << 20).decode("utf-8"))
    sums = content.get("sha256") if isinstance(content, dict) else None
    if not isinstance(sums, dict):
        raise ValueError("its manifest has no checksums: gluondense did not write it.")
    if sums.keys() != members.keys() - {MANIFEST}:
        odd = sorted(sums.keys() ^ (members.keys() - {MANIFEST}))
        raise ValueError(f"its manifest and its members differ in {', '.join(odd[:4])}.")
    for name, expected in sums.items():
        with reader.open(members[name]) as file:
            found = stream_sha256(file)
        if found != expected:
            raise ValueError(f"its member {name} is damaged (other SHA-256 than in the manifest).")


def _copy(reader: _Reader, members: dict[str, Member], folder: Path) -> ExportedFiles:
    prefixes = [name[: -len(SUFFIXES[0])] for name in members if name.endswith(SUFFIXES[0])]
    if len(prefixes) != 1 or "/" in prefixes[0]:
        raise ValueError(f"it must hold the graph of one export, not of {len(prefixes)}.")
    for suffix in SUFFIXES:
        name = f"{prefixes[0]}{suffix}"
        if name not in members:
            raise ValueError(f"it has no member {name}.")
        with reader.open(members[name]) as source, open(folder / name, "wb") as goal:
            left = members[name].size + 1
            while chunk := source.read(min(left, 1 << 20)):
                goal.write(chunk)
                left -= len(chunk)
    return ExportedFiles.of(folder / prefixes[0])
