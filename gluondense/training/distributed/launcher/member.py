"""One process of a distributed run, here or on another machine."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Optional

from ..rank import PEER_LOST_EXIT
from .hosts import Host

SUPERVISOR = (Path(__file__).parent / "supervisor.py").read_text(encoding="utf-8")
SSH = "ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=3"
SSH_FAILED = 255

_PRINTING = threading.Lock()


class Member:
    """A process whose output comes out here, line by line and under its name.

    Parameters
    ----------
    role, number
        ``"scheduler"``, ``"server"`` or ``"worker"``, and which one.
    host
        Where it runs.
    command
        What it runs.
    variables
        What its environment has besides.
    ssh
        Command that runs another one on a host.
    """

    def __init__(
        self,
        role: str,
        number: int,
        host: Host,
        command: Sequence[str],
        variables: Mapping[str, str],
        ssh: str = SSH,
    ) -> None:
        self.role, self.name, self.host = role, f"{role} {number}", host
        supervised = [sys.executable, "-c", SUPERVISOR, *command]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("DMLC_")}
        environment = {**inherited, **variables}
        if host.name is not None:
            setting = [f"{name}={value}" for name, value in variables.items()]
            there = shlex.join(["env", *setting, *supervised])
            supervised = [
                *shlex.split(ssh),
                host.name,
                f"cd {shlex.quote(os.getcwd())} && exec {there}",
            ]
        self._process = subprocess.Popen(
            supervised,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the launcher, which passes it on
        )
        self._input: Any = self._process.stdin
        self._readers = [
            threading.Thread(target=self._pass_on, args=streams, daemon=True)
            for streams in (
                (self._process.stdout, sys.stdout),
                (self._process.stderr, sys.stderr),
            )
        ]
        for reader in self._readers:
            reader.start()

    @property
    def code(self) -> Optional[int]:
        """Exit code, 128 and more for a signal; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def ending(self) -> str:
        """Say what became of it."""
        who, code = f"{self.name} on {self.host}", self.code
        if code == SSH_FAILED and self.host.name is not None:
            return f"{who} is out of reach (ssh failed or lost its connection)"
        if code == PEER_LOST_EXIT:
            return f"{who} lost another worker"
        if code is not None and code > 128:
            try:
                return f"{who} was killed by {signal.Signals(code - 128).name}"
            except ValueError:
                pass
        return f"{who} ended with exit code {code}"

    def send(self, signum: int) -> None:
        """Have a signal sent to the process; 0 only shows that the launcher lives."""
        with contextlib.suppress(OSError):  # it has ended
            self._input.write(b"%d\n" % signum)

    def drop(self) -> None:
        """Let go of it whatever it does, and print the rest of what it said."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._input.close()
        for reader in self._readers:
            reader.join(timeout=1)

    def _pass_on(self, source: Any, target: IO[str]) -> None:
        with io.BufferedReader(source) as lines:
            for line in lines:
                text = line.decode(errors="replace").rstrip("\r\n")
                # Who closed our output may still want the run to go on.
                with _PRINTING, contextlib.suppress(BrokenPipeError):
                    print(f"{self.name} | {text}", file=target, flush=True)
