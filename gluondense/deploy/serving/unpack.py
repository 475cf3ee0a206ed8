"""Archives of exports read back: as data, whoever made them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from ..artifact_files import SUFFIXES, ExportedFiles

MANIFEST = "MAR-INF/MANIFEST.json"
# What a member may unpack to: a lie in its head is stopped there.
MAX_BYTES = 4 << 30


class _Reader(Protocol):
    def members(self) -> Iterator[Member]: ...

    def open(self, member: Member) -> BinaryIO: ...


@dataclasses.dataclass(frozen=True)
class Member:
    """A file in an archive: its name, its size when unpacked, and whether it is a plain file."""

    name: str
    size: int
    plain: bool
    handle: object


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a path ends as archives do."""
    return os.fspath(path).endswith((".mar", ".zip", ".tar.gz"))


def unpack(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> ExportedFiles:
    """Copy an export's three files out of an archive of :func:`gluondense.deploy.serving.archive`.

    Nothing of the archive is executed, and nothing else of it is written. An archive with a member
    that would lie outside the folder, or is no plain file, is refused as a whole; where it has a
    manifest with checksums, all members must be those.

    Parameters
    ----------
    path
        The archive.
    folder
        Where the files go; it must exist.

    Raises
    ------
    FileNotFoundError
        If there is no such archive.
    ValueError
        If it is damaged, hostile, or holds no export.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no archive {path}: check the path.")
    try:
        with _open(path) as reader:
            members = _checked(list(reader.members()))
            _verify(reader, members)
            return _copy(reader, members, Path(folder))
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the archive's
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a sound archive ({reason}): copy it again.") from None
    except (ValueError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is refused: {error}") from None


@contextmanager
def _open(path: Path) -> Iterator[_Reader]:
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path, "r:gz") as tar:
            yield _Tar(tar)
    else:
        with zipfile.ZipFile(path) as packed:
            yield _Zip(packed)


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
        assert found is not None  # it is for links and devices only
        return found  # type: ignore[return-value]


def _checked(members: list[Member]) -> dict[str, Member]:
    known: dict[str, Member] = {}
    for member in members:
        name = member.name
        if not _stays_inside(name):
            raise ValueError(f"its member {name!r} would lie outside of the folder.")
        if not member.plain:
            raise ValueError(f"its member {name!r} is a link or a device, not a file.")
        if name in known:
            raise ValueError(f"it has two members {name!r}.")
        if member.size > MAX_BYTES:
            raise ValueError(f"its member {name!r} has {member.size:,} bytes, over {MAX_BYTES:,}.")
        known[name] = member
    return known


def _stays_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not (
        name.startswith("/")
        or ".." in parts
        or "\\" in name
        or "\0" in name
        or ":" in parts[0]  # a drive of Windows
    )


def _verify(reader: _Reader, members: dict[str, Member]) -> None:
    """Compare all members with the manifest's checksums, where it has some."""
    if MANIFEST not in members:
        return
    content = json.loads(_text(reader, members[MANIFEST]))
    sums = content.get("sha256") if isinstance(content, dict) else None
    if not isinstance(sums, dict):
        raise ValueError("its manifest has no checksums: gluondense did not write it.")
    if sums.keys() != members.keys() - {MANIFEST}:
        odd = sorted(sums.keys() ^ (members.keys() - {MANIFEST}))
        raise ValueError(f"its manifest and its members differ in {', '.join(odd[:4])}.")
    for name, expected in sums.items():
        digest = hashlib.sha256()
        with reader.open(members[name]) as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        if digest.hexdigest() != expected:
            raise ValueError(f"its member {name} is damaged (other SHA-256 than in the manifest).")


def _text(reader: _Reader, member: Member, most: int = 16 << 20) -> str:
    with reader.open(member) as file:
        return file.read(most).decode("utf-8")


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
