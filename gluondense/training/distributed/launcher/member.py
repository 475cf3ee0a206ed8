# SPDX-License-Identifier: Apache-2.0
"""One process of a distributed run, on this host or another one."""

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
_PRINT_LOCK = threading.Lock()


class Member:
    """A process of the run; its output is printed line by line with its name as prefix.

    Parameters
    ----------
    role, number
        ``"scheduler"``, ``"server"`` or ``"worker"``, and its index among these.
    host, command, variables
        The host that runs it, its command line, and environment variables to set in addition to
        the launcher's.
    ssh
        Command that runs another command on a host.
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
            remote = shlex.join(["env", *setting, *supervised])
            there = f"cd {shlex.quote(os.getcwd())} && exec {remote}"
            supervised = [*shlex.split(ssh), host.name, there]
        self._process = subprocess.Popen(
            supervised,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            bufsize=0,
            start_new_session=True,  # Ctrl-C reaches only the launcher, which forwards it
        )
        self._input: Any = self._process.stdin
        outputs = (self._process.stdout, sys.stdout), (self._process.stderr, sys.stderr)
        self._readers = [
            threading.Thread(target=self._forward, args=streams, daemon=True) for streams in outputs
        ]
        for reader in self._readers:
            reader.start()

    @property
    def code(self) -> Optional[int]:
        """Exit code, 128 + N after signal N, None while the process runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def describe_exit(self) -> str:
        """Return a phrase that says how the process ended."""
        process, code = f"{self.name} on {self.host}", self.code
        if code == SSH_FAILED and self.host.name is not None:
            return f"{process} is out of reach (ssh failed or lost its connection)"
        if code == PEER_LOST_EXIT:
            return f"{process} lost another worker"
        if code is not None and code - 128 in set(signal.Signals):
            return f"{process} was killed by {signal.Signals(code - 128).name}"
        return f"{process} ended with exit code {code}"

    def send(self, signum: int) -> None:
        """Send a signal to the process through its supervisor; 0 is only a heartbeat."""
        with contextlib.suppress(OSError):  # the process has ended
            self._input.write(b"%d\n" % signum)

    def close(self) -> None:
        """Kill the supervisor and print the remaining output."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._input.close()
        for reader in self._readers:
            reader.join(timeout=1)

    def _forward(self, source: Any, target: IO[str]) -> None:
        with io.BufferedReader(source) as lines:
            for line in lines:
                text = line.decode(errors="replace").rstrip("\r\n")
                # If the launcher's output is closed, the run still goes on.
                with _PRINT_LOCK, contextlib.suppress(BrokenPipeError):
                    print(f"{self.name} | {text}", file=target, flush=True)
