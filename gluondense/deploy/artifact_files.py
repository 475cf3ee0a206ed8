"""The files of an export."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union

SUFFIXES = ("-symbol.json", "-0000.params", ".json")
LIBRARY_SUFFIX = "-native.so"
ONNX_SUFFIX = ".onnx"


@dataclasses.dataclass(frozen=True)
class ExportedFiles:
    """The three files of an export: MXNet's two, and gluondense's description of them."""

    symbol: Path
    params: Path
    metadata: Path

    @classmethod
    def of(cls, prefix: str | os.PathLike[str]) -> ExportedFiles:
        """Name the files that begin with a prefix."""
        return cls(*(Path(f"{os.fspath(prefix)}{suffix}") for suffix in SUFFIXES))

    @property
    def library(self) -> Path:
        """The compiled operator that a native export needs beside the three."""
        return Path(f"{self.prefix}{LIBRARY_SUFFIX}")

    @property
    def prefix(self) -> str:
        """What ``mx.mod.Module.load`` takes."""
        return str(self.metadata)[: -len(SUFFIXES[2])]

    def __iter__(self) -> Iterator[Path]:
        return iter((self.symbol, self.params, self.metadata))


@dataclasses.dataclass(frozen=True)
class OnnxFiles:
    """The two files of an ONNX export: the model, and gluondense's description of it."""

    model: Path
    metadata: Path

    @classmethod
    def of(cls, prefix: str | os.PathLike[str]) -> OnnxFiles:
        """Name the files that begin with a prefix."""
        return cls(*(Path(f"{os.fspath(prefix)}{suffix}") for suffix in (ONNX_SUFFIX, SUFFIXES[2])))

    @property
    def prefix(self) -> str:
        """What both begin with."""
        return str(self.metadata)[: -len(SUFFIXES[2])]

    def __iter__(self) -> Iterator[Path]:
        return iter((self.model, self.metadata))


Files = Union[ExportedFiles, OnnxFiles]


def files_of(target: str, prefix: str | os.PathLike[str]) -> Files:
    """Name the files that an export for a target consists of."""
    return (OnnxFiles if target.startswith("onnx") else ExportedFiles).of(prefix)


@contextmanager
def folder_beside(files: Files) -> Iterator[Path]:
    """Make a folder for a while, on the file system of the files.

    Raises
    ------
    ValueError
        If the files have no name.
    OSError
        If it cannot be made.
    """
    goal = files.metadata.parent
    if files.metadata.name == SUFFIXES[2]:
        raise ValueError(f"path (={files.prefix!r}) must end with a name, not with a folder.")
    try:
        goal.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{Path(files.prefix).name}-", dir=goal))
    except OSError as error:
        raise type(error)(
            f"cannot write to {goal} ({error.strerror}): export to another path."
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_in(new: Files, files: Files, spare: Path) -> None:
    """Rename the new files into place; where that fails, all old ones stay."""
    old = [
        shutil.copy2(file, spare / f"old-{file.name}") if file.exists() else None for file in files
    ]
    try:
        library = Path(f"{new.prefix}{LIBRARY_SUFFIX}")
        if library.exists():  # of this source, whatever the network
            os.replace(library, f"{files.prefix}{LIBRARY_SUFFIX}")
        for source, goal in zip(new, files):
            os.replace(source, goal)
    except BaseException:
        for copy, goal in zip(old, files):
            if copy is not None:
                os.replace(copy, goal)
            else:
                goal.unlink(missing_ok=True)
        raise
