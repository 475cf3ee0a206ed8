# SPDX-License-Identifier: Apache-2.0
"""Archives of exports for model servers."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Union

from ...errors import closest
from ...files import fsync, stream_sha256, temporary_folder
from ..artifact import open_export
from ..artifact_files import ExportedFiles, content_files, enter_writable, is_native
from ..metadata import ExportMetadata
from .unpack import MANIFEST

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
Members = dict[str, Union[str, Path]]

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
    server, takes_native
        Name of the server, and whether it can load the library of a native export.
    extra_members
        Returns the members in addition to the export's files, as texts or paths, for the prefix of
        the export in the archive and its metadata.
    prefix
        Prefix of the export's files in the archive; None for the archive's name.
    """

    server: str
    extra_members: Callable[[str, ExportMetadata], Members]
    prefix: str | None = None
    takes_native: bool = False


def archive(exported: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Pack an export into an archive; its suffix selects the server.

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
        predictors of Scala and Java.

    Returns
    -------
    Path
        The archive.

    Raises
    ------
    ValueError
        If the export is damaged or not supported by the server, or the archive's name is invalid.
    OSError
        If a file of the export is missing, or the archive cannot be written.
    """
    path = Path(path)
    suffix = next((suffix for suffix in ARCHIVES if path.name.endswith(suffix)), None)
    if suffix is None:
        raise ValueError(
            f"path (={str(path)!r}) must end with one of {', '.join(ARCHIVES)}"
            f"{closest(path.suffix, ARCHIVES)}, which selects the server."
        )
    name = path.name[: -len(suffix)]
    if not NAME.fullmatch(name):
        raise ValueError(
            f"path (={str(path)!r}) names the model {name!r}, which must consist of letters, "
            "digits and ._- and begin with a letter or digit: it becomes a part of URLs."
        )
    kind = ARCHIVES[suffix]
    files, metadata = open_export(exported, library=kind.takes_native)
    problem = ""
    if not isinstance(files, ExportedFiles):
        problem = f"is no MXNet graph, which {kind.server} needs"
    elif is_native(metadata.target) and not kind.takes_native:
        problem = f"needs mx.library.load, which {kind.server} does not call"
    if problem:
        raise ValueError(f"target={metadata.target!r} {problem}: export another target.")
    prefix = kind.prefix or name
    sources = (*content_files(files, metadata.target).values(), files.metadata)
    members: Members = {f"{prefix}{str(file)[len(files.prefix) :]}": file for file in sources}
    members |= kind.extra_members(prefix, metadata)
    if suffix == ".mar":
        members[MANIFEST] = _mms_manifest(name, members)
    write = _write_tar if suffix == ".tar.gz" else _write_zip
    with ExitStack() as stack:
        context = temporary_folder(path.parent, path.name)
        folder = enter_writable(stack, context, path.parent, "name another path")
        write(folder / path.name, members)
        fsync(folder / path.name)
        os.replace(folder / path.name, path)
    return path


def _mms(name: str, metadata: ExportMetadata) -> Members:
    _check_served(metadata)
    return {
        **_djl(name, metadata),
        "mms_service.py": f"from {SERVED_AS}.deploy.serving.service import handle  # noqa: F401\n",
        **_served("", PREPARE, *SERVED),
    }


def _served(folder: str, init: str, *modules: str) -> Members:
    """Return the package of the service's modules, below a folder of the archive."""
    package = f"{folder}{SERVED_AS}"
    files: Members = {f"{package}/{module}": PACKAGE / module for module in modules}
    empty: Members = {f"{package}/{name}/__init__.py": "" for name in EMPTY}
    return {f"{package}/__init__.py": init, **files, **empty}


def _sagemaker(name: str, metadata: ExportMetadata) -> Members:
    shapes = [{"name": metadata.input_name, "shape": _shape(metadata, batch=1)}]
    members: Members = {f"{name}-shapes.json": _json(shapes), "synset.txt": _synset(metadata)}
    try:
        _check_served(metadata)
    except ValueError:  # the containers' default handler takes arrays
        return members
    entry = f"from {SERVED_AS}.deploy.serving.sagemaker import model_fn, transform_fn  # noqa: F401"
    served = _served("code/", "", *SERVED, "deploy/serving/sagemaker.py")
    return {**members, "code/inference.py": f"{entry}\n", **served}


def _djl(name: str, metadata: ExportMetadata) -> Members:
    return {"signature.json": _signature(metadata), "synset.txt": _synset(metadata)}


ARCHIVES: dict[str, ArchiveKind] = {
    ".mar": ArchiveKind("multi-model-server", _mms, takes_native=True),
    ".tar.gz": ArchiveKind("SageMaker's MXNet container", _sagemaker, prefix="model"),
    ".zip": ArchiveKind("DJL", _djl),
}


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
            member: stream_sha256(io.BytesIO(_bytes(content)))
            for member, content in sorted(members.items())
        },
    }
    return _json(content)


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _bytes(content: str | Path) -> bytes:
    return content.encode() if isinstance(content, str) else content.read_bytes()


def _write_zip(path: Path, members: Members) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, content in sorted(members.items()):
            info = zipfile.ZipInfo(name)  # with a constant date, so that the bytes are reproducible
            info.external_attr = 0o100644 << 16
            packed.writestr(info, _bytes(content), zipfile.ZIP_DEFLATED, compresslevel=1)


def _write_tar(path: Path, members: Members) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in sorted(members.items()):
            info, data = tarfile.TarInfo(name), _bytes(content)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(gzip.compress(packed.getvalue(), 1, mtime=0))
