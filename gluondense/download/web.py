# SPDX-License-Identifier: Apache-2.0
"""Receive the missing bytes of a file from a URL."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import BinaryIO

import requests
from tqdm import tqdm
from urllib3.exceptions import MaxRetryError

CONNECT_READ_SECONDS = (10, 60)
# Successive failures without progress after which a URL is abandoned.
TRIES = 4
BACKOFF_SECONDS = 0.5
# Timeouts, too many requests and server errors may be temporary.
TEMPORARY_STATUS = {408, 429, 500, 502, 503, 504}
# A broken connection loses the current chunk.
CHUNK = 1 << 14


def receive(url: str, part: BinaryIO) -> str:
    """Append the missing bytes of a file, resuming after broken connections.

    Redirects are followed. The file is emptied if the server cannot resume at its end. Return the
    reason of a failure, or an empty string.
    """
    tries, longest = 0, part.tell()
    while True:
        try:
            _append(url, part)
            return ""
        except requests.RequestException as error:
            tries = tries + 1 if part.tell() <= longest else 1
            longest = max(longest, part.tell())
            if tries == TRIES or not _is_temporary(error):
                return _reason(error)
        time.sleep(BACKOFF_SECONDS * 2 ** (tries - 1))


def _append(url: str, part: BinaryIO) -> None:
    start = part.tell()
    # A range counts transmitted bytes, so they must not be compressed.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=CONNECT_READ_SECONDS) as response:
        resumes = response.status_code == 206 and _first_byte(response) == start
        mismatch = start > 0 and response.status_code in (206, 416) and not resumes
        if not mismatch:
            response.raise_for_status()
        if start and not resumes:
            empty(part)
        if not mismatch:
            _store(response, part)
    if mismatch:
        _append(url, part)


def empty(part: BinaryIO) -> None:
    """Truncate an open file to nothing."""
    part.seek(0)
    part.truncate()


def _first_byte(response: requests.Response) -> int | None:
    """Return the offset in the file at which a partial response begins."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match.group(1)) if match else None


def _store(response: requests.Response, part: BinaryIO) -> None:
    end = None
    # The length of compressed content is not the length of the file.
    if "Content-Length" in response.headers and "Content-Encoding" not in response.headers:
        end = part.tell() + int(response.headers["Content-Length"])
    start, name = part.tell(), Path(part.name).stem
    # disable=None: no progress bar if stderr is not a terminal.
    with tqdm(total=end, initial=start, unit="B", unit_scale=True, desc=name, disable=None) as bar:
        for chunk in response.iter_content(CHUNK):
            part.write(chunk)
            bar.update(len(chunk))
    # urllib3 1 accepts a response that ends early.
    if end is not None and part.tell() < end:
        raise requests.exceptions.ChunkedEncodingError(f"{part.tell()} of {end} bytes")


def _never_connected(error: requests.RequestException) -> bool:
    return bool(error.args) and isinstance(error.args[0], MaxRetryError)


def _is_temporary(error: requests.RequestException) -> bool:
    """Return whether the same request is likely to succeed a moment later."""
    if error.response is not None:
        return error.response.status_code in TEMPORARY_STATUS
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return True
    # Without a connection the next source is more promising, and offline errors appear at once.
    broke = isinstance(error, (requests.ConnectionError, requests.Timeout))
    return broke and not _never_connected(error)


def _reason(error: requests.RequestException) -> str:
    """Summarize an error of requests or urllib3 in a few words."""
    if isinstance(error, requests.TooManyRedirects):
        return "too many redirects"
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    if isinstance(error, requests.ConnectionError):
        return "no connection" if _never_connected(error) else "the connection broke"
    return " ".join(str(error).split())


_REASONS = {
    requests.Timeout: "timeout",
    requests.exceptions.SSLError: "untrusted certificate",
    requests.exceptions.ProxyError: "proxy error",
    requests.exceptions.ChunkedEncodingError: "the connection broke",
    requests.exceptions.InvalidSchema: "neither http(s) nor a folder",
}
