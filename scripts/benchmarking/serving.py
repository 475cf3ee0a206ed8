"""A real server on this machine, and clients that keep it busy."""

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
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

START_SECONDS = 60
WAIT_SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server answered: status, content type and body."""

    status: int
    content_type: str
    body: bytes

    def json(self) -> object:
        """Read the body as JSON."""
        return json.loads(self.body)


def ask(
    address: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request to ``host:port``."""
    with contextlib.closing(
        http.client.HTTPConnection(address, timeout=WAIT_SECONDS)
    ) as connection:
        connection.request(method, path, body, dict(headers or {}))
        return _answer(connection)


def _answer(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    return Answer(response.status, response.getheader("content-type", ""), response.read())


@dataclasses.dataclass(frozen=True)
class ModelServer:
    """A multi-model-server that is running.

    Parameters
    ----------
    inference, management
        Addresses, ``host:port``.
    group
        Process group of the server and its workers.
    log
        What they print.
    """

    inference: str
    management: str
    group: int
    log: Path

    def register(
        self, archive: str, batch_size: int = 1, max_batch_delay: int = 10, workers: int = 1
    ) -> Answer:
        """Have it load an archive of its store and start workers; return when they are there."""
        query = urllib.parse.urlencode(
            {
                "url": archive,
                "batch_size": batch_size,
                "max_batch_delay": max_batch_delay,
                "initial_workers": workers,
                "synchronous": "true",
            }
        )
        return ask(self.management, "POST", f"/models?{query}")

    def predict(
        self, model: str, picture: bytes, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a picture."""
        return ask(self.inference, "POST", f"/predictions/{model}", picture, headers)


@contextlib.contextmanager
def model_server(
    store: str | os.PathLike[str], folder: str | os.PathLike[str]
) -> Iterator[ModelServer]:
    """Start multi-model-server on 127.0.0.1, and stop all of its processes at the end.

    Parameters
    ----------
    store
        Folder of archives.
    folder
        For its configuration, logs and temporary files.

    Raises
    ------
    RuntimeError
        If it or Java is not installed, or it does not start.
    """
    folder = Path(folder).resolve()
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise RuntimeError("there is no Java: apt install default-jre-headless.")
    ports = free_ports(2)
    inference, management = (f"127.0.0.1:{port}" for port in ports)
    config = folder / "config.properties"
    config.write_text(
        f"inference_address=http://{inference}\nmanagement_address=http://{management}\n"
        "vmargs=-Xmx512m\n"
    )
    command = [sys.executable, "-m", "mms.model_server", "--start", "--foreground"]
    command += ["--mms-config", str(config), "--model-store", str(Path(store).resolve())]
    with _running(command, inference, folder) as (process, log):
        yield ModelServer(inference, management, process.pid, log)


@contextlib.contextmanager
def onnx_server(
    prefix: str | os.PathLike[str], folder: str | os.PathLike[str], threads: int
) -> Iterator[str]:
    """Start ONNX Runtime in a plain process, and stop it at the end.

    Parameters
    ----------
    prefix
        Of an export with ``target="onnx"``.
    folder
        For its log.
    threads
        Of a prediction.

    Raises
    ------
    RuntimeError
        If it does not start.
    """
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarking.onnx_server"]
    command += [os.path.abspath(prefix), str(port), str(threads)]
    with _running(command, address, Path(folder).resolve()):
        yield address


@contextlib.contextmanager
def _running(
    command: Sequence[str], address: str, folder: Path
) -> Iterator[tuple[subprocess.Popen, Path]]:
    """Run a server as a group of processes of its own, from when it answers to the end."""
    places = ("TMPDIR", "TEMP", "LOG_LOCATION", "METRICS_LOCATION")
    environment = {**os.environ, **dict.fromkeys(places, str(folder))}
    log = folder / "server.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_it_answers(address, process, log)
        yield process, log
    finally:
        _stop(process)


def free_ports(count: int) -> list[int]:
    """Find ports below 32768: the server refuses higher ones."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            each, port = stack.enter_context(socket.socket()), random.randrange(10_000, 32_768)
            with contextlib.suppress(OSError):
                each.bind(("127.0.0.1", port))
                found.append(port)
    return found


def _wait_until_it_answers(address: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if ask(address, "GET", "/ping").status == 200:
                return
        except OSError:
            time.sleep(0.1)
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
    raise RuntimeError(f"the server did not start: {last[0]}")


def _stop(process: subprocess.Popen) -> None:
    """End all processes of the server's group."""
    for kind, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            process.poll()  # its first process is ours to collect
            try:
                os.killpg(process.pid, kind)
            except ProcessLookupError:
                return
            time.sleep(0.1)


@dataclasses.dataclass(frozen=True)
class Load:
    """What clients saw.

    Parameters
    ----------
    seconds
        How long they asked.
    latencies
        Seconds of each answered request.
    failures
        What other answers there were, as text.
    """

    seconds: float
    latencies: tuple[float, ...]
    failures: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Answered requests a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """Latency in ms that so many percent of the requests did not exceed."""
        return 1000 * float(np.percentile(self.latencies, percent))


def put_under_load(
    address: str, path: str, pictures: Sequence[bytes], clients: int, seconds: float
) -> Load:
    """Let clients ask in turn for all pictures, each as soon as it has its answer.

    Parameters
    ----------
    address, path
        Where to ``POST`` the pictures.
    pictures
        Encoded; each client begins with another one.
    clients
        How many ask at the same time, over a connection each.
    seconds
        How long.
    """
    latencies: list[float] = []
    failures: list[str] = []
    start = time.perf_counter()

    def work(first: int) -> None:
        with contextlib.closing(http.client.HTTPConnection(address, timeout=WAIT_SECONDS)) as line:
            turn = first
            while (begun := time.perf_counter()) - start < seconds:
                try:
                    line.request("POST", path, pictures[turn % len(pictures)])
                    answer = _answer(line)
                except (OSError, http.client.HTTPException) as error:
                    failures.append(repr(error))
                    line.close()
                else:
                    if answer.status == 200:
                        latencies.append(time.perf_counter() - begun)
                    else:
                        failures.append(f"{answer.status} {answer.body[:200]!r}")
                turn += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(time.perf_counter() - start, tuple(latencies), tuple(failures))
