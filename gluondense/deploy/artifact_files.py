# SPDX-License-Identifier: Apache-2.0
"""Paths of the files of an export, and their checksums."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar, TypeVar, Union

from ..files import replace_all, sha256, temporary_folder
from .native.library import LIBRARY_SUFFIX

METADATA_SUFFIX = ".json"
SUFFIXES = ("-symbol.json", "-0000.params", METADATA_SUFFIX)
ONNX_SUFFIX = ".onnx"

FilesT = TypeVar("FilesT", bound="_PrefixedFiles")


class _PrefixedFiles:
    """Files whose paths share a prefix; subclasses are dataclasses with a path per suffix."""

    suffixes: ClassVar[tuple[str, ...]]
    metadata: Path

    @classmethod
    def of(cls: type[FilesT], prefix: str | os.PathLike[str]) -> FilesT:
        """Return the paths that start with a prefix."""
        make: Callable[..., FilesT] = cls
        return make(*(Path(f"{os.fspath(prefix)}{suffix}") for suffix in cls.suffixes))

    @property
    def prefix(self) -> str:
        """The common prefix, as ``mx.mod.Module.load`` takes it."""
        return str(self.metadata)[: -len(METADATA_SUFFIX)]

    def __iter__(self) -> Iterator[Path]:
        return (Path(f"{self.prefix}{suffix}") for suffix in self.suffixes)


@dataclasses.dataclass(frozen=True)
class ExportedFiles(_PrefixedFiles):
    """The files of an MXNet export: the graph, the parameters and gluondense's metadata."""

    suffixes = SUFFIXES
    symbol: Path
    params: Path
    metadata: Path

    @property
    def library(self) -> Path:
        """The compiled operator, which native exports have in addition."""
        return Path(f"{self.prefix}{LIBRARY_SUFFIX}")


@dataclasses.dataclass(frozen=True)
class OnnxFiles(_PrefixedFiles):
    """The files of an ONNX export: the model and gluondense's metadata."""

    suffixes = (ONNX_SUFFIX, METADATA_SUFFIX)
    model: Path
    metadata: Path


Files = Union[ExportedFiles, OnnxFiles]


def files_of(target: str, prefix: str | os.PathLike[str]) -> Files:
    """Return the paths of the files of an export to a target."""
    return (OnnxFiles if target.startswith("onnx") else ExportedFiles).of(prefix)


def prefix_of(path: str | os.PathLike[str]) -> str:
    """Return the prefix of an export, of which a path is the prefix or any of the files."""
    prefix = os.fspath(path)
    suffix = next((each for each in (*SUFFIXES, ONNX_SUFFIX) if prefix.endswith(each)), "")
    return prefix.removesuffix(suffix)


def content_files(files: Files, target: str) -> dict[str, Path]:
    """Return all files but the metadata, which records their checksums, by their names there."""
    if isinstance(files, OnnxFiles):
        return {"model": files.model}
    library = {"library": files.library} if is_native(target) else {}
    return {"symbol": files.symbol, "params": files.params, **library}


def is_native(target: str) -> bool:
    """Return whether a target needs the compiled operator."""
    return target.startswith("native")


def check_exists(prefix: str, file: Path) -> None:
    """Raise a FileNotFoundError if a file of an export is missing."""
    if not file.is_file():
        hint = "."
        if Path(prefix, "config.json").is_file():
            hint = f"; it is a run, so export it first: gluondense export {prefix}"
        elif Path(prefix).is_file():
            hint = f"; export a weights file first: gluondense export {prefix} --model NAME"
        raise FileNotFoundError(f"{prefix} is not an export: there is no file {file}{hint}")


def verify_file(prefix: str, file: Path, digest: str | None) -> None:
    """Raise an error if a file of an export is missing or has another SHA-256."""
    check_exists(prefix, file)
    if sha256(file) != digest:
        raise ValueError(
            f"{file} is damaged (its SHA-256 is not that of {Path(prefix).name}{METADATA_SUFFIX}): "
            "copy it or export it again."
        )


def enter_writable(
    stack: ExitStack, context: AbstractContextManager[Path], folder: Path, advice: str
) -> Path:
    """Enter a context that writes to a folder; an OSError names the folder and gives advice."""
    try:
        return stack.enter_context(context)
    except OSError as error:
        raise type(error)(f"cannot write to {folder} ({error.strerror}): {advice}.") from None


@contextmanager
def replacing_export(files: Files, target: str) -> Iterator[Files]:
    """Give temporary paths for an export, which replaces the old one if the block succeeds."""
    parent, name = files.metadata.parent, Path(files.prefix).name
    if files.metadata.name == METADATA_SUFFIX:
        raise ValueError(f"path (={files.prefix!r}) must end with a name, not with a folder.")
    with ExitStack() as stack:
        context = temporary_folder(parent, name)
        folder = enter_writable(stack, context, parent, "export to another path")
        new = files_of(target, folder / name)
        try:
            yield new
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise OSError(
                f"cannot write to {parent} ({error.strerror}), so nothing was written: export to "
                "another path."
            ) from None
        contents = zip(content_files(new, target).values(), content_files(files, target).values())
        replace_all([*contents, (new.metadata, files.metadata)], backup=folder)
