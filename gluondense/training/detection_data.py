# SPDX-License-Identifier: Apache-2.0
"""The loaders of a run's images with boxes, their preprocessing and the anchors for them."""

from __future__ import annotations

from dataclasses import replace

from ..data.detection.dataset import DetectionFiles
from ..data.detection.loader import DetectionLoader
from ..data.detection.source import DetectionSource
from ..data.detection.train_transform import TrainTransform
from ..data.detection.transforms import EvalTransform
from ..data.loaders.base import Loader
from ..data.preprocessing import Preprocessing
from ..detection.anchors import find_anchors
from ..detection.spec import Pairs
from .config import TrainConfig
from .configuration.detection_fields import STRIDE
from .configuration.sections import DataConfig
from .data import eval_batch_size
from .distributed.workers import Workers
from .run_preprocessing import choose_preprocessing


def detection_preprocessing(config: TrainConfig, data: DetectionFiles) -> Preprocessing:
    """Return the preprocessing of the images: letterboxed or stretched, without a crop."""
    found = choose_preprocessing(config.data, data.info, files=True)
    return replace(found, resize="letterbox" if config.data.letterbox else "exact", crop_ratio=1.0)


def train_loader(
    config: TrainConfig, data: DetectionFiles, preprocessing: Preprocessing, workers: Workers
) -> Loader:
    """Make the loader of training images and labels; each worker gets its part of each batch.

    The last ``mix_off_epochs`` epochs are without the augmentations that mix several images.
    """
    options, source = config.data, _training_source(data)
    if options.drop_last and len(source) < options.batch_size:
        raise ValueError(
            f"`batch_size` (={options.batch_size}) is more than the {len(source)} training "
            f"images: pass {len(source)} or less."
        )
    transform = TrainTransform(preprocessing, options.augment)
    return DetectionLoader(
        source,
        transform,
        options.batch_size,
        sizes=sides(options),
        final=transform.without_mixing(),
        final_epoch=config.schedule.epochs - config.task.mix_off_epochs,
        max_boxes=options.max_boxes,
        shuffle=True,
        seed=config.runtime.seed,
        last="discard" if options.drop_last else "keep",
        part=(workers.rank, workers.world_size),
        workers=options.data_workers,
        bad=_bad(options),
    )


def test_loader(
    config: TrainConfig, data: DetectionFiles, preprocessing: Preprocessing, workers: Workers
) -> Loader:
    """Make the loader of test images and boxes; each worker gets a contiguous block of them."""
    rank, count, options = workers.rank, workers.world_size, config.data
    first, end = (data.test_count * part // count for part in (rank, rank + 1))
    return DetectionLoader(
        data.test,
        EvalTransform(preprocessing),
        eval_batch_size(options, workers),
        max_boxes=1 + data.test.most_boxes,
        workers=(options.data_workers + 1) // 2,
        bad=_bad(options),
        block=(first, end),
    )


def anchors_of(config: DataConfig, data: DetectionFiles) -> Pairs:
    """Return the anchors for the training boxes, at the size of the input.

    A resumed run computes them again, so they are a function of the boxes only.
    """
    annotations = _training_source(data).annotations
    return find_anchors(annotations.sizes_in(config.input_size, config.letterbox))


def sides(config: DataConfig) -> list[tuple[int, int]] | None:
    """Return the sizes of ``multi_scale``: all multiples of the stride; None if it is off.

    Examples
    --------
    >>> sides(DataConfig(multi_scale=(256, 320)))
    [(256, 256), (288, 288), (320, 320)]
    """
    if not config.multi_scale:
        return None
    low, high = config.multi_scale
    return [(side, side) for side in range(low, high + 1, STRIDE)]


def _training_source(data: DetectionFiles) -> DetectionSource:
    if data.train is None:
        raise ValueError("the data set was opened without training images.")
    return data.train


def _bad(config: DataConfig) -> str:
    """Return what to do with unreadable images: ``clip``, which is for boxes, skips them."""
    return "error" if config.bad_images == "error" else "skip"
