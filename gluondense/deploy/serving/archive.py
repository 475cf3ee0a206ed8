# SPDX-License-Identifier: Apache-2.0
"""Archives of exports for model servers."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from ...errors import closest
from ...files import replace_all, stream_sha256, temporary_folder
from ..artifact import open_export
from ..artifact_files import Files, content_files, enter_writable, is_native
from ..metadata import ExportMetadata
from .members import Members, to_bytes, write_folder, write_tar, write_zip
from .triton import CONFIG, LABELS, MODEL, has_labels, model_config
from .unpack import MANIFEST

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

SAGEMAKER = "model"  # the prefix that its containers load

PACKAGE = Path(__file__).resolve().parents[2]
# Modules that the service needs; an archive contains them in a package named SERVED_AS.
SERVED_AS = "gluondense_served"
SERVED = (
    "environment/__init__.py",
    "environment/compat.py",
    "environment/cuda.py",
    "environment/elf.py",
    "environment/gpu.py",
    "environment/mxnet_import.py",
    "environment/process.py",
    "errors.py",
    "files.py",
    "analysis/tasks.py",
    "data/boxes.py",
    "data/detections.py",
    "data/files/image.py",
    "data/pixels.py",
    "data/preprocessing.py",
    "data/transforms/batch.py",
    "deploy/device.py",
    "deploy/native/library.py",
    "deploy/native/network.py",
    "deploy/serving/graph.py",
    "deploy/serving/service.py",
)
EMPTY = (
    *("analysis", "data", "data/files", "data/transforms", "deploy", "deploy/native"),
    "deploy/serving",
)
PREPARE = """\
import os

from . import environment

# Otherwise a request that declares JSON or text kills the worker before the service gets it.
os.environ["MMS_DECODE_INPUT_REQUEST"] = "false"
environment.drop_server_threads()
environment.prepare()  # before MXNet is imported: its library reads the number of threads once
"""


@dataclasses.dataclass(frozen=True)
class ArchiveKind:
    """The archive format of a server.

    Parameters
    ----------
    server, takes_native, takes_onnx
        Name of the server, whether it can load the library of a native export, and whether it runs
        ONNX models instead of MXNet's graphs.
    extra_members
        Returns the members in addition to the export's files, as texts or paths, for the archive's
        name, the export's files and its metadata.
    write
        Writes the members to a new path.
    prefix
        Prefix of the export's files in the archive; None for the archive's name.
    """

    server: str
    extra_members: Callable[[str, Files, ExportMetadata], Members]
    write: Callable[[Path, Members], None]
    prefix: str | None = None
    takes_native: bool = False
    takes_onnx: bool = False


def archive(exported: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Pack an export into an archive; the ending of its path selects the server.

    The archive is written to a temporary file and renamed. Equal exports give equal bytes.

    Parameters
    ----------
    exported
        The prefix that was passed to :func:`gluondense.export`, or one of the files. The files are
        verified.
    path
        ``NAME.mar`` for multi-model-server, with a service that decodes, resizes and batches images
        and returns the most probable classes; ``NAME.tar.gz`` for SageMaker's MXNet containers,
        with inference code for images and arrays; ``NAME.zip`` for DJL, and unpacked for the
        predictors of Scala and Java; ``NAME/``, a folder, for Triton, which takes ONNX exports: the
        model ``NAME`` of the model repository that contains the folder. Other files in an existing
        folder are kept.

    Returns
    -------
    Path
        The archive or the folder.

    Raises
    ------
    ValueError
        If the export is damaged or not supported by the server, or the archive's name is invalid.
    OSError
        If a file of the export is missing, or the archive cannot be written.
    """
    suffix, kind = kind_of(path)
    name = os.fspath(path).removesuffix(suffix).rpartition(os.sep)[2]
    path = Path(path)
    if not NAME.fullmatch(name):
        raise ValueError(
            f"path (={str(path)!r}) names the model {name!r}, which must consist of letters, "
            "digits and ._- and begin with a letter or digit: it becomes a part of URLs."
        )
    files, metadata = open_export(exported, library=kind.takes_native)
    _check_kind(kind, metadata.target)
    prefix = kind.prefix or name
    sources = (*content_files(files, metadata.target).values(), files.metadata)
    members: Members = {f"{prefix}{str(file)[len(files.prefix) :]}": file for file in sources}
    members |= kind.extra_members(name, files, metadata)
    if suffix == ".mar":
        members[MANIFEST] = _mms_manifest(name, members)
    with ExitStack() as stack:
        context = temporary_folder(path.parent, path.name)
        folder = enter_writable(stack, context, path.parent, "name another path")
        new = folder / path.name
        kind.write(new, members)
        written = sorted(file for file in new.rglob("*") if file.is_file()) or [new]
        pairs = [(file, path / file.relative_to(new)) for file in written]
        for _, target in pairs:
            target.parent.mkdir(parents=True, exist_ok=True)
        replace_all(pairs, backup=folder)
    return path


def kind_of(path: str | os.PathLike[str]) -> tuple[str, ArchiveKind]:
    """Return the ending of an archive's path and what it selects; a ValueError lists the known."""
    text = os.fspath(path)
    found = next((suffix for suffix in ARCHIVES if text.endswith(suffix)), None)
    if found is None:
        raise ValueError(
            f"path (={text!r}) must end with one of {', '.join(ARCHIVES)}"
            f"{closest(Path(text).suffix, ARCHIVES)}, which selects the server."
        )
    return found, ARCHIVES[found]


def _check_kind(kind: ArchiveKind, target: str) -> None:
    problem = ""
    if target.startswith("onnx") != kind.takes_onnx:
        needed = "ONNX model" if kind.takes_onnx else "MXNet graph"
        problem = f"is no {needed}, which {kind.server} needs"
    elif is_native(target) and not kind.takes_native:
        problem = f"needs mx.library.load, which {kind.server} does not call"
    if problem:
        raise ValueError(f"target={target!r} {problem}: export another target.")


def _mms(name: str, files: Files, metadata: ExportMetadata) -> Members:
    _check_served(metadata)
    return {
        **_djl(name, files, metadata),
        "mms_service.py": f"from {SERVED_AS}.deploy.serving.service import handle  # noqa: F401\n",
        **_served("", PREPARE, *SERVED),
    }


def _served(folder: str, init: str, *modules: str) -> Members:
    """Return the package of the service's modules, below a folder of the archive."""
    package = f"{folder}{SERVED_AS}"
    files: Members = {f"{package}/{module}": PACKAGE / module for module in modules}
    empty: Members = {f"{package}/{name}/__init__.py": "" for name in EMPTY}
    return {f"{package}/__init__.py": init, **files, **empty}


def _sagemaker(name: str, files: Files, metadata: ExportMetadata) -> Members:
    shapes = [{"name": metadata.input_name, "shape": _shape(metadata, batch=1)}]
    members: Members = {f"{SAGEMAKER}-shapes.json": _json(shapes), "synset.txt": _synset(metadata)}
    try:
        _check_served(metadata)
    except ValueError:  # the containers' default handler takes arrays
        return members
    entry = f"from {SERVED_AS}.deploy.serving.sagemaker import model_fn, transform_fn  # noqa: F401"
    served = _served("code/", "", *SERVED, "deploy/serving/sagemaker.py")
    return {**members, "code/inference.py": f"{entry}\n", **served}


def _djl(name: str, files: Files, metadata: ExportMetadata) -> Members:
    return {"signature.json": _signature(metadata), "synset.txt": _synset(metadata)}


def _triton(name: str, files: Files, metadata: ExportMetadata) -> Members:
    model = content_files(files, metadata.target)["model"]
    labels: Members = {LABELS: _synset(metadata)} if has_labels(metadata) else {}
    return {CONFIG: model_config(name, model, metadata), **labels}


def _check_served(metadata: ExportMetadata) -> None:
    shape = metadata.input_shape
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise ValueError(
            f"the service reads grayscale or RGB images, but the export takes {shape}."
        )
    is_detector = metadata.task == "detection"
    if [len(each) for each in metadata.output_shapes] != ([3] * 3 if is_detector else [2]):
        raise ValueError(
            f"the service answers with classes, features or boxes, but the export gives "
            f"{', '.join(map(str, metadata.output_shapes)) or 'unknown shapes: export again'}."
        )
    if metadata.preprocessing is None:
        raise ValueError(
            "the preprocessing of the export is unknown: export again with it, at least with mean "
            "and std."
        )


def _shape(metadata: ExportMetadata, batch: int) -> list[int]:
    channels, *sides = metadata.input_shape[1:]
    return [batch, *sides, channels] if metadata.preprocess else [batch, channels, *sides]


def _signature(metadata: ExportMetadata) -> str:
    outputs = [
        {"data_name": name, "data_shape": [0, *shape[1:]]}
        for name, shape in zip(metadata.outputs, metadata.output_shapes)
    ]
    inputs = [{"data_name": metadata.input_name, "data_shape": _shape(metadata, batch=0)}]
    content = {"inputs": inputs, "input_type": "image/jpeg", "outputs": outputs}
    return _json({**content, "output_type": "application/json"})


def _synset(metadata: ExportMetadata) -> str:
    """Return one label per line, or the indices of the outputs if there are no labels."""
    known = metadata.output_shapes and metadata.task != "detection"
    count = metadata.output_shapes[0][-1] if known else 0
    names = metadata.class_names or map(str, range(count))
    return "".join(" ".join(name.split()) + "\n" for name in names)


def _mms_manifest(name: str, members: Mapping[str, str | Path]) -> str:
    versions = ("specificationVersion", "implementationVersion", "modelServerVersion")
    content = {
        **dict.fromkeys(versions, "1.0"),
        "runtime": "python",
        "engine": {"engineName": "MXNet"},
        "model": {"modelName": name, "handler": "mms_service.py:handle"},
        "sha256": {
            member: stream_sha256(io.BytesIO(to_bytes(content)))
            for member, content in sorted(members.items())
        },
    }
    return _json(content)


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


ARCHIVES: dict[str, ArchiveKind] = {
    ".mar": ArchiveKind("multi-model-server", _mms, write_zip, takes_native=True),
    ".tar.gz": ArchiveKind("SageMaker's MXNet container", _sagemaker, write_tar, SAGEMAKER),
    ".zip": ArchiveKind("DJL", _djl, write_zip),
    os.sep: ArchiveKind("Triton", _triton, write_folder, MODEL, takes_onnx=True),
}
