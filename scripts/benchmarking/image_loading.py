# SPDX-License-Identifier: Apache-2.0
"""Throughput of image loading on one core, beside ImageRecordIter and torchvision with Pillow.

Each loader decodes the images of a RecordIO file, and randomly crops, resizes, flips and normalizes
them to float32 (3, 224, 224). Loaders run in alternating rounds. A round starts with some batches
that fill the loader's prefetch queue, so that it produces as much as it delivers while it is timed;
the time is CPU time.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Generator
from importlib.util import find_spec
from statistics import median

import cv2
import mxnet as mx
import numpy as np
from PIL import Image
from tabulate import tabulate

from gluondense.data.files.sources import RecordSource
from gluondense.data.loaders.stream import StreamLoader
from gluondense.data.preprocessing import IMAGENET
from gluondense.data.transforms.image import EvalTransform, TrainTransform, Transform

from .workers.torch_peer import import_torchvision

MEAN, STD = IMAGENET.mean, IMAGENET.std
SIZE = (224, 224)
_WARM_UP, _TIMED = 4, 8  # batches of a round, before and during its timing
PLAIN = ("random_resized_crop", "flip")
COLOR = (*PLAIN, "color_jitter", "lighting")
OURS: dict[str, Transform] = {
    "gluondense": TrainTransform(SIZE, PLAIN),
    "gluondense, with colour jitter and lighting": TrainTransform(SIZE, COLOR),
    "gluondense, with RandAugment too": TrainTransform(SIZE, (*COLOR, "rand_augment")),
    "gluondense, evaluation": EvalTransform(IMAGENET),
}


def _ours(path: str, batch: int, transform: Transform) -> Generator[None, None, None]:
    loader = StreamLoader(RecordSource(path), transform, batch, shuffle=True, last="discard")
    epoch = 0
    try:
        while True:
            for _ in loader.batches(epoch):
                yield
            epoch += 1
    finally:
        loader.close()


def _record_iter(path: str, batch: int) -> Generator[None, None, None]:
    files = {"path_imgrec": path, "path_imgidx": path[:-4] + ".idx"}
    options = {"shuffle": True, "preprocess_threads": 1, "verbose": False}
    crop = {"random_resized_crop": True, "min_random_area": 0.08, "max_random_area": 1.0}
    crop.update(min_aspect_ratio=3 / 4, max_aspect_ratio=4 / 3, rand_mirror=True)
    means = {"mean_r": 123.68, "mean_g": 116.779, "mean_b": 103.939}
    stds = {"std_r": 58.393, "std_g": 57.12, "std_b": 57.375}
    batches = mx.io.ImageRecordIter(
        data_shape=(3, *SIZE), batch_size=batch, **files, **options, **crop, **means, **stds
    )
    while True:
        for item in batches:
            item.data[0].wait_to_read()
            yield
        batches.reset()


def _torchvision(path: str, batch: int) -> Generator[None, None, None]:
    import torch

    transforms = import_torchvision().transforms
    torch.set_num_threads(1)
    geometric = [transforms.RandomResizedCrop(SIZE[0]), transforms.RandomHorizontalFlip()]
    normalize = transforms.Normalize(MEAN, STD)
    transform = transforms.Compose([*geometric, transforms.ToTensor(), normalize])
    source, rng = RecordSource(path), np.random.default_rng(0)
    while True:
        order = rng.permutation(len(source))
        for at in range(0, len(order) - batch + 1, batch):
            images = [
                transform(Image.open(io.BytesIO(source.read(int(index)).data)).convert("RGB"))
                for index in order[at : at + batch]
            ]
            torch.stack(images)
            yield


def measure(path: str, batch: int = 50, rounds: int = 5) -> dict[str, tuple[float, float, float]]:
    """Return images per second of each loader: median, minimum and maximum of the rounds.

    Parameters
    ----------
    path
        RecordIO file of at least ``batch`` images, with its index beside it.
    batch, rounds
        Images per batch, and rounds of each loader.
    """
    cv2.setNumThreads(1)
    makers: dict[str, Callable[[], Generator[None, None, None]]] = {
        name: lambda transform=transform: _ours(path, batch, transform)  # type: ignore[misc]
        for name, transform in OURS.items()
    }
    makers["MXNet's ImageRecordIter"] = lambda: _record_iter(path, batch)
    if find_spec("torchvision"):
        makers["torchvision with Pillow"] = lambda: _torchvision(path, batch)
    times: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(rounds):
        for name, make in makers.items():
            with contextlib.closing(make()) as batches:
                for _ in range(_WARM_UP):
                    next(batches)
                began = time.process_time()
                for _ in range(_TIMED):
                    next(batches)
                times[name].append(_TIMED * batch / (time.process_time() - began))
    return {name: (median(rates), min(rates), max(rates)) for name, rates in times.items()}


def table(rates: dict[str, tuple[float, float, float]]) -> str:
    """Return a Markdown table of the results of :func:`measure`."""
    rows = [(name, *figures) for name, figures in rates.items()]
    heads = ("images a second on one core", "median", "minimum", "maximum")
    return tabulate(rows, heads, tablefmt="github", floatfmt=".0f")
