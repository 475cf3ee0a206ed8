# SPDX-License-Identifier: Apache-2.0
"""HTTP servers on this machine: multi-model-server and ONNX Runtime in a plain process."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

START_SECONDS = 60
TIMEOUT_SECONDS = 120
ONNX_SERVER = Path(__file__).parent / "workers" / "onnx_server.py"


@dataclasses.dataclass(frozen=True)
class Response:
    """A server's response."""

    status: int
    content_type: str
    body: bytes

    def json(self) -> object:
        """Parse the body as JSON."""
        return json.loads(self.body)


def send(
    address: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Send one request to ``host:port``."""
    with connect(address) as connection:
        connection.request(method, path, body, dict(headers or {}))
        return read_response(connection)


def connect(address: str) -> contextlib.closing[http.client.HTTPConnection]:
    """Return a connection to ``host:port`` for a ``with`` statement."""
    return contextlib.closing(http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS))


def read_response(connection: http.client.HTTPConnection) -> Response:
    """Read the response to a connection's last request."""
    response = connection.getresponse()
    return Response(response.status, response.getheader("content-type", ""), response.read())


@dataclasses.dataclass(frozen=True)
class ModelServer:
    """A running multi-model-server.

    Parameters
    ----------
    inference, management
        Addresses, ``host:port``.
    group, log
        Process group of the server and its workers, and the file with their output.
    """

    inference: str
    management: str
    group: int
    log: Path

    def register(self, archive: str, batch_size: int = 1, max_batch_delay: int = 10) -> Response:
        """Load an archive of the store and wait until its worker has started."""
        options = {"url": archive, "batch_size": batch_size, "max_batch_delay": max_batch_delay}
        query = urllib.parse.urlencode({**options, "initial_workers": 1, "synchronous": "true"})
        return send(self.management, "POST", f"/models?{query}")

    def predict(
        self, model: str, image: bytes, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Send an encoded image."""
        return send(self.inference, "POST", f"/predictions/{model}", image, headers)


@contextlib.contextmanager
def model_server(store: Path, folder: Path) -> Iterator[ModelServer]:
    """Run multi-model-server on 127.0.0.1; stop all its processes at the end.

    Parameters
    ----------
    store, folder
        Folder of archives, and folder for its configuration, logs and temporary files.

    Raises
    ------
    RuntimeError
        If the server or Java is not installed, or the server does not start.
    """
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise RuntimeError("there is no Java: apt install default-jre-headless.")
    inference, management = (f"127.0.0.1:{port}" for port in free_ports(2))
    config = folder.resolve() / "config.properties"
    config.write_text(
        f"inference_address=http://{inference}\nmanagement_address=http://{management}\n"
        "vmargs=-Xmx512m\n"
    )
    command = [sys.executable, "-m", "mms.model_server", "--start", "--foreground"]
    command += ["--mms-config", str(config), "--model-store", str(store.resolve())]
    with _running(command, inference, folder) as (process, log):
        yield ModelServer(inference, management, process.pid, log)


@contextlib.contextmanager
def onnx_server(prefix: Path, folder: Path, threads: int) -> Iterator[str]:
    """Run ONNX Runtime in a plain HTTP server; stop it at the end.

    Parameters
    ----------
    prefix
        Prefix of an export with ``target="onnx"``.
    folder, threads
        Folder for its log, and threads of a prediction.

    Raises
    ------
    RuntimeError
        If the server does not start.
    """
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [sys.executable, str(ONNX_SERVER), str(prefix.resolve()), str(port), str(threads)]
    with _running(command, address, folder):
        yield address


@contextlib.contextmanager
def _running(
    command: Sequence[str], address: str, folder: Path
) -> Iterator[tuple[subprocess.Popen, Path]]:
    """Run a server in a new process group, from its first answer to the end of the block."""
    folder = folder.resolve()
    names = ("TMPDIR", "TEMP", "LOG_LOCATION", "METRICS_LOCATION")
    log = folder / "server.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **dict.fromkeys(names, str(folder))},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(address, process, log)
        yield process, log
    finally:
        _stop(process)


def free_ports(count: int) -> list[int]:
    """Find free ports below 32768, as multi-model-server refuses higher ones."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            probe, port = stack.enter_context(socket.socket()), random.randrange(10_000, 32_768)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
    return found


def _wait_until_ready(address: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if send(address, "GET", "/ping").status == 200:
                return
        except OSError:
            time.sleep(0.1)
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
    raise RuntimeError(f"the server did not start: {last[0]}")


def _stop(process: subprocess.Popen) -> None:
    """Stop all processes of the server's group."""
    for kind, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            process.poll()  # reap the group's first process
            try:
                os.killpg(process.pid, kind)
            except ProcessLookupError:
                return
            time.sleep(0.1)
