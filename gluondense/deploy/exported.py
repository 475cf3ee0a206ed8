"""What an export consists of, and how it becomes a block again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mxnet as mx
from mxnet import gluon

from .graph import INPUT
from .native import load

FORMAT = 1
SUFFIXES = ("-symbol.json", "-0000.params", ".json")


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
        return Path(f"{self.prefix}-native.so")

    @property
    def prefix(self) -> str:
        """What ``mx.mod.Module.load`` takes."""
        return str(self.metadata)[: -len(SUFFIXES[2])]

    def __iter__(self) -> Iterator[Path]:
        return iter((self.symbol, self.params, self.metadata))


@dataclasses.dataclass(frozen=True)
class ExportMetadata:
    """What an export says about itself.

    Parameters
    ----------
    model, spec
        Registry name and all fields of the network's spec; None for a block of the user's own.
    target
        The kind of graph: a key of ``TARGETS``.
    input_name, input_shape
        Name of the graph's input, and the shape (N, C, H, W) that it was exported with.
    outputs
        Names of the graph's outputs.
    class_names, mean, std
        What the outputs mean, and what pixels in [0, 1] were normalized with; None if not given.
    versions
        Of the software that wrote it.
    sha256
        Of the ``symbol`` and the ``params`` file.
    quantization
        Of a target of 8 bits: how it was calibrated, which layers stayed in float, and what it
        changed for the calibration's images; else None.
    """

    model: str | None
    spec: dict[str, Any] | None
    target: str
    input_name: str
    input_shape: tuple[int, ...]
    outputs: tuple[str, ...]
    class_names: tuple[str, ...] | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    versions: dict[str, str]
    sha256: dict[str, str]
    quantization: dict[str, Any] | None = None


def load_exported(path: str | os.PathLike[str], ctx: mx.Context | None = None) -> gluon.SymbolBlock:
    """Load an export as a block, after verifying its files.

    Parameters
    ----------
    path
        The prefix that :func:`gluondense.export` got, or any of the three files.
    ctx
        Device; MXNet's current context by default.

    Returns
    -------
    SymbolBlock
        Hybridized into a static graph; its ``metadata`` is the :class:`ExportMetadata`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged or of a newer format.
    """
    prefix = os.fspath(path)
    for suffix in SUFFIXES:
        if prefix.endswith(suffix):
            prefix = prefix[: -len(suffix)]
            break
    files = ExportedFiles.of(prefix)
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{prefix} is not an export: there is no file {file}.")
    metadata = _read_metadata(files.metadata)
    for file, expected in zip(files, (metadata.sha256[name] for name in ("symbol", "params"))):
        if _sha256(file) != expected:
            raise ValueError(
                f"{file} is damaged (its SHA-256 is not that of {files.metadata.name}): "
                "copy it or export it again."
            )
    if metadata.target.startswith("native"):
        load()  # built from this source: nothing of the export is executed
    block = import_block(files, ctx or mx.current_context())
    block.hybridize(static_alloc=True, static_shape=True)
    block.metadata = metadata
    return block


def import_block(files: ExportedFiles, ctx: mx.Context) -> gluon.SymbolBlock:
    """Load the symbol and the params file as a block, unverified."""
    with warnings.catch_warnings():
        # MXNet wonders about the input's type before it has read that of the parameters.
        warnings.filterwarnings("ignore", "Cannot decide type for the following arguments")
        return gluon.SymbolBlock.imports(str(files.symbol), [INPUT], str(files.params), ctx=ctx)


def write_metadata(files: ExportedFiles, metadata: ExportMetadata) -> None:
    """Write the description of two files that are there."""
    sums = {"symbol": _sha256(files.symbol), "params": _sha256(files.params)}
    content = {"format": FORMAT, **dataclasses.asdict(metadata), "sha256": sums}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    files.metadata.write_text(text, encoding="utf-8")


def _read_metadata(path: Path) -> ExportMetadata:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        written = content.pop("format")
        if written == FORMAT:
            metadata = ExportMetadata(**{key: _frozen(value) for key, value in content.items()})
            if {"symbol", "params"} <= set(metadata.sha256):
                return metadata
            raise KeyError("sha256")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not describe an export ({' '.join(str(error).split())}): export again."
        ) from None
    raise ValueError(f"{path} has format {written}, this gluondense reads {FORMAT}: update it.")


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
