"""The files of an export."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
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
