# SPDX-License-Identifier: Apache-2.0
"""The model under evaluation: a run, an export, published weights or a weights file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..analysis.label_metrics import DEFAULT_THRESHOLD
from ..analysis.tasks import task_of
from ..data.overrides import adjust
from ..data.preprocessing import Preprocessing
from ..deploy.artifact import is_export, load_exported
from ..models.spec import NetworkSpec
from ..training.checkpoint.read import load
from ..training.config import TrainConfig
from ..training.configuration.sections import DataConfig
from ..weights.catalog import find_weights
from ..zoo import open_network


@dataclass(frozen=True)
class EvaluatedModel:
    """The model under evaluation: a network and the preprocessing of its images.

    Parameters
    ----------
    name
        Argument of :func:`open_model`.
    net
        A network that returns logits, or an export with any pre- and post-processing.
    preprocessing
        How its images are resized, cropped and normalized; None if unknown.
    class_names
        A label for each output, if known.
    model, weights
        Registry name of the network and name of its published weights; "" if there are none.
    config
        Data section of the configuration, if the model is a run.
    dataset
        Default of the data set, a key of ``DATASETS``.
    spec
        The network's spec, if it is one of ``SPECS`` or a variant.
    """

    name: str
    net: gluon.HybridBlock
    preprocessing: Optional[Preprocessing]
    class_names: Optional[tuple[str, ...]] = None
    model: str = ""
    weights: str = ""
    config: Optional[DataConfig] = None
    dataset: str = "imagenet"
    spec: Optional[NetworkSpec] = None

    @property
    def task(self) -> str:
        """What the model has learned: classification, multi_label or detection."""
        return task_of(self.net)

    @property
    def has_several_labels(self) -> bool:
        """Whether an image has several labels."""
        return self.task == "multi_label"

    def title(self, dataset: str) -> str:
        """Return the title of a page about the model on a data set."""
        return f"{self.model or self.name} on {dataset}"

    @property
    def thresholds(self) -> np.ndarray:
        """Probability from which on each label of a multi-label model is present, (L,)."""
        known = getattr(getattr(self.net, "metadata", None) or self.net, "thresholds", None)
        if known is None:
            return np.full(len(self.class_names or ()), DEFAULT_THRESHOLD)
        return np.array(known, np.float64)

    @property
    def takes_pixels(self) -> bool:
        """Whether the normalization is in the graph of an export."""
        return bool(getattr(getattr(self.net, "metadata", None), "preprocess", False))

    def known_preprocessing(self) -> Preprocessing:
        """Return the preprocessing; a ValueError tells how to give it if it is unknown."""
        if self.preprocessing is None:
            knows_size = hasattr(self.net, "metadata")  # an export
            fields = "`mean` and `std`" if knows_size else "`mean`, `std` and `input_size`"
            raise ValueError(
                f"the preprocessing of {self.name} is unknown: give at least {fields}."
            )
        return self.preprocessing

    def shown_preprocessing(self) -> dict[str, Any]:
        """Return the fields of the preprocessing for people and JSON, the important ones first."""
        known = self.known_preprocessing()
        fields = {**known.to_dict(), "input_size": list(known.size)}
        first = ("input_size", "crop_ratio", "interpolation")
        return {**{name: fields.pop(name) for name in first}, **fields}

    def adjusted(self, **fields: Any) -> EvaluatedModel:
        """Return the model with fields of its preprocessing changed, those that are not None."""
        if self.preprocessing is None and fields.get("input_size") is None:
            metadata = getattr(self.net, "metadata", None)
            fields["input_size"] = metadata.input_shape[2:] if metadata is not None else None
        return replace(self, preprocessing=adjust(self.preprocessing, **fields))


def open_model(
    name: str, devices: Sequence[mx.Context], network: Optional[str] = None, **options: Any
) -> EvaluatedModel:
    """Open a run folder, a checkpoint, an export, published weights or a weights file.

    Parameters
    ----------
    name
        A folder, the prefix or a file of an export, or a name such as ``"densenet121.tv_in1k"`` of
        ``WEIGHTS``; the name of a network selects its first weights. Or a weights file.
    devices
        Devices on which it runs. An export runs on the first one, or on the CPU if it has to.
    network, **options
        Of a weights file: its network and more arguments of :func:`gluondense.zoo.open_network`.

    Raises
    ------
    ValueError
        If the name is unknown, or an export returns features.
    OSError
        If a file cannot be read or downloaded.
    """
    if Path(name).is_dir():
        return _open_run(name, devices)
    if network is None and is_export(name):
        return _open_export(name, devices[0])
    return _open_weights(name, devices, network, **options)


def check_readable(readable: np.ndarray, dataset: str) -> None:
    """Raise a ValueError unless any image of a data set can be read; bool (N,)."""
    if not readable.any():
        raise ValueError(
            f"none of the {len(readable)} images of {dataset} can be read: repair them, or "
            "evaluate on other data."
        )


def _open_run(name: str, devices: Sequence[mx.Context]) -> EvaluatedModel:
    saved = load(name)
    config = TrainConfig.from_dict(saved.config).data
    net, names = saved.network(list(devices)), saved.class_names
    model = EvaluatedModel(name, net, saved.preprocessing, names, saved.model_name)
    return replace(model, config=config, dataset=config.dataset, spec=net.spec)


def _open_export(name: str, device: mx.Context) -> EvaluatedModel:
    net = load_exported(name, device)
    metadata = net.metadata
    if metadata.output == "features":
        raise ValueError(f"{name} returns features: use an export of logits or probabilities.")
    names = metadata.class_names
    model = EvaluatedModel(name, net, metadata.preprocessing, names, metadata.model or "")
    dataset = "detection" if model.task == "detection" else model.dataset
    return replace(model, spec=metadata.network_spec(), dataset=dataset)


def _open_weights(
    name: str, devices: Sequence[mx.Context], network: Optional[str], **options: Any
) -> EvaluatedModel:
    net = open_network(name, network, ctx=list(devices), **options)
    is_file = network is not None or Path(name).is_file()
    row = None if is_file else find_weights(*name.lower().split(".", 1))
    names = None if net.classes is None else tuple(net.classes)
    found = EvaluatedModel(name, net, net.preprocessing, names, net.model_name, spec=net.spec)
    return replace(found, weights=row.name, dataset=row.dataset) if row else found
