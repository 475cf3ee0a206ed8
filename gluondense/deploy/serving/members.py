# SPDX-License-Identifier: Apache-2.0
"""The members of an archive and their file formats; equal members give equal bytes."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Union

Members = dict[str, Union[str, Path]]  # names, and texts or the files to copy


def to_bytes(content: str | Path) -> bytes:
    """Return the content of a member."""
    return content.encode() if isinstance(content, str) else content.read_bytes()


def write_zip(path: Path, members: Members) -> None:
    """Write a ZIP archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, content in sorted(members.items()):
            info = zipfile.ZipInfo(name)  # with a constant date, so that the bytes are reproducible
            info.external_attr = 0o100644 << 16
            packed.writestr(info, to_bytes(content), zipfile.ZIP_DEFLATED, compresslevel=1)


def write_tar(path: Path, members: Members) -> None:
    """Write a TAR archive, compressed with gzip."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in sorted(members.items()):
            info, data = tarfile.TarInfo(name), to_bytes(content)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(gzip.compress(packed.getvalue(), 1, mtime=0))


def write_folder(path: Path, members: Members) -> None:
    """Write each member as a file in a folder."""
    for name, content in members.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(to_bytes(content))
