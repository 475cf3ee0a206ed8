"""Batches for a network from encoded pictures, prepared by other processes."""

from __future__ import annotations

import mmap
import sys
import weakref
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from ..files.sources import Source
from ..transforms.image import Transform
from .array import Batch, check_position
from .processes import Workers

BAD = ("skip", "error")
_SLOTS = 3  # batches in memory: the one in use, and two that are being prepared
_TRIES = 16  # pictures in a row that may be unreadable
NO_LABEL = -1


class StreamLoader:
    """Batches of normalised pictures and labels, each picture a function of (seed, epoch, place).

    Neither the number of processes nor the size of the batches changes what is made of a picture,
    so a run resumes exactly, on another machine too. A batch lies in memory that all processes
    share, and is overwritten when the one after it is asked for. The processes are forked when the
    loader is made; they end with it, and with this process, however that ends.

    Parameters
    ----------
    source
        The pictures.
    transform
        What is made of each.
    batch_size
        Pictures a batch.
    shuffle
        A new order each epoch; else the order of the source.
    seed
        A non-negative integer.
    last
        What to do with a last batch that is not full: ``"keep"`` or ``"discard"``.
    workers
        Processes; 0 prepares in a thread of this one.
    bad
        What to do with a picture that can't be read: ``"skip"`` names it and, when shuffling, takes
        the next one, else gives its input as zeros with the label -1; or ``"error"``.
    classes
        Labels must be below.
    part
        Which part of each batch is yielded, and of how many, as :class:`ArrayLoader` has it.
    block
        First place and end of the part of the source that is used; None uses all.

    Raises
    ------
    ValueError
        If an argument is outside its range.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        last: str = "keep",
        workers: int = 0,
        bad: str = "skip",
        classes: int = sys.maxsize,
        part: tuple[int, int] = (0, 1),
        block: tuple[int, int] | None = None,
    ) -> None:
        self._places = range(*(block or (0, len(source))))
        if last not in ("keep", "discard"):
            raise ValueError(f"last={last!r} must be 'keep' or 'discard'")
        if bad not in BAD:
            raise ValueError(f"bad={bad!r} must be one of {', '.join(BAD)}")
        if batch_size < 1 or (last == "discard" and batch_size > len(self._places)):
            raise ValueError(
                f"batch_size={batch_size} must lie between 1 and {len(self._places)}, the pictures"
            )
        if not 0 <= part[0] < part[1]:
            raise ValueError(f"part={part} must be a number from 0 up and how many there are")
        if workers < 0:
            raise ValueError(f"workers={workers} must not be negative")
        self._batch_size, self._last, self._part = batch_size, last, part
        self._shuffle = shuffle
        data, labels = _shared(-(-batch_size // part[1]), transform.shape)
        self._filler = _Filler(source, transform, data, labels, shuffle, seed, bad, classes)
        self.bad: dict[str, str] = {}
        """Unreadable pictures met so far: name and reason."""
        self._workers = Workers(self._filler, workers)
        self._end = weakref.finalize(self, self._workers.close)

    def __len__(self) -> int:
        full, rest = divmod(len(self._places), self._batch_size)
        return full + (self._last == "keep" and rest > 0)

    def count(self, index: int) -> int:
        """Return how many pictures the batch of that number has, over all its parts."""
        return min(self._batch_size, len(self._places) - index * self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield epoch 0, the only one of a loader that neither shuffles nor augments."""
        return self.batches(epoch=0)

    def close(self) -> None:
        """End the processes; the loader is of no use any more."""
        self._end()

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yield one epoch's batches: float32 (N, …) and int32 (N,), valid until the next.

        Parameters
        ----------
        epoch
            Non-negative; chooses the order and the augmentation.
        start
            Batches to skip, without preparing them.

        Raises
        ------
        ValueError
            For a negative ``epoch``, or a ``start`` outside 0 to ``len(loader)``; later, for a
            picture that can't be read where ``bad`` is ``"error"``, or a label that is too large.
        ChildProcessError
            If a process died.
        """
        check_position(epoch, start, len(self))
        return self._batches(epoch, start)

    def _batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        self._workers.drain()  # what an epoch that was left early had ordered
        filler, order = self._filler, self._order(epoch)
        counts: list[int] = []
        for index in range(start, len(self) + _SLOTS - 1):
            if index < len(self):
                batch = order[index * self._batch_size : (index + 1) * self._batch_size]
                chosen = np.array_split(batch, self._part[1])[self._part[0]]
                counts.append(len(chosen))
                self._submit(index % _SLOTS, epoch, chosen)
            done = index - (_SLOTS - 1)
            if done >= start:
                self._collect()
                slot, count = done % _SLOTS, counts[done - start]
                yield filler.data[slot, :count], filler.labels[slot, :count].copy()

    def _order(self, epoch: int) -> np.ndarray:
        places = np.array(self._places)
        if not self._shuffle:
            return places
        return self._filler.rng(epoch, self._places.stop).permutation(places)

    def _submit(self, slot: int, epoch: int, chosen: np.ndarray) -> None:
        at = 0
        for lane, part in enumerate(np.array_split(chosen, self._workers.count)):
            self._workers.submit(lane, (slot, at, epoch, part))
            at += len(part)

    def _collect(self) -> None:
        for lane in range(self._workers.count):
            for name, reason in self._workers.collect(lane):
                if name not in self.bad:
                    print(f"warning: skipped {name}: {reason}", file=sys.stderr, flush=True)
                self.bad[name] = reason


@dataclass(frozen=True)
class _Filler:
    """What the processes do: pictures of an epoch into the shared memory."""

    source: Source
    transform: Transform
    data: np.ndarray
    labels: np.ndarray
    shuffle: bool
    seed: int
    bad: str
    classes: int

    def __call__(self, task: tuple[int, int, int, np.ndarray]) -> list[tuple[str, str]]:
        """Prepare some pictures of a batch; return those that couldn't be read, and why."""
        slot, at, epoch, chosen = task
        problems: list[tuple[str, str]] = []
        for row, place in enumerate(chosen.tolist(), at):
            out = self.data[slot, row]
            self.labels[slot, row] = self._read(epoch, place, out, problems)
        return problems

    def rng(self, epoch: int, place: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed, (epoch << 40) + place]))

    def _read(
        self, epoch: int, place: int, out: np.ndarray, problems: list[tuple[str, str]]
    ) -> int:
        rng = self.rng(epoch, place)
        for step in range(_TRIES if self.shuffle else 1):
            near = (place + step) % len(self.source)
            name = f"picture {near}"
            try:
                data, label, name = self.source.read(near)
                if not 0 <= label < self.classes:
                    raise LabelError(
                        f"{name} has the label {label}, not one of the {self.classes} classes"
                    )
                self.transform(data, name, rng, out)
                return label
            except LabelError:
                raise
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split())
                if self.bad == "error":
                    raise ValueError(f"{reason}; or leave such pictures out: --bad skip") from None
                problems.append((name, reason))
        if self.shuffle:
            raise ValueError(f"{_TRIES} pictures in a row can't be read, {problems[-1][1]} last")
        out[:] = 0
        return NO_LABEL


class LabelError(ValueError):
    """A label that the network has no output for: never skipped, the classes are wrong."""


def _shared(batch_size: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Make the batches' memory, which forked processes share and which goes with the last of them.

    Not a named segment: /dev/shm is small in containers, and what is named stays after a crash.
    """
    sizes = (_SLOTS, batch_size, *shape), (_SLOTS, batch_size)
    data = np.frombuffer(mmap.mmap(-1, 4 * int(np.prod(sizes[0]))), np.float32).reshape(sizes[0])
    labels = np.frombuffer(mmap.mmap(-1, 4 * int(np.prod(sizes[1]))), np.int32).reshape(sizes[1])
    return data, labels
