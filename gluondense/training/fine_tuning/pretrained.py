# SPDX-License-Identifier: Apache-2.0
"""The initial weights of a run: published ones, a file, or those of another run."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Optional

import mxnet as mx

from ...data.datasets.imagenet import readable
from ...data.datasets.registry import DATASETS, DatasetInfo
from ...data.preprocessing import Preprocessing
from ...detection.registry import get_row, is_detector
from ...environment.process import import_gluoncv
from ...models.network import Network
from ...models.registry import build_model
from ...weights.catalog import WEIGHTS, fetch_weights, find_weights
from ...weights.load import find_preprocessing, load_weights
from .. import checkpoint
from ..config import TrainConfig
from ..configuration.sections import DataConfig, ModelConfig
from ..run_folder import ADOPTED
from .detector import backbone_of, with_backbone
from .initial_weights import InitialWeights

DEFAULT = "default"


def find_initial_weights(model: ModelConfig) -> Optional[InitialWeights]:
    """Find, and if needed download, the weights that ``model.pretrained`` names; None for none.

    Published weights and files are those of the network, and of a detector those of its backbone.

    Raises
    ------
    ValueError
        If there are no such published weights, or a file doesn't fit the network.
    OSError
        If a file or folder can't be read, or weights can't be downloaded.
    """
    source = model.pretrained
    if source in (None, "none"):
        return None
    path = Path(source or "")
    if path.is_dir():
        return _of_run(path)
    model = backbone_of(model)
    if path.is_file():
        net = build_model(model.name, **model.args)
        return InitialWeights(path.name, path, find_preprocessing(net, path))
    if os.sep in str(source) or path.suffix in (".params", ".pth", ".safetensors"):
        raise FileNotFoundError(f"`pretrained`: there is no file or run {source}.")
    return _published(model.name, str(source))


def _of_run(folder: Path) -> InitialWeights:
    saved = checkpoint.load(folder)
    spec = vars(get_row(saved.model_name))
    follow = ("classes", "in_channels", "layout", "input_size")  # those of this run
    args = {k: v for k, v in saved.spec.items() if k not in follow and spec.get(k) != v}
    average = saved.folder / checkpoint.AVERAGE
    path = average if average.is_file() else saved.folder / checkpoint.PARAMS
    epoch = f", epoch {saved.metrics['epoch']:g}" if "epoch" in saved.metrics else ""
    return InitialWeights(
        f"run {folder.resolve().name}{epoch}",
        path,
        saved.preprocessing,
        tuple(saved.class_names or ()) or None,
        ModelConfig(saved.model_name, args),
    )


def _published(model: str, tag: str) -> InitialWeights:
    if tag in WEIGHTS and WEIGHTS[tag].model != model:
        raise ValueError(
            f"`pretrained`: {tag} are weights of {WEIGHTS[tag].model}, not of {model}: "
            f"set `model` to {WEIGHTS[tag].model}."
        )
    if tag == DEFAULT and all(row.model != model for row in WEIGHTS.values()):
        raise ValueError(
            f"{model} has no published weights: set `pretrained` to a file or a run, or to none to "
            "train from scratch."
        )
    row = WEIGHTS[tag] if tag in WEIGHTS else find_weights(model, None if tag == DEFAULT else tag)
    if row.dataset == "imagenet":
        names = readable(tuple(import_gluoncv().data.ImageNet1kAttr().synset))
    else:
        names = DATASETS[row.dataset].class_names
    return InitialWeights(row.name, fetch_weights(row), row.preprocessing, names)


def adopt_preprocessing(
    config: TrainConfig, given: Optional[Collection[str]] = None
) -> TrainConfig:
    """Return the configuration with the preprocessing of its initial weights.

    Parameters
    ----------
    config
        Unchanged if it has no initial weights, or its ``mean`` is set: then the preprocessing has
        been chosen. The result has a ``mean``, also that of the data set if that of the weights is
        unknown.
    given
        Names of the fields to leave as they are; by default those that differ from their default.
    """
    data = config.data
    weights = find_initial_weights(config.model) if data.mean is None else None
    if weights is None:
        return config
    if given is None:
        given = {spec.name for spec in fields(DataConfig) if _is_changed(data, spec.name)}
    info = DATASETS[data.dataset]
    own = Preprocessing(info.mean, info.std, data.interpolation, data.crop_ratio)
    found = (weights.preprocessing or own).for_channels(info.in_channels)
    if not data.normalize:
        found = replace(found, mean=(0.0,) * info.in_channels, std=(1.0,) * info.in_channels)
    if is_detector(config.model.name):  # its own size, without a crop
        return config.with_fields(mean=found.mean, std=found.std)
    values = {name: getattr(found, name) for name in ADOPTED if name != "resize"}
    if weights.preprocessing is not None and found.size[0] == found.size[1]:
        values["resize"] = found.size[0]
    kept = set(given) - {"std"}
    return config.with_fields(**{name: v for name, v in values.items() if name not in kept})


def _is_changed(data: DataConfig, name: str) -> bool:
    return bool(getattr(data, name) != getattr(DataConfig(), name))


def adopt_model(config: TrainConfig) -> TrainConfig:
    """Return the configuration with the network of the run, or of the weights, it starts from."""
    source = config.model.pretrained
    if source in WEIGHTS and is_detector(config.model.name):
        return with_backbone(config, ModelConfig(WEIGHTS[source].model))
    if source in WEIGHTS:
        return config.with_model(WEIGHTS[source].model)
    weights = find_initial_weights(config.model) if source and Path(source).is_dir() else None
    if weights is None or weights.model is None:
        return config
    if is_detector(config.model.name) and not is_detector(weights.model.name):
        return with_backbone(config, weights.model)
    return config.with_fields(model=weights.model.name, model_args=weights.model.args)


def load_initial_weights(
    net: Network, weights: InitialWeights, info: DatasetInfo, devices: Sequence[mx.Context]
) -> dict[str, Any]:
    """Load the weights into an initialized network; the output stays new if the classes differ.

    Returns
    -------
    dict
        What was loaded, for the checkpoint: ``name``, ``sha256``, ``parameters`` (their number),
        ``preprocessing`` of the weights in words, and ``output``: ``"new"`` or ``"loaded"``.
    """
    output = net.output.collect_params().values()
    initial = [parameter.list_data()[0].copy() for parameter in output]
    with _quiet():
        loaded = load_weights(net, weights.path, ctx=list(devices)).loaded
    is_new = "output.weight" not in loaded
    if not is_new and weights.class_names not in (None, tuple(info.class_names)):
        is_new = True
        for parameter, value in zip(output, initial):
            parameter.set_data(value)
    count = sum(not (is_new and name.startswith("output.")) for name in loaded)
    return {**weights.facts(), "parameters": count, "output": "new" if is_new else "loaded"}


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the warning about the output, of which :func:`describe_loaded` says more."""

    def says_more(record: logging.LogRecord) -> bool:
        return "the output" not in record.msg

    logger = logging.getLogger(load_weights.__module__)
    logger.addFilter(says_more)
    try:
        yield
    finally:
        logger.removeFilter(says_more)


def describe_loaded(facts: dict[str, Any], classes: int) -> str:
    """Return the facts of :func:`load_initial_weights` in words.

    Examples
    --------
    >>> facts = {"name": "densenet121.tv_in1k", "sha256": "a639ec97" + 56 * "0", "parameters": 604,
    ...          "output": "new", "preprocessing": "unknown"}
    >>> print(describe_loaded(facts, classes=5))
    604 parameters of densenet121.tv_in1k (SHA-256 a639ec970000), a new output for 5 classes
    """
    output = "a new output" if facts["output"] == "new" else "the output too, loaded"
    return (
        f"{facts['parameters']} parameters of {facts['name']} (SHA-256 {facts['sha256'][:12]}), "
        f"{output} for {classes} classes"
    )
