"""Pictures into a RecordIO file, by several processes, and on again after an interruption."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Optional, Union

import cv2
import numpy as np
from tqdm import tqdm

from ..datasets.folders import PictureList
from ..loaders.processes import become_worker
from .decode import decode
from .recordio import Record, end_of, read_index, write_record

ENCODINGS = (".jpg", ".png")
BAD = ("skip", "error")
_CHUNK = 16  # pictures a task: enough to make its overhead small
_AHEAD = 4  # tasks a process that may wait, done or undone


@dataclass(frozen=True)
class RecordOptions:
    """How pictures are stored.

    Parameters
    ----------
    resize
        Length in pixels that the shorter side is shrunk to; shorter ones stay. 0 keeps all sizes.
    center_crop
        Whether to cut the longer side to the length of the shorter.
    quality
        0 to 100 for JPEG, 0 to 9 (compression) for PNG.
    encoding
        ``".jpg"`` or ``".png"``.
    pass_through
        Store the files' own bytes, after checking that they decode; nothing else applies.
    bad
        What to do with a picture that can't be read: ``"skip"`` and name it, or ``"error"``.

    Raises
    ------
    ValueError
        If a field is outside its range.
    """

    resize: int = 0
    center_crop: bool = False
    quality: int = 95
    encoding: str = ".jpg"
    pass_through: bool = False
    bad: str = "skip"

    def __post_init__(self) -> None:
        if self.resize < 0:
            raise ValueError(f"resize={self.resize} must be a length in pixels, or 0")
        for name, choices in (("encoding", ENCODINGS), ("bad", BAD)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {choices}")
        limit = 100 if self.encoding == ".jpg" else 9
        if not 0 <= self.quality <= limit:
            raise ValueError(
                f"quality={self.quality} must lie between 0 and {limit} for {self.encoding}"
            )


@dataclass(frozen=True)
class RecordSummary:
    """What :func:`make_recordio` wrote, and the names and reasons of what it left out."""

    path: Path
    written: int
    resumed_at: int
    skipped: tuple[tuple[str, str], ...]


def make_recordio(
    prefix: str | os.PathLike[str],
    pictures: PictureList,
    options: Optional[RecordOptions] = None,
    keys: Union[Sequence[int], np.ndarray, None] = None,
    workers: int = 1,
    progress: bool = False,
) -> RecordSummary:
    """Write ``PREFIX.rec``, ``.idx``, ``.lst`` and ``.classes.txt``.

    Until all is done the first two are ``PREFIX.rec.part`` and ``PREFIX.idx.part``. Called again
    with the same pictures and options it goes on behind the last whole record there; the result is
    the same, byte for byte, whatever the interruptions and the number of processes.

    Parameters
    ----------
    prefix
        Path of the files without their suffix.
    pictures
        What to store, in this order.
    options
        How; ``RecordOptions()`` by default.
    keys
        The records' numbers; 0, 1, 2, … by default.
    workers
        Processes that decode and encode.
    progress
        Show a progress bar on a terminal.

    Raises
    ------
    FileExistsError
        If ``PREFIX.rec`` is there.
    ValueError
        If a picture can't be read and ``options.bad`` is ``"error"``, or what was begun there had
        other pictures or options.
    ChildProcessError
        If a process died, for want of memory perhaps.
    """
    options = options or RecordOptions()
    job = _Job(Path(prefix), pictures, options, np.arange(len(pictures)) if keys is None else keys)
    start = job.begin()
    with open(job.part(".rec"), "ab") as rec, open(job.part(".idx"), "a") as idx:
        bar = tqdm(
            total=len(pictures), initial=start, unit=" pictures", disable=None if progress else True
        )
        with bar:
            for place, data, problem in _encoded(pictures, options, start, workers):
                if problem is not None:
                    if options.bad == "error":
                        raise ValueError(problem)
                    job.skip(place, problem)
                else:
                    key = int(job.keys[place])
                    offset = rec.tell()
                    write_record(rec, Record(key, float(pictures.labels[place]), data))
                    # The index follows the record, so each line of it stands for a whole one.
                    rec.flush()
                    idx.write(f"{key}\t{offset}\n")
                    idx.flush()
                bar.update()
        for file in (rec, idx):
            os.fsync(file.fileno())
    return job.finish(start)


class _Job:
    """The files of one conversion."""

    def __init__(
        self,
        prefix: Path,
        pictures: PictureList,
        options: RecordOptions,
        keys: Union[Sequence[int], np.ndarray],
    ) -> None:
        self.prefix, self.pictures, self.options, self.keys = prefix, pictures, options, keys
        if len(keys) != len(pictures) or len(set(map(int, keys))) != len(keys):
            raise ValueError("keys must be as many as the pictures, each another number")
        if not len(pictures):
            raise ValueError("there are no pictures to store")

    def file(self, suffix: str) -> Path:
        return Path(f"{self.prefix}{suffix}")

    def part(self, suffix: str) -> Path:
        return self.file(suffix + ".part")

    def begin(self) -> int:
        """Make the first files, or cut what an interrupted run left to whole records."""
        if self.file(".rec").exists():
            raise FileExistsError(
                f"{self.file('.rec')} is there already; remove it or name another prefix"
            )
        self.prefix.parent.mkdir(parents=True, exist_ok=True)
        rows = zip(self.keys, self.pictures.labels, map(os.fsdecode, self.pictures.names))
        listed = "".join(f"{key}\t{label:.6f}\t{name}\n" for key, label, name in rows)
        mark = {**asdict(self.options), "list": hashlib.sha256(listed.encode()).hexdigest()}
        state = self.part(".job")
        if state.exists():
            if json.loads(state.read_text()) != mark:
                raise ValueError(
                    f"{state.parent} holds an unfinished {self.prefix.name} of other pictures or "
                    f"options; remove {self.prefix.name}.*.part to begin anew"
                )
            return self._cut()
        self.file(".lst").write_text(listed, encoding="utf-8")
        names = "".join(f"{name}\n" for name in self.pictures.class_names)
        self.file(".classes.txt").write_text(names, encoding="utf-8")
        for suffix in (".rec", ".idx", ".skipped"):
            self.part(suffix).write_bytes(b"")
        state.write_text(json.dumps(mark))
        return 0

    def skip(self, place: int, problem: str) -> None:
        with open(self.part(".skipped"), "a", encoding="utf-8") as file:
            file.write(f"{place}\t{self.pictures.name(place)}\t{problem}\n")

    def finish(self, start: int) -> RecordSummary:
        skipped = self._skipped()
        self.part(".skipped").unlink()
        if skipped:
            lines = "".join(f"{name}\t{problem}\n" for _, name, problem in skipped)
            self.file(".skipped.txt").write_text(lines, encoding="utf-8")
        for suffix in (".idx", ".rec"):  # the file comes last: where it is, its index is too
            os.replace(self.part(suffix), self.file(suffix))
        self.part(".job").unlink()
        written = len(self.pictures) - len(skipped)
        named = tuple((name, problem) for _, name, problem in skipped)
        return RecordSummary(self.file(".rec"), written, start, named)

    def _cut(self) -> int:
        rec, idx = self.part(".rec"), self.part(".idx")
        text = idx.read_bytes()
        whole = text.rfind(b"\n") + 1  # the last line may be half written
        os.truncate(idx, whole)
        keys, offsets = read_index(idx)
        while len(offsets):
            try:
                os.truncate(rec, end_of(rec, int(offsets[-1])))
                break
            except ValueError:  # after a power cut the index may be ahead of the file
                keys, offsets = keys[:-1], offsets[:-1]
        else:
            os.truncate(rec, 0)
        lines = "".join(f"{key}\t{offset}\n" for key, offset in zip(keys, offsets))
        idx.write_text(lines)
        places = {int(key): place for place, key in enumerate(self.keys)}
        done = [places[int(keys[-1])]] if len(keys) else []
        # Pictures that were skipped behind the last record are done, too.
        later = [place for place, _, _ in self._skipped()]
        begin = max([*done, -1]) + 1
        while begin in later:
            begin += 1
        return begin

    def _skipped(self) -> list[tuple[int, str, str]]:
        rows = self.part(".skipped").read_text(encoding="utf-8").split("\n")
        columns = [row.split("\t", 2) for row in rows if row.count("\t") >= 2]
        unique = {int(place): (name, problem) for place, name, problem in columns}
        return [(place, *unique[place]) for place in sorted(unique)]


def _encoded(
    pictures: PictureList, options: RecordOptions, start: int, workers: int
) -> Iterator[tuple[int, bytes, Optional[str]]]:
    """Yield place, bytes and complaint of all pictures in order."""
    chunks = [
        range(at, min(at + _CHUNK, len(pictures))) for at in range(start, len(pictures), _CHUNK)
    ]
    task = partial(_encode_all, pictures, options)
    if workers <= 1:
        for chunk in chunks:
            yield from task(chunk)
        return
    context = multiprocessing.get_context("fork")
    try:
        # The list of pictures goes to the processes once, by the fork, not with each task.
        with ProcessPoolExecutor(workers, context, _adopt, (task,)) as pool:
            pending: deque[Any] = deque()
            try:
                for chunk in chunks:
                    pending.append(pool.submit(_run, chunk))
                    if len(pending) >= workers * _AHEAD:
                        yield from pending.popleft().result()
                while pending:
                    yield from pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
    except BrokenExecutor:
        raise ChildProcessError(
            "a process that encodes pictures died, for want of memory perhaps; "
            "the same command goes on, with fewer --workers if need be"
        ) from None


_task: Any = None


def _adopt(task: Any) -> None:
    global _task
    _task = task
    become_worker(os.getppid())


def _run(chunk: range) -> list[tuple[int, bytes, Optional[str]]]:
    return _task(chunk)


def _encode_all(
    pictures: PictureList, options: RecordOptions, chunk: range
) -> list[tuple[int, bytes, Optional[str]]]:
    results: list[tuple[int, bytes, Optional[str]]] = []
    for place in chunk:
        path = pictures.root / pictures.name(place)
        try:
            results.append((place, encode(path.read_bytes(), str(path), options), None))
        except (ValueError, OSError) as error:
            results.append((place, b"", " ".join(str(error).split())))
    return results


def encode(data: bytes, name: str, options: RecordOptions) -> bytes:
    """Encode a picture anew, as the options say.

    Raises
    ------
    ValueError
        If it can't be read.
    """
    if options.pass_through:
        decode(data, name)
        return data
    picture = decode(data, name, at_least=2 * options.resize)
    height, width = picture.shape[:2]
    if options.center_crop:
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        picture = picture[top : top + side, left : left + side]
        height = width = side
    if options.resize and min(height, width) > options.resize:
        scale = options.resize / min(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    png = options.encoding == ".png"
    flag = cv2.IMWRITE_PNG_COMPRESSION if png else cv2.IMWRITE_JPEG_QUALITY
    done, encoded = cv2.imencode(
        options.encoding, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [flag, options.quality]
    )
    if not done:
        raise ValueError(f"{name} can't be stored as {options.encoding}")
    return encoded.tobytes()
