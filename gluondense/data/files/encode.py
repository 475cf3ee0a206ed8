# SPDX-License-Identifier: Apache-2.0
"""Re-encode the images of a list, in several processes, for storage in a RecordIO file."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, NamedTuple, Optional

import cv2

from ...errors import check_choice, check_count, check_range
from ..loaders.processes import init_worker
from .decode import decode
from .image_list import ImageList
from .sources import BAD

ENCODINGS = (".jpg", ".png")
_CHUNK = 16  # images per task, enough to make the overhead of a task small
_AHEAD = 4  # submitted tasks per process


@dataclass(frozen=True)
class RecordOptions:
    """How images are stored in a RecordIO file.

    Parameters
    ----------
    resize
        Length in pixels to which the shorter side is reduced; images with a shorter one keep their
        size. 0 keeps all sizes.
    center_crop
        Whether to crop the longer side to the length of the shorter one.
    quality
        0 to 100 for JPEG; compression level 0 to 9 for PNG.
    encoding
        ``".jpg"`` or ``".png"``.
    pass_through
        Whether to store the bytes of the files unchanged after a test that they decode. The other
        fields then have no effect.
    bad
        ``"skip"`` lists unreadable images and leaves them out, ``"error"`` stops at the first.
    """

    resize: int = 0
    center_crop: bool = False
    quality: int = 95
    encoding: str = ".jpg"
    pass_through: bool = False
    bad: str = "skip"

    def __post_init__(self) -> None:
        check_count("resize", self.resize, least=0)
        check_choice("encoding", self.encoding, ENCODINGS)
        check_choice("bad", self.bad, BAD)
        check_range("quality", self.quality, 0, 100 if self.encoding == ".jpg" else 9)


class Encoded(NamedTuple):
    """The image at a position of the list: its new bytes, or the reason why it is unreadable."""

    position: int
    data: bytes
    problem: Optional[str]


def encode(data: bytes, name: str, options: RecordOptions) -> bytes:
    """Re-encode an image; raises a ValueError if it is unreadable."""
    if options.pass_through:
        decode(data, name)
        return data
    image = decode(data, name, at_least=2 * options.resize)
    height, width = image.shape[:2]
    if options.center_crop:
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
        height = width = side
    if options.resize and min(height, width) > options.resize:
        scale = options.resize / min(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    png = options.encoding == ".png"
    flag = cv2.IMWRITE_PNG_COMPRESSION if png else cv2.IMWRITE_JPEG_QUALITY
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(options.encoding, bgr, [flag, options.quality])
    if not done:
        raise ValueError(f"{name} cannot be stored as {options.encoding}")
    return encoded.tobytes()


def encode_all(
    images: ImageList, options: RecordOptions, start: int = 0, workers: int = 1
) -> Iterator[Encoded]:
    """Yield the encoded images of a list in order, from index ``start`` on."""
    chunks = [range(at, min(at + _CHUNK, len(images))) for at in range(start, len(images), _CHUNK)]
    task = partial(_encode_chunk, images, options)
    if workers <= 1:
        for chunk in chunks:
            yield from task(chunk)
        return
    context = multiprocessing.get_context("fork")
    try:
        # The fork passes the list to the processes once, instead of with each task.
        with ProcessPoolExecutor(workers, context, _init_process, (task,)) as pool:
            pending: deque[Any] = deque()
            try:
                for chunk in chunks:
                    pending.append(pool.submit(_run_task, chunk))
                    if len(pending) >= workers * _AHEAD:
                        yield from pending.popleft().result()
                while pending:
                    yield from pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
    except BrokenExecutor:
        raise ChildProcessError(
            "an encoding process died, perhaps for lack of memory; run the same command again to "
            "resume, if necessary with fewer `workers`"
        ) from None


_task: Callable[[range], list[Encoded]]  # of this process


def _init_process(task: Callable[[range], list[Encoded]]) -> None:
    global _task
    _task = task
    init_worker(os.getppid())


def _run_task(chunk: range) -> list[Encoded]:
    return _task(chunk)


def _encode_chunk(images: ImageList, options: RecordOptions, chunk: range) -> list[Encoded]:
    results = []
    for index in chunk:
        try:
            encoded = encode(images.read(index), str(images.path(index)), options)
            results.append(Encoded(index, encoded, None))
        except (ValueError, OSError) as error:
            results.append(Encoded(index, b"", " ".join(str(error).split())))
    return results
