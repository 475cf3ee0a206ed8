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
from statistics import median

import cv2
import mxnet as mx
import numpy as np
from PIL import Image

from gluondense.data.files.sources import RecordSource
from gluondense.data.loaders.stream import StreamLoader
from gluondense.data.transforms.image import EvalTransform, TrainTransform, Transform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = (224, 224)
_WARM_UP, _TIMED = 4, 8  # batches of a round, before and during its timing
PLAIN = ("random_resized_crop", "flip")
COLOR = (*PLAIN, "color_jitter", "lighting")
OURS: dict[str, Transform] = {
    "gluondense": TrainTransform(SIZE, PLAIN, MEAN, STD),
    "gluondense, with colour jitter and lighting": TrainTransform(SIZE, COLOR, MEAN, STD),
    "gluondense, with RandAugment too": TrainTransform(SIZE, (*COLOR, "rand_augment"), MEAN, STD),
    "gluondense, evaluation": EvalTransform(SIZE, MEAN, STD),
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
    batches = mx.io.ImageRecordIter(
        path_imgrec=path,
        path_imgidx=path[:-4] + ".idx",
        data_shape=(3, *SIZE),
        batch_size=batch,
        shuffle=True,
        preprocess_threads=1,
        rand_mirror=True,
        random_resized_crop=True,
        min_random_area=0.08,
        max_random_area=1.0,
        min_aspect_ratio=3 / 4,
        max_aspect_ratio=4 / 3,
        mean_r=123.68,
        mean_g=116.779,
        mean_b=103.939,
        std_r=58.393,
        std_g=57.12,
        std_b=57.375,
        verbose=False,
    )
    while True:
        for item in batches:
            item.data[0].wait_to_read()
            yield
        batches.reset()


def _torchvision(path: str, batch: int) -> Generator[None, None, None]:
    import torch

    # torchvision's CUDA wheels expect these operators, which PyTorch for CPUs lacks.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import transforms

    torch.set_num_threads(1)
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE[0]),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
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


def measure(
    path: str, batch: int = 50, rounds: int = 5, torchvision: bool = True
) -> dict[str, tuple[float, float, float]]:
    """Return images per second of each loader: median, minimum and maximum of the rounds.

    Parameters
    ----------
    path
        RecordIO file of at least ``batch`` images, with its index beside it.
    batch, rounds
        Images per batch, and rounds of each loader.
    torchvision
        Whether to measure torchvision.
    """
    cv2.setNumThreads(1)
    makers: dict[str, Callable[[], Generator[None, None, None]]] = {
        name: lambda transform=transform: _ours(path, batch, transform)  # type: ignore[misc]
        for name, transform in OURS.items()
    }
    makers["MXNet's ImageRecordIter"] = lambda: _record_iter(path, batch)
    if torchvision:
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
