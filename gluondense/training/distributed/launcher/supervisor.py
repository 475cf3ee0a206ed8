"""Runs one command on its host and ends it with the launcher: ``python -c SOURCE COMMAND ...``.

The launcher writes lines with numbers of signals for the command; 0 is only a sign of life. When
the lines end, or none comes for a while, the launcher or the way to it has gone, and the command is
stopped. Standard library only, as the text of this file is what the hosts are given.
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

SILENCE_SECONDS = 30
GRACE_SECONDS = 5
# ps-lite, inside MXNet, takes a PORT for its own and a DMLC_RANK for known; containers export them.
UNWANTED = ("PORT", "DMLC_RANK")
PR_SET_PDEATHSIG = 1


def main(command: list) -> int:
    """Run the command; return its exit code, or 128 and the number of the signal that ended it."""
    for name in UNWANTED:
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
    threading.Thread(target=obey, args=(child,), daemon=True).start()
    code = child.wait()
    kill_group(child)  # what the command itself left behind
    return code if code >= 0 else 128 - code


def obey(child: subprocess.Popen) -> None:
    """Pass signals on until the launcher is silent, then stop the command."""
    rest = b""
    while select.select([0], [], [], SILENCE_SECONDS)[0]:
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
    """Kill the command and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
