"""Exports packed into the one file that a server takes."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Union

from ...errors import closest
from ..artifact import ExportMetadata, open_export
from ..artifact_files import ExportedFiles
from .unpack import MANIFEST

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
Members = dict[str, Union[str, Path]]

PACKAGE = Path(__file__).resolve().parents[2]
# What of gluondense an archive's service needs; the archive's own package of this name has it.
SERVED_AS = "gluondense_served"
SERVED = (
    "environment/__init__.py",
    "environment/compat.py",
    "environment/mxnet_import.py",
    "environment/process.py",
    "data/files/image.py",
    "data/transforms/batch.py",
    "deploy/serving/service.py",
)
EMPTY = ("data", "data/files", "data/transforms", "deploy", "deploy/serving")
PREPARE = """\
import os

from . import environment

# Else a body that only says to be JSON or text kills the worker before the service sees it.
os.environ["MMS_DECODE_INPUT_REQUEST"] = "false"
environment.drop_server_threads()
environment.prepare()  # before anything imports MXNet: its threads are fixed when its library loads
"""


@dataclasses.dataclass(frozen=True)
class ArchiveKind:
    """A server and what it wants.

    Parameters
    ----------
    server
        Who takes the archive.
    beside
        Makes the members beside the export's own, as texts or files, of the export's name inside
        and its description.
    prefix
        What the export's files are called inside; None: as the archive.
    takes_native
        Whether the server can load a native export's library.
    """

    server: str
    beside: Callable[[str, ExportMetadata], Members]
    prefix: str | None = None
    takes_native: bool = False


def archive(exported: str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Pack an export for a server; what server, the archive's ending says.

    The archive is written beside and renamed into place. Equal exports give equal bytes.

    Parameters
    ----------
    exported
        The prefix that :func:`gluondense.export` got, or one of its files; they are verified.
    path
        ``NAME.mar`` for multi-model-server, with a service that decodes, scales, batches and names
        the likeliest classes; ``NAME.tar.gz`` for SageMaker's MXNet containers; ``NAME.zip`` for
        DJL, and for Scala's and Java's predictors once unpacked.

    Returns
    -------
    Path
        The archive.

    Raises
    ------
    FileNotFoundError
        If a file of the export is missing.
    ValueError
        If the export is damaged or not for such a server, or the archive's name won't do.
    OSError
        If the archive cannot be written.
    """
    path = Path(path)
    ending = next((ending for ending in ARCHIVES if path.name.endswith(ending)), None)
    if ending is None:
        raise ValueError(
            f"path (={str(path)!r}) must end with one of {', '.join(ARCHIVES)}"
            f"{closest(path.suffix, ARCHIVES)}, which says who is to serve it."
        )
    name = path.name[: -len(ending)]
    if not NAME.fullmatch(name):
        raise ValueError(
            f"path (={str(path)!r}) names the model {name!r}, which may have letters, digits and "
            "._- and begins with one of the former: it becomes a part of addresses."
        )
    kind = ARCHIVES[ending]
    files, metadata = open_export(exported, library=kind.takes_native)
    if not isinstance(files, ExportedFiles):
        raise ValueError(
            f"target={metadata.target!r} is no graph of MXNet's, which {kind.server} reads: export "
            "another target."
        )
    if metadata.target.startswith("native") and not kind.takes_native:
        raise ValueError(
            f"target={metadata.target!r} needs mx.library.load, which {kind.server} does not call: "
            "export another target."
        )
    inside = kind.prefix or name
    members = {**_export(files, metadata, inside), **kind.beside(inside, metadata)}
    if ending == ".mar":
        members[MANIFEST] = _mms_manifest(name, members)
    _write(path, members, _write_tar if ending == ".tar.gz" else _write_zip)
    return path


def _export(files: ExportedFiles, metadata: ExportMetadata, name: str) -> Members:
    members: Members = {}
    goals = ExportedFiles.of(name)
    for source, goal in zip(files, goals):
        members[goal.name] = source
    if metadata.target.startswith("native"):
        members[goals.library.name] = files.library
    return members


def _mms(name: str, metadata: ExportMetadata) -> Members:
    _check_served(metadata)
    served: Members = {f"{SERVED_AS}/{file}": PACKAGE / file for file in SERVED}
    served |= {f"{SERVED_AS}/{room}/__init__.py": "" for room in EMPTY}
    return {
        "signature.json": _signature(metadata),
        "synset.txt": _synset(metadata),
        "mms_service.py": f"from {SERVED_AS}.deploy.serving.service import handle  # noqa: F401\n",
        f"{SERVED_AS}/__init__.py": PREPARE,
        **served,
    }


def _sagemaker(name: str, metadata: ExportMetadata) -> Members:
    shapes = [{"name": metadata.input_name, "shape": _shape(metadata, batch=1)}]
    return {f"{name}-shapes.json": _json(shapes), "synset.txt": _synset(metadata)}


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
        raise ValueError(f"the service reads grey or RGB pictures, but the export takes {shape}.")
    if [len(each) for each in metadata.output_shapes] != [2]:
        raise ValueError(
            f"the service answers with classes or features, but the export gives "
            f"{', '.join(map(str, metadata.output_shapes)) or 'no one says what: export again'}."
        )
    if not metadata.preprocess and (metadata.mean is None or metadata.std is None):
        raise ValueError("the export has no mean and std to normalize pictures: export with them.")


def _shape(metadata: ExportMetadata, batch: int) -> list[int]:
    channels, *sides = metadata.input_shape[1:]
    return [batch, *sides, channels] if metadata.preprocess else [batch, channels, *sides]


def _signature(metadata: ExportMetadata) -> str:
    outputs = [
        {"data_name": name, "data_shape": [0, *shape[1:]]}
        for name, shape in zip(metadata.outputs, metadata.output_shapes)
    ]
    return _json(
        {
            "inputs": [{"data_name": metadata.input_name, "data_shape": _shape(metadata, batch=0)}],
            "input_type": "image/jpeg",
            "outputs": outputs,
            "output_type": "application/json",
        }
    )


def _synset(metadata: ExportMetadata) -> str:
    """One label a line, the outputs' numbers where they have no labels."""
    count = metadata.output_shapes[0][-1] if metadata.output_shapes else 0
    names = metadata.class_names or map(str, range(count))
    return "".join(" ".join(name.split()) + "\n" for name in names)


def _mms_manifest(name: str, members: Mapping[str, str | Path]) -> str:
    return _json(
        {
            "specificationVersion": "1.0",
            "implementationVersion": "1.0",
            "modelServerVersion": "1.0",
            "runtime": "python",
            "engine": {"engineName": "MXNet"},
            "model": {"modelName": name, "handler": "mms_service.py:handle"},
            "sha256": {
                member: hashlib.sha256(_bytes(content)).hexdigest()
                for member, content in sorted(members.items())
            },
        }
    )


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _bytes(content: str | Path) -> bytes:
    return content.encode() if isinstance(content, str) else content.read_bytes()


def _write(path: Path, members: Members, write: Callable[[Path, Members], None]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise type(error)(
            f"cannot write to {path.parent} ({error.strerror}): name another path."
        ) from None
    os.close(handle)
    try:
        write(Path(beside), members)
        os.chmod(beside, 0o644)  # mkstemp's are private
        os.replace(beside, path)
    finally:
        Path(beside).unlink(missing_ok=True)


def _write_zip(path: Path, members: Members) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, content in sorted(members.items()):
            about = zipfile.ZipInfo(name)  # of 1980: the same bytes again
            about.external_attr = 0o100644 << 16
            packed.writestr(about, _bytes(content), zipfile.ZIP_DEFLATED, compresslevel=1)


def _write_tar(path: Path, members: Members) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in sorted(members.items()):
            about, data = tarfile.TarInfo(name), _bytes(content)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    path.write_bytes(gzip.compress(packed.getvalue(), 1, mtime=0))
