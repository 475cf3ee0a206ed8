# SPDX-License-Identifier: Apache-2.0
"""The preprocessing of a run's images, which its configuration and its data set determine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..data.datasets.registry import DATASETS, IN_MEMORY, DatasetInfo
from ..data.preprocessing import Preprocessing
from ..errors import check
from .config import TrainConfig
from .configuration.sections import DataConfig


def choose_preprocessing(config: DataConfig, info: DatasetInfo, files: bool) -> Preprocessing:
    """Return the preprocessing of a run.

    Image files are resized and cropped as the configuration says. The images of arrays are resized
    without a crop, and a file is first resized to the size of the data set's images.

    Parameters
    ----------
    config, info
        The data section of the configuration, and the data set.
    files
        Whether the data set consists of image files, not of arrays.

    Raises
    ------
    ValueError
        If ``mean`` or ``std`` of the configuration does not fit the channels of the data set.
    """
    channels = info.in_channels
    mean, std = (
        (info.mean, info.std) if config.normalize else ((0.0,) * channels, (1.0,) * channels)
    )
    if config.mean is not None or config.std is not None:
        for name, values in (("mean", config.mean), ("std", config.std)):
            rule = f"{channels} numbers, as {info.name} has {channels} channels (give both)"
            check(name, values, rule, values is not None and len(values) == channels)
        mean, std = config.mean or (), config.std or ()
    size = config.input_size
    if files:
        crop = config.interpolation, config.crop_ratio
        return Preprocessing(mean, std, *crop, input_size=size, invert=config.invert)
    source = None if info.image_size == size else info.image_size
    return Preprocessing(
        mean,
        std,
        crop_ratio=1.0,
        input_size=size,
        resize="exact",
        invert=config.invert,
        source_size=source,
    )


def earlier_preprocessing(facts: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing of a checkpoint of format 1, from its description."""
    config = TrainConfig.from_dict(facts["config"]).data
    for name in ("mean", "std"):
        check(name, facts[name], "a list of numbers", isinstance(facts[name], list))
    config = replace(config, mean=tuple(facts["mean"]), std=tuple(facts["std"]))
    files = config.dataset not in IN_MEMORY
    return choose_preprocessing(config, DATASETS[config.dataset], files)
