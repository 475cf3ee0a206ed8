"""The data of a run, and the loaders that feed it: of arrays in memory, or of encoded pictures."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Protocol, Union

from ..data import ArrayLoader, ImageArrays, load_dataset
from ..data.datasets.imagenet import ImageFiles, open_images
from ..data.loaders.array import Batch
from ..data.loaders.stream import StreamLoader
from ..data.transforms.image import EvalTransform, TrainTransform
from .config import TrainConfig
from .distributed.workers import Workers

Data = Union[ImageArrays, ImageFiles]


class Loader(Protocol):
    """Batches that are a function of (seed, epoch, place)."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yield one epoch's batches from a number on."""
        ...

    def count(self, index: int) -> int:
        """Return how many images the batch of that number has, over all workers."""
        ...


def open_data(config: TrainConfig, training: bool = True) -> Data:
    """Open the configuration's data set; of encoded pictures the training ones only if wanted.

    Raises
    ------
    ValueError
        For an unknown name, or files that are not what they should be.
    OSError
        If the files can't be had.
    """
    if config.dataset == "imagenet":
        paths = config.data_dir, config.rec_train, config.rec_val, config.ground_truth
        return open_images(*paths, training=training)
    return load_dataset(config.dataset, data_dir=config.data_dir, download=config.download)


def mean_and_std(config: TrainConfig, data: Data) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Find what pixels in [0, 1] are normalised by."""
    if config.normalize:
        return data.info.mean, data.info.std
    return (0.0,) * data.info.in_channels, (1.0,) * data.info.in_channels


def test_batch(config: TrainConfig, workers: Workers) -> int:
    """Return how many test images a worker's batch has."""
    return -(-config.batch_size // workers.world_size)


test_batch.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for one


def make_loader(config: TrainConfig, data: Data, train: bool, workers: Workers) -> Loader:
    """Make the loader of the training or the test images.

    Of training, each worker has its part of each batch; of the test set, a block.
    """
    if isinstance(data, ImageFiles):
        return _pictures(config, data, train, workers)
    mean, std = mean_and_std(config, data)
    block = slice(*_block(data.test_count, workers))
    return ArrayLoader(
        data.train_images if train else data.test_images[block],
        data.train_labels if train else data.test_labels[block],
        config.batch_size if train else test_batch(config, workers),
        shuffle=train,
        augment=config.augment if train else (),
        resize=config.resize,
        mean=mean,
        std=std,
        seed=config.seed,
        last="discard" if train and config.drop_last else "keep",
        part=(workers.rank, workers.world_size) if train else (0, 1),
    )


def _pictures(config: TrainConfig, data: ImageFiles, train: bool, workers: Workers) -> Loader:
    mean, std = mean_and_std(config, data)
    size = config.input_size
    source = data.train if train else data.test
    if source is None:
        raise ValueError("there are no training pictures: the data set was opened without")
    return StreamLoader(
        source,
        TrainTransform(size, config.augment, mean, std)
        if train
        else EvalTransform(size, mean, std, config.crop_ratio, config.interpolation),
        config.batch_size if train else test_batch(config, workers),
        shuffle=train,
        seed=config.seed,
        last="discard" if train and config.drop_last else "keep",
        workers=config.data_workers if train else (config.data_workers + 1) // 2,
        bad=config.bad_images,
        classes=len(data.info.class_names),
        part=(workers.rank, workers.world_size) if train else (0, 1),
        block=None if train else _block(data.test_count, workers),
    )


def _block(count: int, workers: Workers) -> tuple[int, int]:
    first, end = (count * n // workers.world_size for n in (workers.rank, workers.rank + 1))
    return first, end
