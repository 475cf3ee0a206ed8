# SPDX-License-Identifier: Apache-2.0
"""Supervisor of one command: ``python -c SOURCE COMMAND ...``.

The launcher writes signal numbers to standard input, one per line; 0 is a heartbeat. At the end of
the input, or after a time without heartbeat, the launcher or the connection is gone and the command
is stopped. Hosts get the text of this file, so it uses the standard library only.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time

HEARTBEAT_TIMEOUT = 30
GRACE_SECONDS = 5
# ps-lite, inside MXNet, listens on PORT and takes its rank from DMLC_RANK, which container
# platforms export for other reasons.
MISREAD_BY_PS_LITE = ("PORT", "DMLC_RANK")
PR_SET_PDEATHSIG = 1


def main(command: list) -> int:
    """Run the command; return its exit code, 128 + N after signal N."""
    for name in MISREAD_BY_PS_LITE:
        os.environ.pop(name, None)
    prctl = ctypes.CDLL(None).prctl
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
    except OSError as error:
        print(f"error: cannot start {command[0]!r}: {error.strerror}", file=sys.stderr)
        return 127
    threading.Thread(target=forward_signals, args=(child,), daemon=True).start()
    code = child.wait()
    kill_group(child)  # processes that the command left behind
    return code if code >= 0 else 128 - code


def forward_signals(child: subprocess.Popen) -> None:
    """Forward signals from the launcher until its heartbeat stops, then stop the command."""
    rest = b""
    while select.select([0], [], [], HEARTBEAT_TIMEOUT)[0]:
        data = os.read(0, 4096)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if int(line) == signal.SIGKILL:
                kill_group(child)
            else:
                child.send_signal(int(line))
    child.send_signal(signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    kill_group(child)


def kill_group(child: subprocess.Popen) -> None:
    """Kill the command and its child processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
