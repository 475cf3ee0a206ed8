"""multi-model-server at full load with bad requests and killed workers: no wrong answer.

``make test-serve PYTEST_ARGS="-k soak --minutes 10"`` is the long form.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import io
import os
import random
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from benchmarking.servers import connect, model_server, read_response
from PIL import Image
from support.served import assert_same, garbage, in_process

from gluondense.environment.process import usable_cores

pytestmark = pytest.mark.serve

KILLED = ("csp_densenet", "native_int8")
MODELS = (*KILLED, "densenet", "dpn")  # the others show whether memory grows
CLIENTS = 8
BAD_SHARE = 0.15
LEAST_SECONDS = 40
KILL_SECONDS = 60
SAMPLE_SECONDS = 2
RESTART_SECONDS = 60  # from a kill to the next answer
QUEUED_SECONDS = 30  # longest wait for a worker that dies then
SERVER_MB = 800  # Java's heap of 512 MB, which it fills before it collects garbage, and the rest
# Of a worker that is gone: no worker, or the one that had the request has died.
UNAVAILABLE = {500, 503, 507}
MB = 1 << 20


class Soak:
    """The clients' threads, the killer's and the sampler's, and what they have seen."""

    def __init__(self, server, images, wanted, bad, seconds: float) -> None:
        self.server, self.images, self.wanted, self.bad = server, images, wanted, bad
        self.began = time.monotonic()
        self.end = self.began + seconds
        self.counts: collections.Counter = collections.Counter()
        self.kills: dict[str, list[float]] = {name: [] for name in MODELS}
        self.unavailable: list[tuple[float, str, str]] = []
        self.memory: dict[tuple[str, int], list[float]] = {}
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        return time.monotonic() < self.end

    def run(self) -> None:
        """Run all threads to the end; raise what any of them raises."""
        jobs = [lambda seed=seed: self._client(random.Random(seed)) for seed in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS + 2) as pool:
            for done in [pool.submit(job) for job in [*jobs, self._killer, self._sampler]]:
                try:
                    done.result()
                except BaseException:
                    self.end = 0
                    raise

    def _client(self, rng: random.Random) -> None:
        while self.running:
            with connect(self.server.inference) as connection:
                while self.running and self._ask(connection, rng):
                    pass

    def _ask(self, connection: http.client.HTTPConnection, rng: random.Random) -> bool:
        """Send one request; return whether the connection is still of use."""
        name = rng.choice(MODELS)
        if rng.random() < BAD_SHARE:
            return self._ask_badly(connection, rng, name)
        number = rng.randrange(len(self.images))
        began = time.monotonic()
        answer = self._send(connection, name, self.images[number], {}, began)
        if answer is None or answer.status in UNAVAILABLE:
            return answer is not None
        assert answer.status == 200, answer
        assert_same(answer.json(), self.wanted[name][number])
        self._count("right answers")
        return True

    def _ask_badly(self, connection, rng: random.Random, name: str) -> bool:
        kind = rng.choice([*self.bad, "cut upload", "huge", "unknown model"])
        if kind == "cut upload":
            self._cut_upload(name)
            return True
        body, headers, statuses = b"x", {}, {404}
        if kind == "huge":  # more than the server's limit of 6.5 MB; it may close the connection
            body, statuses = bytes(8 * MB), {413}
        elif kind in self.bad:
            body, headers, status, _ = self.bad[kind]
            statuses = {status}
        target = "nothing" if kind == "unknown model" else name
        answer = self._send(connection, target, body, headers, time.monotonic(), kind)
        if answer is not None and answer.status not in UNAVAILABLE:
            assert answer.status in statuses, (kind, answer)
            self._count("bad requests refused")
        return answer is not None and kind != "huge"

    def _send(self, connection, name, body, headers, began, kind=""):
        """Return the response; None or an unavailable one is noted, and so is a cut connection."""
        try:
            connection.request("POST", f"/predictions/{name}", body, headers)
            answer = read_response(connection)
        except (OSError, http.client.HTTPException) as error:
            if kind == "huge":
                self._count("bad requests refused")
            else:
                self._note(began, name, repr(error))
            return None
        if answer.status in UNAVAILABLE:
            self._note(began, name, f"{answer.status} {answer.body[:200]!r}")
        return answer

    def _cut_upload(self, name: str) -> None:
        """Announce an image, send half of it and leave."""
        host, port = self.server.inference.split(":")
        image = self.images[0]
        head = f"POST /predictions/{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(image)}"
        with socket.create_connection((host, int(port)), timeout=60) as upload:
            upload.sendall(head.encode() + b"\r\n\r\n" + image[: len(image) // 2])
        self._count("uploads cut off")

    def _note(self, began: float, name: str, text: str) -> None:
        with self._lock:
            self.unavailable.append((began, name, text))

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def _killer(self) -> None:
        number = 0
        pause = min(KILL_SECONDS, (self.end - self.began) / 4)
        while (at := self.began + (number + 1) * pause) < self.end - pause / 2:
            while self.running and time.monotonic() < at:
                time.sleep(0.1)
            name = KILLED[number % len(KILLED)]
            workers = [pid for pid, model in self.processes().items() if model == name]
            # The parent, which listens, is not started again; docs/reliability.md says so.
            children = [pid for pid in workers if parent(pid) in workers]
            if children:
                self.kills[name].append(time.monotonic())
                os.kill(children[0], signal.SIGKILL)
                self._count("workers killed")
            number += 1

    def _sampler(self) -> None:
        while self.running:
            for pid, name in self.processes().items():
                self.memory.setdefault((name, pid), []).append(memory(pid))
            time.sleep(SAMPLE_SECONDS)

    def processes(self) -> dict[int, str]:
        """Return the models of the workers, and ``server``, by process id."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getpgid(int(folder.name)) == self.server.group:
                    words = (folder / "cmdline").read_bytes().decode().split("\0")
                    if "--model-name" in words:
                        found[int(folder.name)] = words[words.index("--model-name") + 1]
                    elif words[0].endswith("java"):
                        found[int(folder.name)] = "server"
        return found

    def growth(self) -> dict[str, tuple[float, float]]:
        """Return MB of the processes never killed: median after the warm-up, and at the end."""
        found = {}
        for (name, pid), values in self.memory.items():
            if name not in KILLED and len(values) > 8:
                part = len(values) // 4
                first, last = sorted(values[part : 2 * part]), sorted(values[-part:])
                found[f"{name} {pid}"] = (first[len(first) // 2], last[len(last) // 2])
        return found


def memory(pid: int) -> float:
    """Return MB of a process that are its own."""
    return status(pid, "RssAnon") / 1024


def parent(pid: int) -> int:
    return status(pid, "PPid")


def status(pid: int, name: str) -> int:
    """Return a number of ``/proc``, 0 if the process has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0


def restart_seconds() -> float:
    """Return the limit, which is longer on a machine with more work than cores."""
    return RESTART_SECONDS * max(1, os.getloadavg()[0] / usable_cores())


def answer_after_restart(server, name: str, image: bytes) -> object:
    until = time.monotonic() + restart_seconds()
    while True:
        with contextlib.suppress(OSError):
            answer = server.predict(name, image)
            if answer.status == 200:
                return answer.json()
        assert time.monotonic() < until, f"{name} does not answer"
        time.sleep(0.5)


@pytest.fixture
def server(store, tmp_path, monkeypatch):
    pytest.importorskip("mms", reason="the extra `serve` is not installed")
    if not shutil.which("java"):
        pytest.skip("there is no Java")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with model_server(store, tmp_path) as server:
        for name in MODELS:
            done = server.register(f"{name}.mar", batch_size=4, max_batch_delay=20)
            assert done.status == 200, done.body
        yield server


def test_soak(server, store, image_files, request, capsys):
    jpeg = io.BytesIO()
    Image.open(image_files[0]).convert("RGB").save(jpeg, "JPEG")
    images = [file.read_bytes() for file in image_files]
    wanted = {name: in_process(store, name, image_files) for name in MODELS}
    seconds = max(LEAST_SECONDS, 60 * request.config.getoption("--minutes"))
    soak = Soak(server, images, wanted, garbage(jpeg.getvalue()), seconds)
    soak.run()
    growth = soak.growth()
    with capsys.disabled():
        print(f"\nsoak of {seconds:.0f} s: {dict(soak.counts)}, {len(soak.unavailable)} without an")
        print(f"answer while a worker restarted; MB after the warm-up and at the end: {growth}")
    for name in MODELS:  # all workers are back
        assert_same(answer_after_restart(server, name, images[0]), wanted[name][0])
    assert soak.counts["right answers"] > seconds
    assert soak.counts["bad requests refused"] > 10
    assert soak.counts["workers killed"] >= 2
    for began, name, text in soak.unavailable:
        since = [began - kill for kill in soak.kills[name]]
        assert any(-QUEUED_SECONDS < gone < restart_seconds() for gone in since), (name, text)
    for name, (first, last) in growth.items():
        limit = SERVER_MB if name.startswith("server") else 1.1 * first + 16
        assert last < limit, (name, first, last)
