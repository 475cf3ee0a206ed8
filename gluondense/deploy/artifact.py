# SPDX-License-Identifier: Apache-2.0
"""Exports on disk: metadata, verification and loading as a block."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import mxnet as mx
from mxnet import gluon

from ..data.preprocessing import Preprocessing
from ..errors import check, in_one_line
from ..files import json_sha256, sha256
from ..graph.trace import INPUT
from ..models.registry import SPECS, get_spec
from ..models.spec import NetworkSpec
from ..native.build import load
from ..text import read_json
from ..weights.formats.open import open_weights
from .artifact_files import (
    ONNX_SUFFIX,
    SUFFIXES,
    Files,
    OnnxFiles,
    content_files,
    files_of,
    is_native,
    prefix_of,
)
from .device import choose_device
from .metadata_schema import check_fields
from .onnx.block import OnnxBlock
from .serving.unpack import is_archive, unpack

FORMAT = 2  # 1 has no preprocessing and no checksum of the metadata


@dataclasses.dataclass(frozen=True)
class ExportMetadata:
    """Description of an export, stored as JSON beside its files.

    Parameters
    ----------
    model, spec
        Registry name and all spec fields of the network; None for other HybridBlocks.
    target
        A key of ``TARGETS``.
    input_name, input_shape
        Name of the graph's input, and the shape (N, C, H, W) for which it was exported.
    outputs, output_shapes
        Names of the graph's outputs, and their shapes for ``input_shape``.
    class_names
        A label for each output, if known.
    preprocessing
        Preprocessing of images, None if it is unknown. That of format 1 resizes both sides, as
        earlier versions did.
    versions
        Versions of the software that wrote the export.
    sha256
        Checksums of the ``symbol``, ``params`` and ``library`` files, or of the ``model``.
    quantization
        For int8 targets: the calibration, the layers excluded from quantization (``kept``) and the
        quantization error on the calibration images. None for float targets.
    preprocess, output, params_dtype
        Arguments of :func:`gluondense.export`. With ``preprocess`` the graph's input is pixels
        (N, H, W, C) after resize and crop.
    task, thresholds
        ``"classification"``, or ``"multi_label"`` with the probability from which on each label is
        present, 0.5 if they are None.
    """

    model: str | None
    spec: dict[str, Any] | None
    target: str
    input_name: str
    input_shape: tuple[int, ...]
    outputs: tuple[str, ...]
    class_names: tuple[str, ...] | None
    preprocessing: Preprocessing | None
    versions: dict[str, str]
    sha256: dict[str, str]
    quantization: dict[str, Any] | None = None
    preprocess: bool = False
    output: str = "logits"
    params_dtype: str = "float32"
    output_shapes: tuple[tuple[int, ...], ...] = ()
    task: str = "classification"
    thresholds: tuple[float, ...] | None = None

    @property
    def mean(self) -> tuple[float, ...] | None:
        """Mean of each channel, for pixels in [0, 1], if known."""
        return self.preprocessing.mean if self.preprocessing else None

    @property
    def std(self) -> tuple[float, ...] | None:
        """Standard deviation of each channel, if known."""
        return self.preprocessing.std if self.preprocessing else None

    def network_spec(self) -> NetworkSpec | None:
        """Return the network's spec; None if it is none of ours."""
        if self.model not in SPECS or self.spec is None:
            return None
        known = {field.name for field in dataclasses.fields(SPECS[self.model])}
        return get_spec(self.model, **{k: v for k, v in self.spec.items() if k in known})


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
        load()  # compiled from this source; the library of the export is not executed
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
    _check_exists(prefix, described)
    metadata = read_metadata(described)
    files = files_of(metadata.target, prefix)
    for name, file in content_files(files, metadata.target).items():
        if name == "library" and (not library or name not in metadata.sha256):
            continue
        _check_exists(prefix, file)
        if sha256(file) != metadata.sha256.get(name):
            raise ValueError(
                f"{file} is damaged (its SHA-256 is not that of {files.metadata.name}): "
                "copy it or export it again."
            )
    return files, metadata


def is_export(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is the prefix of an existing export, one of its files or an archive.

    ``-0000.params`` alone may also be a checkpoint of another library.
    """
    if Path(path).is_file() and is_archive(path):
        return True
    symbol, _, metadata = SUFFIXES
    prefix = prefix_of(path)
    return any(Path(f"{prefix}{suffix}").is_file() for suffix in (symbol, metadata, ONNX_SUFFIX))


def _check_exists(prefix: str, file: Path) -> None:
    if not file.is_file():
        hint = "."
        if Path(prefix, "config.json").is_file():
            hint = f"; it is a run, so export it first: gluondense export {prefix}"
        elif Path(prefix).is_file():
            hint = f"; export a weights file first: gluondense export {prefix} --model NAME"
        raise FileNotFoundError(f"{prefix} is not an export: there is no file {file}{hint}")


def import_block(files: Files, ctx: mx.Context) -> gluon.Block:
    """Load the graph and the parameters, or the model, as a block without verification.

    Raises a ValueError if MXNet or ONNX Runtime can't read them.
    """
    if isinstance(files, OnnxFiles):
        return OnnxBlock(files.model)
    open_weights(files.params).close()  # MXNet's reader trusts the sizes in a file
    try:
        with warnings.catch_warnings():
            # MXNet infers the type of the input before it knows the types of the parameters.
            warnings.filterwarnings("ignore", "Cannot decide type for the following arguments")
            return gluon.SymbolBlock.imports(str(files.symbol), [INPUT], str(files.params), ctx=ctx)
    except (mx.MXNetError, AssertionError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{files.symbol} is not a graph of MXNet with the parameters of {files.params.name} "
            f"({in_one_line(error)}): export again."
        ) from None


def write_metadata(files: Files, metadata: ExportMetadata) -> None:
    """Write the metadata with the checksums of the other files, which must exist."""
    sums = {n: sha256(file) for n, file in content_files(files, metadata.target).items()}
    content = {"format": FORMAT, **dataclasses.asdict(metadata), "sha256": sums}
    content |= {"mean": metadata.mean, "std": metadata.std}  # for other readers
    content["content_sha256"] = json_sha256(content)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    files.metadata.write_text(text, encoding="utf-8")


def read_metadata(path: Path) -> ExportMetadata:
    """Read and check the metadata of an export.

    A ValueError tells that it is none, is damaged, or has a newer format.
    """
    try:
        content = read_json(path)
        check("the content", type(content).__name__, "an object", isinstance(content, dict))
        written = content.get("format")
        if written in (1, FORMAT):
            return _parse(content)
    except ValueError as error:
        reason = in_one_line(error).rstrip(".")
        raise ValueError(f"{path} does not describe an export ({reason}): export again.") from None
    raise ValueError(
        f"{path} has format {in_one_line(written)}, this gluondense reads 1 to {FORMAT}: update it."
    )


def _parse(content: dict[str, Any]) -> ExportMetadata:
    """Check the content of a metadata file of a known format, and make the metadata of it."""
    written, mean, std = content.pop("format"), content.pop("mean", None), content.pop("std", None)
    if written == 1:
        content["preprocessing"] = None
        shape = content.get("input_shape")
        if mean is not None and std is not None and isinstance(shape, list) and len(shape) == 4:
            stretched = Preprocessing.stretched(mean, std, (shape[2], shape[3]))
            content["preprocessing"] = stretched.to_dict()
    else:
        expected = content.pop("content_sha256", None)
        everything = {"format": written, "mean": mean, "std": std, **content}
        if json_sha256(everything) != expected:
            raise ValueError("its content is not that of its content_sha256: it is damaged")
    check_fields(content)
    preprocessing = content.pop("preprocessing")
    values = {key: _frozen(value) for key, value in content.items()}
    if preprocessing is not None:
        preprocessing = Preprocessing.from_dict(preprocessing)
    metadata = ExportMetadata(preprocessing=preprocessing, **values)
    metadata.network_spec()  # checks its fields
    return metadata


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
