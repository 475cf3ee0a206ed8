"""What an export consists of, and how it becomes a block again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import mxnet as mx
from mxnet import gluon

from ..graph.trace import INPUT
from ..native.program import load
from .artifact_files import ONNX_SUFFIX, SUFFIXES, ExportedFiles, Files, OnnxFiles, files_of
from .onnx.block import OnnxBlock
from .serving.unpack import is_archive, unpack

FORMAT = 1


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
    outputs, output_shapes
        Names of the graph's outputs, and their shapes for ``input_shape``.
    class_names, mean, std
        What the outputs mean, and what pixels in [0, 1] were normalized with; None if not given.
    versions
        Of the software that wrote it.
    sha256
        Of the ``symbol`` and the ``params`` file and the ``library``, or of the ``model``.
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
    output_shapes: tuple[tuple[int, ...], ...] = ()


def load_exported(path: str | os.PathLike[str], ctx: mx.Context | None = None) -> gluon.Block:
    """Load an export as a block, after verifying its files.

    Parameters
    ----------
    path
        The prefix that :func:`gluondense.export` got, any of the files, or an archive of
        :func:`gluondense.deploy.serving.archive`. Nothing that lies there is executed.
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
    if is_archive(path):
        with tempfile.TemporaryDirectory() as folder:
            return load_exported(unpack(path, folder).prefix, ctx)
    files, metadata = open_export(path)
    if metadata.target.startswith("native"):
        load()  # built from this source: nothing of the export is executed
    block = import_block(files, ctx or mx.current_context())
    if isinstance(block, gluon.SymbolBlock):
        block.hybridize(static_alloc=True, static_shape=True)
    block.metadata = metadata
    return block


def open_export(
    path: str | os.PathLike[str], library: bool = False
) -> tuple[Files, ExportMetadata]:
    """Find an export's files and verify them.

    Parameters
    ----------
    path
        Its prefix or any of its files.
    library
        Whether a native export's library is to be there too.

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
        if name == "library" and not library:
            continue
        _check_exists(prefix, file)
        if _sha256(file) != expected:
            raise ValueError(
                f"{file} is damaged (its SHA-256 is not that of {files.metadata.name}): "
                "copy it or export it again."
            )
    return files, metadata


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
    names += ["library"] if metadata.target.startswith("native") else []
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
            if set(metadata.sha256) - {"library"} in ({"symbol", "params"}, {"model"}):
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
