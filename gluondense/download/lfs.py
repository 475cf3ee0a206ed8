# SPDX-License-Identifier: Apache-2.0
"""The checksum of a file on the Hugging Face Hub, which is in the file's Git LFS pointer.

The pointer has the same origin as the file. So its checksum detects damage, but not that the
publisher or the server replaced the file before the first download.
"""

from __future__ import annotations

import re
from pathlib import Path

from .file import download_file

# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
POINTER = re.compile(rb"version https://git-lfs\S+\noid sha256:([0-9a-f]{64})\nsize \d+\n")


def fetch_sha256(url: str, path: Path) -> str:
    """Return the SHA-256 of a file on the Hub, downloading its pointer if it is not cached.

    Parameters
    ----------
    url
        The file's URL, ``https://huggingface.co/OWNER/NAME/resolve/REVISION/FILE``.
    path
        The file's path in the cache; the pointer is beside it, as ``NAME.lfs``.

    Raises
    ------
    ConnectionError
        If no source has the pointer.
    OSError
        If it cannot be written.
    """
    url, pointer = url.replace("/resolve/", "/raw/"), _pointer(path)
    advice = f"download {url} on a machine with a network, and copy it to {pointer}"
    download_file([url], pointer, lambda file: bool(_parse(file)), advice)
    return _parse(pointer)


def cached_sha256(path: Path) -> str:
    """Return the SHA-256 in the pointer beside a file; an empty string if it has none."""
    pointer = _pointer(path)
    return _parse(pointer) if pointer.is_file() else ""


def _pointer(path: Path) -> Path:
    return path.with_name(path.name + ".lfs")


def _parse(pointer: Path) -> str:
    with open(pointer, "rb") as file:
        match = POINTER.fullmatch(file.read(1024))
    return match[1].decode() if match else ""
