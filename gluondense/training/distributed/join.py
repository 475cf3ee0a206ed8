# SPDX-License-Identifier: Apache-2.0
"""Joining and leaving the workers of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..configuration.runtime import RuntimeConfig
from .parameter_server import ParameterServerWorkers
from .workers import Workers


@contextmanager
def join(config: RuntimeConfig, batch_size: int) -> Iterator[Workers]:
    """Join the workers that ``config.kvstore`` selects, and leave them at the end.

    Parameters
    ----------
    config, batch_size
        Key-value store, devices and accumulated parts; images per step over all workers.

    Raises
    ------
    ValueError
        If the process wasn't started in the way that ``config.kvstore`` needs, or the batch is
        smaller than one image per device.
    ConnectionError
        If another worker exits before the end.

    Examples
    --------
    >>> with join(RuntimeConfig(), batch_size=128) as workers:
    ...     workers.rank, workers.world_size, workers.is_rank_zero
    (0, 1, True)
    """
    workers: Workers
    if config.distributed:
        workers = ParameterServerWorkers(config.kvstore, batch_size, config.compression)
    elif os.environ.get("DMLC_ROLE") == "worker":
        raise ValueError(
            f"`kvstore` is {config.kvstore!r}, so each of {os.environ.get('DMLC_NUM_WORKER')} "
            "workers would train alone: set `kvstore` to dist_sync."
        )
    else:
        workers = Workers(config.kvstore)
    try:
        _check_batch(config, batch_size, workers)
        yield workers
    except BaseException as error:
        workers.close(error)
        raise
    workers.close()


def _check_batch(config: RuntimeConfig, batch_size: int, workers: Workers) -> None:
    devices = workers.world_size * max(len(config.gpus), 1)
    if batch_size < devices * config.accumulate:
        rule = f"{devices} devices"
        if config.accumulate > 1:
            rule += f" times {config.accumulate} accumulated parts"
        raise ValueError(
            f"`batch_size` (={batch_size}) is the global batch and must be at least {rule}: "
            "give a larger one."
        )
