"""Joining and leaving those who train one network together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..config import TrainConfig
from .channel import WorkerLost
from .parameter_server import ConnectedWorkers
from .workers import Workers

__all__ = ["ConnectedWorkers", "WorkerLost", "Workers", "join", "launched_workers", "speaks"]


@contextmanager
def join(config: TrainConfig) -> Iterator[Workers]:
    """Join the workers that ``config.kvstore`` means, and leave them at the end.

    Raises
    ------
    ValueError
        If the process wasn't started in the way that ``config.kvstore`` needs.
    ConnectionError
        If another worker goes before the end.

    Examples
    --------
    >>> with join(TrainConfig(model="densenet121")) as workers:
    ...     workers.rank, workers.count, workers.first
    (0, 1, True)
    """
    workers: Workers
    if config.kvstore.startswith("dist"):
        workers = ConnectedWorkers(config)
    elif os.environ.get("DMLC_ROLE") == "worker":
        raise ValueError(
            f"`kvstore` is {config.kvstore!r}, so each of {os.environ.get('DMLC_NUM_WORKER')} "
            "workers would train alone: pass --kvstore dist_sync."
        )
    else:
        workers = Workers(config)
    try:
        _check_batch(config, workers)
        yield workers
    except BaseException as error:
        workers.close(error)
        raise
    workers.close()


def launched_workers() -> int:
    """Return how many workers the launcher started, 1 if this process was started by itself.

    Examples
    --------
    >>> launched_workers()
    1
    """
    return int(os.environ.get("DMLC_NUM_WORKER", "1"))


def speaks() -> bool:
    """Whether this process is the one that tells the user how the run goes.

    Examples
    --------
    >>> speaks()
    True
    """
    return os.environ.get("GLUONDENSE_WORKER", "0") == "0"


def _check_batch(config: TrainConfig, workers: Workers) -> None:
    devices = workers.count * max(len(config.gpus), 1)
    if config.batch_size < devices * config.accumulate:
        parts = f" with {config.accumulate} images at least" * (config.accumulate > 1)
        raise ValueError(
            f"`batch_size` (={config.batch_size}) is of all workers together and must feed each of "
            f"{devices} devices{parts}."
        )
