"""One file from the first of several mirrors that has the right bytes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import requests
from tqdm import tqdm

_CONNECT_READ_SECONDS = (10, 60)


def download_file(
    urls: Sequence[str], path: Path, check: Callable[[bytes], bool], advice: str
) -> None:
    """Download a small file, verified before it appears under its name.

    Parameters
    ----------
    urls
        Mirrors, tried in this order.
    path
        Where to put it; missing folders are made.
    check
        Says whether the content is the right one.
    advice
        What the user can do when every mirror fails; ends the error's line.

    Raises
    ------
    ConnectionError
        When no mirror gave the right content; names the file and each mirror's failure.
    OSError
        When the file can't be written.
    """
    failures = []
    for url in urls:
        try:
            content = _get(url)
        except requests.RequestException as error:
            failures.append(f"{url}: {_reason(error)}")
            continue
        if check(content):
            _write(path, content)
            return
        failures.append(f"{url}: wrong checksum of {len(content)} bytes")
    raise ConnectionError(f"can't download {path.name} ({'; '.join(failures)}); {advice}")


def _get(url: str) -> bytes:
    with requests.get(url, stream=True, timeout=_CONNECT_READ_SECONDS) as response:
        response.raise_for_status()
        total = int(response.headers.get("Content-Length", 0))
        content = bytearray()
        # disable=None: no bar where stderr is not a terminal.
        with tqdm(
            total=total, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1], disable=None
        ) as bar:
            for chunk in response.iter_content(1 << 16):
                content += chunk
                bar.update(len(chunk))
    return bytes(content)


def _reason(error: requests.RequestException) -> str:
    """Say in a few words what requests and urllib3 tell in a paragraph."""
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return " ".join(str(error).split())


def _write(path: Path, content: bytes) -> None:
    """Write beside and rename, so that an interrupted run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp's files are private; a cache may be shared.
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
