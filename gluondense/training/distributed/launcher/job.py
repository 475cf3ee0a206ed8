"""A distributed run as one thing that starts, ends and is stopped together."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ..rank import PEER_LOST_EXIT
from .hosts import HERE, Host, free_port
from .member import SSH, Member

SERVE = (sys.executable, "-m", "gluondense.training.distributed.server")
POLL_SECONDS = 0.1
LIFE_SECONDS = 5.0  # between signs of life to the supervisors
SETTLE_SECONDS = 0.5  # from the first end to all that have the same cause
GRACE_SECONDS = 5.0  # from SIGTERM to SIGKILL
LEAVE_SECONDS = 30.0  # for the others, once one has ended as it should
# Settings of the user's that processes on other machines are to have too.
PASSED_ON = ("PYTHONPATH", "OMP_NUM_THREADS", "GOMP_SPINCOUNT")
PASSED_ON_PREFIXES = ("MXNET_", "PS_", "GLUONDENSE_")


@dataclass(frozen=True)
class Job:
    """What to start where.

    Parameters
    ----------
    command
        What each worker runs.
    workers, servers
        How many of each.
    hosts
        Dealt out in this order; the scheduler is on the first.
    port
        The scheduler's; None takes a free one.
    ssh
        Command that runs another one on a host.
    gpus_per_worker
        If given, each worker sees only so many GPUs of its host, numbered from 0.
    pass_on
        Names of further variables for processes on other machines.

    Raises
    ------
    ValueError
        If there is nothing to start, or more workers than batches can be dealt to.
    """

    command: Sequence[str]
    workers: int
    servers: int = 1
    hosts: Sequence[Host] = (HERE,)
    port: Optional[int] = None
    ssh: str = SSH
    gpus_per_worker: Optional[int] = None
    pass_on: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("There is no command: write it behind --.")
        for name in ("workers", "servers"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be 1 or more, got {getattr(self, name)}.")

    def run(self) -> int:
        """Start all, wait for the workers, and return the exit code of the run.

        It is 0 if all workers ended well, else that of the process that ended first. Whatever
        happens, no process stays behind.
        """
        watch = _Watch()
        handlers = {
            signum: signal.signal(signum, watch.note) for signum in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            for start in self._plan():
                watch.members.append(start())
            return watch.until_the_end()
        finally:
            watch.stop()
            for signum, handler in handlers.items():
                signal.signal(signum, handler)

    def _plan(self) -> list[Callable[[], Member]]:
        places = [self.hosts[n * len(self.hosts) // self.workers] for n in range(self.workers)]
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
        ) -> Callable[[], Member]:
            passed = _passed_on(self.pass_on) if host.name is not None else {}
            variables = {**passed, **common, "DMLC_NODE_HOST": host.address, **own}
            return lambda: Member(role, number, host, command, variables, self.ssh)

        # Not DMLC_ROLE, which has MXNet serve, and import nothing more, as soon as it is imported.
        one = {"OMP_NUM_THREADS": "1"}
        plan = [member("scheduler", 0, self.hosts[0], (*SERVE, "scheduler"), **one)]
        for number in range(self.servers):
            host = self.hosts[number % len(self.hosts)]
            plan.append(member("server", number, host, (*SERVE, "server"), **one))
        for number, host in enumerate(places):
            own = {"DMLC_ROLE": "worker", "GLUONDENSE_WORKER": str(number)}
            own["GLUONDENSE_SHARE"] = str(places.count(host))
            if self.gpus_per_worker:
                first = (number - places.index(host)) * self.gpus_per_worker
                gpus = range(first, first + self.gpus_per_worker)
                own["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
            plan.append(member("worker", number, host, self.command, **own))
        return plan


def _passed_on(names: Sequence[str]) -> dict[str, str]:
    wanted = {*PASSED_ON, *names}
    return {
        name: value
        for name, value in os.environ.items()
        if name in wanted or name.startswith(PASSED_ON_PREFIXES)
    }


@dataclass
class _Watch:
    """The processes that run, and the signals that came."""

    members: list[Member] = field(default_factory=list)
    signums: list[int] = field(default_factory=list)
    _passed: int = 0
    _alive_at: float = 0.0

    def note(self, signum: int, frame: Any) -> None:
        self.signums.append(signum)

    def until_the_end(self) -> int:
        ended_at = None
        while True:
            time.sleep(POLL_SECONDS)
            self._speak()
            if len(self.signums) > 1:
                return 128 + self.signums[-1]
            if self._failed():
                return self._culprit()
            workers = [member for member in self.members if member.role == "worker"]
            if all(member.code is not None for member in workers):
                return max(member.code or 0 for member in workers)
            if ended_at is None and any(member.code is not None for member in self.members):
                ended_at = time.monotonic()
            if ended_at is not None and time.monotonic() - ended_at > LEAVE_SECONDS:
                return self._culprit()

    def stop(self) -> None:
        """End all that still runs, first politely."""
        workers_ended = all(m.code is not None for m in self.members if m.role == "worker")
        if workers_ended:
            self._wait(GRACE_SECONDS)  # servers and scheduler leave by themselves
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for member in self._running():
                member.send(signum)
            self._wait(GRACE_SECONDS)
        for member in self.members:
            member.drop()

    def _speak(self) -> None:
        """Pass a new signal on to the workers, or show that the launcher lives."""
        if len(self.signums) > self._passed:
            self._passed = len(self.signums)
            _say(f"{signal.Signals(self.signums[-1]).name}: asked the workers to save and stop")
            for member in self.members:
                if member.role == "worker":
                    member.send(self.signums[-1])
        if time.monotonic() - self._alive_at > LIFE_SECONDS:
            self._alive_at = time.monotonic()
            for member in self.members:
                member.send(0)

    def _failed(self) -> list[Member]:
        good = {None, 0, *(128 + signum for signum in self.signums)}
        return [member for member in self.members if member.code not in good]

    def _culprit(self) -> int:
        """Name the process that ended first, and return its exit code."""
        time.sleep(SETTLE_SECONDS)
        ended = self._failed() or [m for m in self.members if m.code is not None]
        # Those that were killed did not end because of others.
        culprit = min(ended, key=lambda m: (m.code == PEER_LOST_EXIT, (m.code or 0) <= 128))
        _say(
            f"{culprit.ending()}: stopping all. See its messages above; a training script goes on "
            "from its last checkpoint with --resume."
        )
        return culprit.code or 1

    def _running(self) -> list[Member]:
        return [member for member in self.members if member.code is None]

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._running() and time.monotonic() < until:
            time.sleep(POLL_SECONDS)


def _say(text: str) -> None:
    print(f"launch: {text}", file=sys.stderr, flush=True)
