"""Readers of exports and their archives."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import mxnet as mx
from fuzz.mutation import Files
from fuzz.reader import Reader
from fuzz.weights import tiny_network
from support.paths import ROOT

import gluondense
from gluondense.deploy.artifact import checked_metadata, load_exported, open_export
from gluondense.deploy.serving.archive import archive
from gluondense.deploy.serving.unpack import MANIFEST, unpack
from gluondense.files import json_sha256, stream_sha256

SHAPE = (1, 3, 32, 32)
OPTIONS = {"class_names": ("a", "b", "c")}
CONTENTS = {"-symbol.json": "symbol", "-0000.params": "params", ".onnx": "model"}


def portable(folder: Path) -> list[Files]:
    from gluondense.data.preprocessing import Preprocessing

    images = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), input_size=SHAPE[2:])
    gluondense.export(tiny_network(), folder / "net", SHAPE, preprocessing=images, **OPTIONS)
    return [contents(folder)]


def onnx(folder: Path) -> list[Files]:
    gluondense.export(tiny_network(), folder / "net", SHAPE, target="onnx", **OPTIONS)
    return [contents(folder)]


def contents(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in folder.glob("net*") if path.is_file()}


def metadata(folder: Path) -> list[Files]:
    """Return metadata of both formats."""
    (new,) = portable(folder)
    with zipfile.ZipFile(ROOT / "tests" / "files" / "exports-0.1.0.zip") as earlier:
        names = [name for name in earlier.namelist() if name.endswith(".json")]
        old = [earlier.read(name) for name in names if not name.endswith("-symbol.json")]
    return [{"net.json": content} for content in (new["net.json"], *old)]


def signed(files: Files) -> Files:
    """Correct the checksums in the metadata, as somebody who tampers with an export would."""
    try:
        content = json.loads(files["net.json"])
        for suffix, name in CONTENTS.items():
            if f"net{suffix}" in files:
                content["sha256"][name] = stream_sha256(io.BytesIO(files[f"net{suffix}"]))
        if content.pop("content_sha256", None) is not None:  # since format 2
            content["content_sha256"] = json_sha256(content)
        return {**files, "net.json": json.dumps(content).encode()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return files


def read_description(folder: Path) -> None:
    found = checked_metadata(folder / "net.json")
    assert found.mean is None or len(found.mean) == len(found.std)


def verify(folder: Path) -> None:
    open_export(folder / "net")


def run(folder: Path) -> None:
    """Load an export and run it."""
    block = load_exported(folder / "net", mx.cpu())
    block(mx.nd.zeros(SHAPE)).asnumpy()


def load(folder: Path) -> None:
    load_exported(folder / "net", mx.cpu())
    mx.nd.waitall()


def archives(suffix: str):
    def seeds(folder: Path) -> list[Files]:
        portable(folder)
        path = archive(folder / "net", folder / f"net{suffix}")
        return [{f"net{suffix}": Path(path).read_bytes()}]

    return seeds


def members(folder: Path) -> list[Files]:
    """Return the members of an archive with a manifest, without the service's code."""
    (packed,) = archives(".mar")(folder)
    with zipfile.ZipFile(io.BytesIO(packed["net.mar"])) as opened:
        files = {n: opened.read(n) for n in opened.namelist() if not n.endswith(".py")}
    manifest = json.loads(files[MANIFEST])
    manifest["sha256"] = {name: manifest["sha256"][name] for name in files if name != MANIFEST}
    return [{**files, MANIFEST: json.dumps(manifest).encode()}]


def zipped(files: Files) -> Files:
    """Pack members with a manifest of their checksums."""
    try:
        manifest = json.loads(files[MANIFEST])
        sums = {n: stream_sha256(io.BytesIO(c)) for n, c in files.items() if n != MANIFEST}
        for name in manifest["sha256"].keys() & sums.keys():
            manifest["sha256"][name] = sums[name]
        files = {**files, MANIFEST: json.dumps(manifest).encode()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, content in files.items():
            opened.writestr(zipfile.ZipInfo(name), content)
    return {"net.mar": packed.getvalue()}


def tar_headers(folder: Path) -> list[Files]:
    """Return uncompressed tar archives in the forms of GNU and POSIX, with long names."""
    found = []
    (files,) = portable(folder)
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", format=form, compresslevel=1) as opened:
            for name, content in {**files, f"{'d' * 60}/{'x' * 60}": b"long"}.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                opened.addfile(info, io.BytesIO(content))
        found.append({"net.tar.gz": packed.getvalue()})
    return found


def extract(folder: Path) -> None:
    (path,) = (path for path in folder.iterdir() if path.name.startswith("net."))
    out = folder / "out"
    out.mkdir()
    before = sorted(folder.iterdir())
    try:
        unpack(path, out)
    finally:
        assert sorted(folder.iterdir()) == before
        assert all(found.is_file() and not found.is_symlink() for found in out.iterdir())


def load_archive(folder: Path) -> None:
    load_exported(folder / "net.mar", mx.cpu())
    mx.nd.waitall()


READERS = (
    Reader("export, its metadata", metadata, read_description, "net.json"),
    Reader("export, its metadata with checksums", metadata, read_description, pack=signed),
    Reader("export", portable, verify),
    Reader("export, its parameters with checksums", portable, run, "*.params", signed, 1024),
    Reader("export, its graph with checksums", portable, load, "*-symbol.json", signed, 1024),
    Reader("ONNX model with checksums", onnx, load, "*.onnx", signed, 1024),
    Reader("archive .mar", archives(".mar"), extract),
    Reader("archive .mar, its members", members, load_archive, "*.json", zipped, 1024),
    Reader("archive .zip", archives(".zip"), extract),
    Reader("archive .tar.gz", archives(".tar.gz"), extract),
    Reader("archive .tar.gz, its headers", tar_headers, extract),
)
