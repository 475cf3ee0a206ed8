"""The missing bytes of a file from a URL."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import BinaryIO

import requests
from tqdm import tqdm
from urllib3.exceptions import MaxRetryError

CONNECT_READ_SECONDS = (10, 60)
# A URL is given up after so many failures in a row that brought not one byte more.
TRIES = 4
BACKOFF_SECONDS = 0.5
# Too slow, too many requests, and the server's own troubles: they may pass.
PASSING_STATUS = {408, 429, 500, 502, 503, 504}
# What a broken connection had sent of a chunk is lost.
CHUNK = 1 << 14


def receive(url: str, part: BinaryIO) -> str:
    """Append the bytes that a file lacks, going on where the connection breaks.

    Parameters
    ----------
    url
        Where the whole file is; redirects are followed.
    part
        The file, opened for appending. It is emptied where the server can't go on from its end.

    Returns
    -------
        In a few words why that failed, or nothing.
    """
    tries, most = 0, part.tell()
    while True:
        try:
            _append(url, part)
            return ""
        except requests.RequestException as error:
            tries = tries + 1 if part.tell() <= most else 1
            most = max(most, part.tell())
            if tries == TRIES or not _may_pass(error):
                return _reason(error)
        time.sleep(BACKOFF_SECONDS * 2 ** (tries - 1))


def _append(url: str, part: BinaryIO) -> None:
    start = part.tell()
    # Ranges count the bytes that are sent, which must be the file's own.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=CONNECT_READ_SECONDS) as response:
        goes_on = response.status_code == 206 and _first_byte(response) == start
        misfits = start > 0 and response.status_code in (206, 416) and not goes_on
        if not misfits:
            response.raise_for_status()
        if start and not goes_on:
            empty(part)
        if not misfits:
            _store(response, part)
    if misfits:
        _append(url, part)


def empty(part: BinaryIO) -> None:
    """Begin a file anew."""
    part.seek(0)
    part.truncate()


def _first_byte(response: requests.Response) -> int | None:
    """Where in the file a partial answer begins."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match.group(1)) if match else None


def _store(response: requests.Response, part: BinaryIO) -> None:
    end = None
    # The length of packed content says nothing of what is stored.
    if "Content-Length" in response.headers and "Content-Encoding" not in response.headers:
        end = part.tell() + int(response.headers["Content-Length"])
    # disable=None: no bar where stderr is not a terminal.
    with tqdm(
        total=end,
        initial=part.tell(),
        unit="B",
        unit_scale=True,
        desc=Path(part.name).stem,
        disable=None,
    ) as bar:
        for chunk in response.iter_content(CHUNK):
            part.write(chunk)
            bar.update(len(chunk))
    # urllib3 1 takes an answer that ends early for a complete one.
    if end is not None and part.tell() < end:
        raise requests.exceptions.ChunkedEncodingError(f"{part.tell()} of {end} bytes")


def _never_connected(error: requests.RequestException) -> bool:
    return bool(error.args) and isinstance(error.args[0], MaxRetryError)


def _may_pass(error: requests.RequestException) -> bool:
    """Whether the same request may well succeed a moment later."""
    if error.response is not None:
        return error.response.status_code in PASSING_STATUS
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return True
    # Without a connection the next mirror is the better try; a machine offline is told at once.
    broke = isinstance(error, (requests.ConnectionError, requests.Timeout))
    return broke and not _never_connected(error)


def _reason(error: requests.RequestException) -> str:
    """Say in a few words what requests and urllib3 tell in a paragraph."""
    if isinstance(error, requests.TooManyRedirects):
        return "redirects without end"
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    for kind, words in _WORDS.items():
        if isinstance(error, kind):
            return words
    if isinstance(error, requests.ConnectionError):
        return "no connection" if _never_connected(error) else "the connection broke off"
    return " ".join(str(error).split())


_WORDS = {
    requests.Timeout: "no answer in time",
    requests.exceptions.SSLError: "no trusted certificate",
    requests.exceptions.ProxyError: "the proxy refused",
    requests.exceptions.ChunkedEncodingError: "the connection broke off",
    requests.exceptions.InvalidSchema: "neither http(s) nor a folder",
}
