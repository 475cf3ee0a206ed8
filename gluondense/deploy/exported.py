"""What an export consists of, and how it becomes a block again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

import mxnet as mx
from mxnet import gluon

from .graph import INPUT
from .native import load
from .onnx_block import OnnxBlock

FORMAT = 1
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
        Of the ``symbol`` and the ``params`` file, or of the ``model``.
    quantization
        Of a target of 8 bits: how it was calibrated, which layers stayed in float, and what it
        changed for the calibration's images; else None.
    preprocess, output, params_dtype
        What the graph takes and gives, as :func:`gluondense.export` was told: pixels (N, H, W, C)
        where ``preprocess`` is true.
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
    preprocess: bool = False
    output: str = "logits"
    params_dtype: str = "float32"


def load_exported(path: str | os.PathLike[str], ctx: mx.Context | None = None) -> gluon.Block:
    """Load an export as a block, after verifying its files.

    Parameters
    ----------
    path
        The prefix that :func:`gluondense.export` got, or any of the files.
    ctx
        Device; MXNet's current context by default. ONNX models run on the CPU.

    Returns
    -------
    SymbolBlock or OnnxBlock
        The first is hybridized into a static graph, the second is run by ONNX Runtime. Its
        ``metadata`` is the :class:`ExportMetadata`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged or of a newer format.
    """
    prefix = os.fspath(path)
    for suffix in (*SUFFIXES, ONNX_SUFFIX):
        if prefix.endswith(suffix):
            prefix = prefix[: -len(suffix)]
            break
    about = ExportedFiles.of(prefix).metadata
    _check_exists(prefix, about)
    metadata = read_metadata(about)
    files = files_of(metadata.target, prefix)
    for name, expected in metadata.sha256.items():
        file = getattr(files, name)
        _check_exists(prefix, file)
        if _sha256(file) != expected:
            raise ValueError(
                f"{file} is damaged (its SHA-256 is not that of {files.metadata.name}): "
                "copy it or export it again."
            )
    if metadata.target.startswith("native"):
        load()  # built from this source: nothing of the export is executed
    block = import_block(files, ctx or mx.current_context())
    if isinstance(block, gluon.SymbolBlock):
        block.hybridize(static_alloc=True, static_shape=True)
    block.metadata = metadata
    return block


def files_of(target: str, prefix: str | os.PathLike[str]) -> Files:
    """Name the files that an export for a target consists of."""
    return (OnnxFiles if target.startswith("onnx") else ExportedFiles).of(prefix)


def _check_exists(prefix: str, file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"{prefix} is not an export: there is no file {file}.")


def import_block(files: Files, ctx: mx.Context) -> gluon.Block:
    """Load the symbol and the params file, or the model, as a block, unverified."""
    if isinstance(files, OnnxFiles):
        return OnnxBlock(files.model)
    with warnings.catch_warnings():
        # MXNet wonders about the input's type before it has read that of the parameters.
        warnings.filterwarnings("ignore", "Cannot decide type for the following arguments")
        return gluon.SymbolBlock.imports(str(files.symbol), [INPUT], str(files.params), ctx=ctx)


def write_metadata(files: Files, metadata: ExportMetadata) -> None:
    """Write the description of files that are there."""
    names = [field.name for field in dataclasses.fields(files) if field.name != "metadata"]
    sums = {name: _sha256(getattr(files, name)) for name in names}
    content = {"format": FORMAT, **dataclasses.asdict(metadata), "sha256": sums}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    files.metadata.write_text(text, encoding="utf-8")


def read_metadata(path: Path) -> ExportMetadata:
    """Read the description of an export.

    Raises
    ------
    ValueError
        If it is none, or of a newer format.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        written = content.pop("format")
        if written == FORMAT:
            metadata = ExportMetadata(**{key: _frozen(value) for key, value in content.items()})
            if set(metadata.sha256) in ({"symbol", "params"}, {"model"}):
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
