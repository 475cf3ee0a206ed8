# SPDX-License-Identifier: Apache-2.0
"""Convert a list of images to a RecordIO file; an interrupted conversion can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional, Union

import numpy as np
from tqdm import tqdm

from ...files import write_bytes
from ...text import read_json
from .encode import RecordOptions, encode_all
from .image_list import ImageList
from .recordio import Record, end_of, read_index, write_record

Keys = Union[Sequence[int], np.ndarray]


@dataclass(frozen=True)
class RecordSummary:
    """The result of :func:`make_recordio`."""

    path: Path  # the .rec file
    written: int  # number of its records
    resumed_at: int  # index of the first image that this call encoded
    skipped: tuple[tuple[str, str], ...]  # name of each skipped image, and why it is unreadable


def make_recordio(
    prefix: str | os.PathLike[str],
    images: ImageList,
    options: Optional[RecordOptions] = None,
    keys: Optional[Keys] = None,
    workers: int = 1,
    progress: bool = False,
) -> RecordSummary:
    """Write ``PREFIX.rec``, ``.idx``, ``.lst`` and ``.classes.txt``; ``PREFIX.rec`` must not exist.

    Until the conversion is complete, the first two are named ``PREFIX.rec.part`` and
    ``PREFIX.idx.part``. A further call with the same images and options resumes after the last
    complete record. Neither interruptions nor the number of processes change the resulting bytes.

    Parameters
    ----------
    prefix
        Path of the files without suffix.
    images
        The images, in the order of the records.
    options
        How to store them; ``RecordOptions()`` by default.
    keys
        The key of each record; 0, 1, 2, … by default.
    workers
        Number of processes that decode and encode.
    progress
        Whether to show a progress bar on a terminal.
    """
    options = options or RecordOptions()
    conversion = _Conversion(
        Path(prefix), images, options, np.arange(len(images)) if keys is None else keys
    )
    start = conversion.begin()
    bar = tqdm(total=len(images), initial=start, unit=" images", disable=None if progress else True)
    rec_path, idx_path = conversion.part(".rec"), conversion.part(".idx")
    with open(rec_path, "ab") as rec, open(idx_path, "a") as idx, bar:
        for index, data, problem in encode_all(images, options, start, workers):
            if problem is None:
                key, offset = int(conversion.keys[index]), rec.tell()
                write_record(rec, Record(key, float(images.labels[index]), data))
                # The index is written after the record, so each of its lines has a whole record.
                rec.flush()
                idx.write(f"{key}\t{offset}\n")
                idx.flush()
            elif options.bad == "error":
                raise ValueError(problem)
            else:
                conversion.skip(index, problem)
            bar.update()
        for file in (rec, idx):
            os.fsync(file.fileno())
    return conversion.finish(start)


class _Conversion:
    """The files of one conversion, finished or not."""

    def __init__(self, prefix: Path, images: ImageList, options: RecordOptions, keys: Keys) -> None:
        self.prefix, self.images, self.options, self.keys = prefix, images, options, keys
        if not len(images):
            raise ValueError("there are no images to store")
        if len(keys) != len(images) or len(set(map(int, keys))) != len(keys):
            raise ValueError(f"keys ({len(keys)}) must be {len(images)} different numbers")

    def file(self, suffix: str) -> Path:
        return Path(f"{self.prefix}{suffix}")

    def part(self, suffix: str) -> Path:
        return self.file(suffix + ".part")

    def begin(self) -> int:
        """Create the files, or truncate those of an interrupted run; return where to start."""
        state = self.part(".job")
        if self.file(".rec").exists():
            self._remove_state()  # left if the conversion was killed after its last rename
            raise FileExistsError(
                f"{self.file('.rec')} exists already; remove it or name another prefix"
            )
        self.prefix.parent.mkdir(parents=True, exist_ok=True)
        rows = zip(self.keys, self.images.labels, map(os.fsdecode, self.images.names))
        rows_text = "".join(f"{key}\t{label:.6f}\t{name}\n" for key, label, name in rows)
        checksum = hashlib.sha256(rows_text.encode()).hexdigest()
        identity = {**asdict(self.options), "list": checksum}
        if not self.part(".rec").exists():  # a finished .rec was removed, to make it again
            self._remove_state()
        if state.exists():
            if read_json(state) != identity:
                raise ValueError(
                    f"{state.parent} has an unfinished {self.prefix.name} of other images or "
                    f"options; remove {self.prefix.name}.*.part to start again"
                )
            return self._truncate()
        self.file(".lst").write_text(rows_text, encoding="utf-8")
        names = "".join(f"{name}\n" for name in self.images.class_names)
        self.file(".classes.txt").write_text(names, encoding="utf-8")
        for suffix in (".rec", ".idx", ".skipped"):
            self.part(suffix).write_bytes(b"")
        write_bytes(state, json.dumps(identity).encode())
        return 0

    def skip(self, index: int, problem: str) -> None:
        """Record an unreadable image."""
        with open(self.part(".skipped"), "a", encoding="utf-8") as file:
            file.write(f"{index}\t{self.images.name(index)}\t{problem}\n")

    def finish(self, start: int) -> RecordSummary:
        """Rename the complete files and remove the state."""
        skipped = self._read_skipped()
        if skipped:
            lines = "".join(f"{name}\t{problem}\n" for name, problem in skipped.values())
            write_bytes(self.file(".skipped.txt"), lines.encode())
        for suffix in (".idx", ".rec"):  # .rec comes last, so that all others exist with it
            os.replace(self.part(suffix), self.file(suffix))
        self._remove_state()
        written = len(self.images) - len(skipped)
        return RecordSummary(self.file(".rec"), written, start, tuple(skipped.values()))

    def _remove_state(self) -> None:
        for suffix in (".skipped", ".job"):
            self.part(suffix).unlink(missing_ok=True)

    def _truncate(self) -> int:
        """Cut all files after the last complete record; return the index of the next image."""
        rec, idx = self.part(".rec"), self.part(".idx")
        if not idx.exists():  # interrupted between the last two renames
            os.replace(self.file(".idx"), idx)
        text = idx.read_bytes()
        os.truncate(idx, text.rfind(b"\n") + 1)  # the last line may be incomplete
        keys, offsets = read_index(idx)
        while len(offsets):
            try:
                os.truncate(rec, end_of(rec, int(offsets[-1])))
                break
            except ValueError:  # after a power cut the index may be longer than the file
                keys, offsets = keys[:-1], offsets[:-1]
        else:
            os.truncate(rec, 0)
        idx.write_text("".join(f"{key}\t{offset}\n" for key, offset in zip(keys, offsets)))
        start = 0
        if len(keys):
            known = list(map(int, self.keys))
            if keys[-1] not in known:
                raise ValueError(f"{idx} is damaged; remove {self.prefix.name}.*.part")
            start = 1 + known.index(keys[-1])
        skipped = self._read_skipped()
        rows = "".join(f"{i}\t{name}\t{problem}\n" for i, (name, problem) in skipped.items())
        write_bytes(self.part(".skipped"), rows.encode())
        while start in skipped:  # images after the last record that are known to be unreadable
            start += 1
        return start

    def _read_skipped(self) -> dict[int, tuple[str, str]]:
        """Read the name of each skipped image and why it is unreadable, by its index, sorted."""
        # The last line may be incomplete, even within a letter.
        path = self.part(".skipped")
        lines = path.read_bytes().split(b"\n")[:-1]
        try:
            rows = [line.decode("utf-8").split("\t", 2) for line in lines]
            return dict(sorted((int(index), (name, problem)) for index, name, problem in rows))
        except ValueError:
            raise ValueError(f"{path} is damaged; remove {self.prefix.name}.*.part") from None
