"""Fuzzes a reader guided by the coverage of gluondense's code; needs atheris.

    PYTHONPATH=.:tests python -m fuzz.guided "RecordIO .lst" corpus -max_total_time=600

The arguments after the reader are libFuzzer's. The folder keeps the inputs that reached new code.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["gluondense"]):
    from fuzz.mutation import LARGEST, Files, mutated
    from fuzz.reader import Defect, Reader, try_reading, write
    from fuzz.worker import CPU_SECONDS, READERS

_SIZES = struct.Struct("<HI")  # of a name and of a content


def packed(files: Files) -> bytes:
    """Return files as one input."""
    rows = ((name.encode(), content) for name, content in files.items())
    return b"".join(_SIZES.pack(len(n), len(c)) + n + c for n, c in rows)


def unpacked(data: bytes) -> Files:
    """Return the files of an input; none if it was not made by :func:`packed`."""
    files, at = {}, 0
    try:
        while at < len(data):
            name_size, size = _SIZES.unpack_from(data, at)
            name = data[at + _SIZES.size : at + _SIZES.size + name_size].decode()
            at += _SIZES.size + name_size + size
            files[name] = data[at - size : at]
    except (struct.error, UnicodeDecodeError):
        return {}
    return files


class Guided:
    """The functions that libFuzzer calls for a reader."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self.place, self.known = reader, folder / "files", Counter()
        for name in ("making", "files"):
            (folder / name).mkdir()
        self.seeds = list(reader.seeds(folder / "making"))
        self.names = [set(seed) for seed in self.seeds]

    def write_seeds(self, corpus: Path) -> None:
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(self.seeds):
            (corpus / f"seed-{number}").write_bytes(packed(seed))

    def mutate(self, data: bytes, largest: int, seed: int) -> bytes:
        """Damage an input of the corpus."""
        files = unpacked(data)
        start = files if set(files) in self.names else None
        changed = packed(mutated(Random(seed), self.seeds, self.reader.damaged, start))
        return changed if len(changed) <= largest else data

    def read(self, data: bytes) -> None:
        """Read an input; print each defect once."""
        files = unpacked(data)
        if set(files) not in self.names:
            return
        files = self.reader.pack(files)
        write(self.place, files)
        found = try_reading(self.reader, self.place, files)
        if isinstance(found, Defect):
            self.known[found.place] += 1
            if self.known[found.place] == 1:
                print(f"DEFECT {found.place}\n{found.details}", flush=True)


def main() -> None:
    """Fuzz until libFuzzer ends."""
    name, corpus, *flags = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="guided-") as work:
        guided = Guided(READERS[name], Path(work))
        guided.write_seeds(Path(corpus))
        limits = [f"-max_len={LARGEST}", f"-timeout={CPU_SECONDS}", "-rss_limit_mb=4096"]
        argv = [sys.argv[0], *limits, *flags, corpus]
        atheris.Setup(argv, guided.read, custom_mutator=guided.mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
