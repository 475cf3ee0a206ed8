"""Fuzzes one reader after the other, each in a fork of a process that has imported everything.

A crash ends the fork only: it is counted, and another one goes on with the next input. Each input
depends on the seed, the reader and its number only.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import mmap
import os
import pickle
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzz import boxes, exports, images, runs, weights
from fuzz.mutation import mutated
from fuzz.reader import Defect, Reader, try_reading, write

READERS = {
    reader.name: reader
    for reader in (
        *weights.READERS,
        *exports.READERS,
        *images.READERS,
        *boxes.READERS,
        *runs.READERS,
    )
}
# For an input: of the processor, and in all, which is longer on a busy machine.
CPU_SECONDS, SECONDS = 20, 300
_COUNTS = struct.Struct("QQ")  # inputs tried and accepted


@dataclass
class Result:
    """What became of a reader's inputs: how many were accepted, and the first of each defect."""

    inputs: int = 0
    accepted: int = 0
    defects: dict[str, str] = field(default_factory=dict)  # details by place
    times: Counter = field(default_factory=Counter)  # how often each was found

    def add(self, defect: Defect) -> bool:
        """Count a defect; return whether it is new."""
        self.times[defect.place] += 1
        return self.defects.setdefault(defect.place, defect.details) is defect.details


def fuzz(reader: Reader, seed: int, least: int, seconds: float, keep: Path) -> Result:
    """Read damaged files for some seconds, at least a number of them.

    The inputs of the defects are kept in a folder.
    """
    result = Result()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        folder = Path(work)
        _fork(lambda: _make_seeds(reader, folder))
        end = time.monotonic() + seconds
        while result.inputs < least or time.monotonic() < end:
            counts = mmap.mmap(-1, _COUNTS.size)
            first = result.inputs

            def child(first: int = first, counts: mmap.mmap = counts) -> None:
                _read_inputs(reader, folder, counts, seed, first, least, end, keep)

            status, errors = _fork(child, check=False)
            tried, accepted = _COUNTS.unpack(counts[:])
            result.inputs, result.accepted = first + tried, result.accepted + accepted
            for path in sorted(folder.glob("defect-*")):
                result.add(pickle.loads(path.read_bytes()))
                path.unlink()
            if status and result.add(Defect(f"its process ended with {status}", errors[-6000:])):
                shutil.copytree(folder / "files", _free(keep, reader))
            if status and not tried:
                break  # not because of an input
    return result


def _free(keep: Path, reader: Reader) -> Path:
    """Return the path of a new folder for a defect's input."""
    keep.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in reader.name)
    return next(path for n in itertools.count() if not (path := keep / f"{name}-{n}").exists())


def _make_seeds(reader: Reader, folder: Path) -> None:
    """Make the seeds, and check that they are accepted."""
    for name in ("making", "files"):
        (folder / name).mkdir()
    seeds = list(reader.seeds(folder / "making"))
    for seed in seeds:
        files = reader.pack(seed)
        write(folder / "files", files)
        reader.read(folder / "files")
    (folder / "seeds").write_bytes(pickle.dumps(seeds))


def _read_inputs(
    reader: Reader, folder: Path, counts: mmap.mmap, seed: int, first: int, least: int,
    end: float, keep: Path,
) -> None:  # fmt: skip
    seeds = pickle.loads((folder / "seeds").read_bytes())
    _limit_memory(reader.memory)
    place, accepted, known = folder / "files", 0, Counter()
    for number in itertools.count(first):
        if number >= least and time.monotonic() > end:
            return
        rng = Random(f"{seed} {reader.name} {number}")
        files = reader.pack(mutated(rng, seeds, reader.damaged))
        write(place, files)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        counts[:] = _COUNTS.pack(number - first + 1, accepted)
        found = try_reading(reader, place, files)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(found, Defect):
            known[found.place] += 1
            if known[found.place] == 1:
                kept = _free(keep, reader)
                kept.mkdir()
                write(kept, files)
                found = Defect(found.place, f"input {number}, in {kept}\n{found.details}")
            (folder / f"defect-{number}").write_bytes(pickle.dumps(found))
        accepted += found is True
        counts[:] = _COUNTS.pack(number - first + 1, accepted)


def _limit_memory(mebibytes: int) -> None:
    """Limit the address space to what the process has now and some more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (mebibytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _fork(function, check: bool = True) -> tuple[str, str]:
    """Run a function in a fork; return how it ended, "" if well, and its stderr."""
    errors = os.memfd_create("stderr")
    pid = os.fork()
    if pid == 0:
        os.dup2(errors, 2)
        os.dup2(errors, 1)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 # until the process ends
        for alarm in (signal.SIGPROF, signal.SIGALRM):
            # Without a handler it ends the process, after the traceback is written.
            faulthandler.register(alarm, chain=True)
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    text = os.pread(errors, 1 << 24, 0).decode("utf-8", "replace")
    os.close(errors)
    code = os.waitstatus_to_exitcode(status)
    ended = signal.Signals(-code).name if code < 0 else f"exit code {code}" if code else ""
    if check and ended:
        raise RuntimeError(f"{ended}: {text}")
    return ended, text


def main() -> None:
    """Read jobs from stdin, the arguments of :func:`fuzz`; write the results to stdout."""
    for line in sys.stdin:
        job = json.loads(line)
        reader, keep = READERS[job.pop("reader")], Path(job.pop("keep"))
        print(json.dumps(vars(fuzz(reader, keep=keep, **job))), flush=True)


if __name__ == "__main__":
    main()
