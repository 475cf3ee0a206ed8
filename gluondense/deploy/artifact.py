# SPDX-License-Identifier: Apache-2.0
"""Exports on disk: verification, and loading as a block."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import mxnet as mx
from mxnet import gluon

from ..errors import in_one_line
from ..graph.trace import INPUT
from ..native.build import BOXES, OPERATOR, load
from ..weights.formats.open import open_weights
from .artifact_files import (
    ONNX_SUFFIX,
    SUFFIXES,
    Files,
    OnnxFiles,
    check_exists,
    content_files,
    files_of,
    is_native,
    prefix_of,
    verify_file,
)
from .device import choose_device
from .metadata import ExportMetadata, read_metadata
from .onnx.block import OnnxBlock
from .serving.unpack import is_archive, unpack


def load_exported(path: str | os.PathLike[str], ctx: mx.Context | None = None) -> gluon.Block:
    """Verify the files of an export and load them as a block.

    Parameters
    ----------
    path
        The prefix that was passed to :func:`gluondense.export`, any of the files, or an archive of
        :func:`gluondense.deploy.archive`. No code in the files is executed.
    ctx
        Device; MXNet's current context by default. Only exports to ``portable`` run on GPUs: others
        run on the CPU, and a warning in the log says so.

    Returns
    -------
    SymbolBlock or OnnxBlock
        A SymbolBlock is hybridized with a static graph; an OnnxBlock runs in ONNX Runtime. The
        attribute ``metadata`` is the :class:`ExportMetadata`.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing; if one is damaged or has a newer format.
    """
    if is_archive(path):
        with tempfile.TemporaryDirectory() as folder:
            prefix = unpack(path, folder).prefix
            try:
                return load_exported(prefix, ctx)
            except ValueError as error:
                reason = str(error).replace(f"{folder}{os.sep}", "")
                raise ValueError(f"{os.fspath(path)}: {reason}") from None
    files, metadata = open_export(path)
    if is_native(metadata.target):
        # Compiled from this source; the library of the export is not executed.
        load(BOXES if metadata.task == "detection" else OPERATOR)
    device = choose_device(metadata.target, ctx or mx.current_context())
    block = import_block(files, device)
    if isinstance(block, gluon.SymbolBlock):
        block.hybridize(static_alloc=True, static_shape=True)
    block.metadata = metadata
    return block


def open_export(
    path: str | os.PathLike[str], library: bool = False
) -> tuple[Files, ExportMetadata]:
    """Find and verify the files of an export; errors are those of :func:`load_exported`.

    Parameters
    ----------
    path
        The prefix or any of the files.
    library
        Whether to require and verify the library of a native export too.
    """
    prefix = prefix_of(path)
    described = files_of("", prefix).metadata  # it is the same for all targets
    check_exists(prefix, described)
    metadata = checked_metadata(described)
    files = files_of(metadata.target, prefix)
    for name, file in content_files(files, metadata.target).items():
        if name == "library" and (not library or name not in metadata.sha256):
            continue
        verify_file(prefix, file, metadata.sha256.get(name))
    return files, metadata


def checked_metadata(path: Path) -> ExportMetadata:
    """Read the metadata of an export, and check the fields of its network too.

    A ValueError names the file.
    """
    metadata = read_metadata(path)
    try:
        metadata.network_spec()
    except ValueError as error:
        raise ValueError(f"{path} describes no network ({error}): export again.") from None
    return metadata


def is_export(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is the prefix of an existing export, one of its files or an archive.

    ``-0000.params`` alone may also be a checkpoint of another library.
    """
    if Path(path).is_file() and is_archive(path):
        return True
    symbol, _, metadata = SUFFIXES
    prefix = prefix_of(path)
    return any(Path(f"{prefix}{suffix}").is_file() for suffix in (symbol, metadata, ONNX_SUFFIX))


def import_block(files: Files, ctx: mx.Context, tensors: Sequence[str] = ()) -> gluon.Block:
    """Load the graph and the parameters, or the model, as a block without verification.

    ``tensors`` are the names of the outputs, by default those of the graph. Raises a ValueError if
    MXNet or ONNX Runtime can't read the files.
    """
    if isinstance(files, OnnxFiles):
        return OnnxBlock(files.model, tensors)
    open_weights(files.params).close()  # MXNet's reader trusts the sizes in a file
    try:
        with warnings.catch_warnings():
            # MXNet infers the type of the input before it knows the types of the parameters.
            warnings.filterwarnings("ignore", "Cannot decide type for the following arguments")
            if not tensors:
                files_of_block = (str(files.symbol), [INPUT], str(files.params))
                return gluon.SymbolBlock.imports(*files_of_block, ctx=ctx)
            internals = mx.sym.load(str(files.symbol)).get_internals()
            outputs = mx.sym.Group([internals[name] for name in tensors])
            block = gluon.SymbolBlock(outputs, [mx.sym.var(INPUT)])
            block.collect_params().load(
                str(files.params), ctx=ctx, cast_dtype=True, dtype_source="saved", ignore_extra=True
            )
            return block
    except (mx.MXNetError, AssertionError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{files.symbol} is not a graph of MXNet with the parameters of {files.params.name} "
            f"({in_one_line(error)}): export again."
        ) from None
