# SPDX-License-Identifier: Apache-2.0
"""A distributed run: starts all processes, waits for them and stops them together."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ....errors import check_count
from ..rank import PEER_LOST_EXIT
from .hosts import LOCALHOST, Host, free_port
from .member import SSH, Member

SERVER = (sys.executable, "-m", "gluondense.training.distributed.server")
POLL_SECONDS = 0.1
HEARTBEAT_SECONDS = 5.0  # between heartbeats to the supervisors
CASCADE_SECONDS = 0.5  # from the first exit to those that it causes
GRACE_SECONDS = 5.0  # from SIGTERM to SIGKILL
FINISH_SECONDS = 30.0  # for the others, after one has ended without error
# The user's settings that processes on other hosts get too.
FORWARDED = ("PYTHONPATH", "OMP_NUM_THREADS", "GOMP_SPINCOUNT")
FORWARDED_PREFIXES = ("MXNET_", "PS_", "GLUONDENSE_")


@dataclass(frozen=True)
class Job:
    """The processes of a distributed run.

    Parameters
    ----------
    command, workers, servers
        Command line of each worker, and numbers of workers and servers.
    hosts
        Hosts, which get workers in this order; the first also runs the scheduler.
    port, ssh
        Port of the scheduler, None to choose one, and command that runs another one on a host.
    gpus_per_worker
        Number of its host's GPUs that each worker sees, numbered from 0; None shows all.
    env
        Names of further environment variables for processes on other hosts.

    Raises
    ------
    ValueError
        If there is no command, or a number of processes is below 1.
    """

    command: Sequence[str]
    workers: int
    servers: int = 1
    hosts: Sequence[Host] = (LOCALHOST,)
    port: Optional[int] = None
    ssh: str = SSH
    gpus_per_worker: Optional[int] = None
    env: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("There is no command: write it after --.")
        for name in ("workers", "servers"):
            check_count(name, getattr(self, name))

    def run(self) -> int:
        """Start all processes, wait for the workers, and return the exit code of the run.

        The code is 0 if all workers succeeded, else that of the process that failed first. No
        process outlives this call.
        """
        watch, signums = _Watch(), (signal.SIGINT, signal.SIGTERM)
        handlers = [signal.signal(signum, watch.on_signal) for signum in signums]
        try:
            for member in self._start():
                watch.members.append(member)
            return watch.wait()
        finally:
            watch.stop()
            for signum, handler in zip(signums, handlers):
                signal.signal(signum, handler)

    def _start(self) -> Iterator[Member]:
        """Start one process after the other."""
        hosts = [self.hosts[n * len(self.hosts) // self.workers] for n in range(self.workers)]
        port = self.port or free_port(self.hosts[0])
        common = {
            "DMLC_PS_ROOT_URI": self.hosts[0].address,
            "DMLC_PS_ROOT_PORT": str(port),
            "DMLC_NUM_WORKER": str(self.workers),
            "DMLC_NUM_SERVER": str(self.servers),
            "PYTHONUNBUFFERED": "1",
        }

        def member(
            role: str, number: int, host: Host, command: Sequence[str], **own: str
        ) -> Member:
            forwarded = _forwarded(self.env) if host.name is not None else {}
            variables = {**forwarded, **common, "DMLC_NODE_HOST": host.address, **own}
            return Member(role, number, host, command, variables, self.ssh)

        # Servers get no DMLC_ROLE: with it, MXNet serves from inside its import, see server.py.
        one = {"OMP_NUM_THREADS": "1"}
        yield member("scheduler", 0, self.hosts[0], (*SERVER, "scheduler"), **one)
        for number in range(self.servers):
            host = self.hosts[number % len(self.hosts)]
            yield member("server", number, host, (*SERVER, "server"), **one)
        for number, host in enumerate(hosts):
            own = {"DMLC_ROLE": "worker", "GLUONDENSE_WORKER": str(number)}
            own["GLUONDENSE_SHARE"] = str(hosts.count(host))
            if self.gpus_per_worker:
                first = (number - hosts.index(host)) * self.gpus_per_worker
                gpus = range(first, first + self.gpus_per_worker)
                own["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
            yield member("worker", number, host, self.command, **own)


def _forwarded(names: Sequence[str]) -> dict[str, str]:
    wanted = {*FORWARDED, *names}
    return {
        name: value
        for name, value in os.environ.items()
        if name in wanted or name.startswith(FORWARDED_PREFIXES)
    }


@dataclass
class _Watch:
    """Watches the processes of a job and forwards signals to them."""

    members: list[Member] = field(default_factory=list)
    signums: list[int] = field(default_factory=list)
    _forwarded: int = 0
    _beat_at: float = 0.0

    def on_signal(self, signum: int, frame: Any) -> None:
        self.signums.append(signum)

    def wait(self) -> int:
        ended_at = None
        while True:
            time.sleep(POLL_SECONDS)
            self._forward_signals()
            if len(self.signums) > 1:
                return 128 + self.signums[-1]
            if self._failed():
                return self._report_failure()
            if self._workers_ended():
                codes = [member.code or 0 for member in self.members if member.role == "worker"]
                # A worker that was still starting ends at once; the others lose it.
                return 128 + self.signums[0] if PEER_LOST_EXIT in codes else max(codes)
            if ended_at is None and any(member.code is not None for member in self.members):
                ended_at = time.monotonic()
            if ended_at is not None and time.monotonic() - ended_at > FINISH_SECONDS:
                return self._report_failure()

    def stop(self) -> None:
        """Stop all running processes, first with SIGTERM, then with SIGKILL."""
        if self._workers_ended():
            self._wait_for_all(GRACE_SECONDS)  # servers and scheduler exit without a signal
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for member in self._running():
                member.send(signum)
            self._wait_for_all(GRACE_SECONDS)
        for member in self.members:
            member.close()

    def _forward_signals(self) -> None:
        """Send new signals to the workers, and a heartbeat to all."""
        if len(self.signums) > self._forwarded:
            self._forwarded = len(self.signums)
            _print(f"{signal.Signals(self.signums[-1]).name}: asked the workers to save and stop")
            for member in self.members:
                if member.role == "worker":
                    member.send(self.signums[-1])
        if time.monotonic() - self._beat_at > HEARTBEAT_SECONDS:
            self._beat_at = time.monotonic()
            for member in self.members:
                member.send(0)

    def _workers_ended(self) -> bool:
        return all(member.code is not None for member in self.members if member.role == "worker")

    def _failed(self) -> list[Member]:
        success = {None, 0, *(128 + signum for signum in self.signums)}
        if self.signums:
            success.add(PEER_LOST_EXIT)
        return [member for member in self.members if member.code not in success]

    def _report_failure(self) -> int:
        """Print which process failed first, and return its exit code."""
        time.sleep(CASCADE_SECONDS)
        ended = self._failed() or [m for m in self.members if m.code is not None]
        # A process that was killed did not fail because of another one.
        culprit = min(ended, key=lambda m: (m.code == PEER_LOST_EXIT, (m.code or 0) <= 128))
        _print(
            f"{culprit.describe_exit()}: stopping all. See its messages above; "
            "`gluondense train … --resume` continues from the last checkpoint."
        )
        return culprit.code or 1

    def _running(self) -> list[Member]:
        return [member for member in self.members if member.code is None]

    def _wait_for_all(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._running() and time.monotonic() < until:
            time.sleep(POLL_SECONDS)


def _print(text: str) -> None:
    print(f"launch: {text}", file=sys.stderr, flush=True)
