# SPDX-License-Identifier: Apache-2.0
"""Initial weights of a detector: those of its backbone, or of another detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mxnet as mx
from mxnet import gluon

from ...data.datasets.registry import DatasetInfo
from ...detection.registry import CUSTOM, YOLO, get_detector_spec, is_detector
from ...weights.formats.open import open_weights
from ...weights.load import load_weights
from ..config import TrainConfig
from ..configuration.sections import ModelConfig
from .initial_weights import InitialWeights

OUTPUTS = "yolo_outputs."


def backbone_of(model: ModelConfig) -> ModelConfig:
    """Return the backbone of a detector; another network as it is."""
    if not is_detector(model.name):
        return model
    spec = get_detector_spec(model.name, **model.args)
    return replace(model, name=spec.backbone, args=dict(spec.backbone_args))


def with_backbone(config: TrainConfig, backbone: ModelConfig) -> TrainConfig:
    """Return the configuration of a detector with another backbone."""
    spec = get_detector_spec(config.model.name, **config.model.args)
    name = f"{YOLO}_{spec.fusion}_{backbone.name}_{CUSTOM}"
    args = {**config.model.args, "backbone_args": backbone.args}
    return config.with_fields(model=name, model_args=args)


def load_into_detector(
    net: Any, weights: InitialWeights, info: DatasetInfo, devices: Sequence[mx.Context]
) -> dict[str, Any]:
    """Load the weights of a backbone or of a detector into an initialized detector.

    The predictions stay new unless the weights are of a detector of the same classes.

    Returns
    -------
    dict
        As of :func:`.pretrained.load_initial_weights`.

    Raises
    ------
    ValueError
        If the weights are of another network.
    """
    if weights.model is None or not is_detector(weights.model.name):
        loaded = load_weights(net.backbone, weights.path, ctx=list(devices)).loaded
        return {**weights.facts(), "parameters": len(loaded), "output": "new"}
    is_new = weights.class_names != tuple(info.class_names)
    count = _copy(net, weights, is_new)
    return {**weights.facts(), "parameters": count, "output": "new" if is_new else "loaded"}


def _copy(net: gluon.Block, weights: InitialWeights, without_outputs: bool) -> int:
    """Copy the parameters of a run's detector; return their number."""
    open_weights(weights.path).close()  # MXNet's reader trusts the sizes in a file
    arrays = mx.nd.load(str(weights.path))
    wanted = {
        name: parameter
        for name, parameter in net._collect_params_with_prefix().items()
        if not (name.startswith(OUTPUTS) and (without_outputs or ".prediction." not in name))
    }
    for name, parameter in wanted.items():
        if name not in arrays or arrays[name].shape != parameter.shape:
            raise ValueError(
                f"`pretrained`: {weights.name} has another network: {name} differs. Give the same "
                "`model` and fields, or leave them out."
            )
        parameter.set_data(arrays[name])
    return len(wanted)
