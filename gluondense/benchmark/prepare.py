"""One network in a folder, as each candidate reads it, with the same random weights."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet.gluon.model_zoo import vision

from ..deploy import export
from ..models import Network, build_model
from ..weights import load_weights, save_weights
from .torch_peer import build, load

logger = logging.getLogger(__name__)


def prepare(model: str, folder: Path, size: int, weights: str | None = None) -> Network:
    """Write a network for all candidates.

    Parameters
    ----------
    model
        Registry name.
    folder
        Where to; it exists.
    size
        Height and width of the images.
    weights
        A file to load; by default He's random values with batch statistics near 0 and 1.
    """
    net = build_model(model)
    if weights is None:
        _randomize(net)
    else:
        load_weights(net, weights)
    shape = (1, net.spec.in_channels, size, size)
    (folder / "network.json").write_text(json.dumps({"model": model, "size": size}))
    for target in ("portable", "onednn"):
        export(net, folder / target, shape, target)
    _zoo(net, folder)
    if not _torch_onnx(net, folder, shape):
        _mxnet_onnx(folder, shape)
    return net


def _randomize(net: Network) -> None:
    rng = np.random.default_rng(0)
    net.initialize()
    for name, parameter in net.collect_params().items():
        if name.endswith(("gamma", "running_var")):
            parameter.set_data(mx.nd.array(rng.uniform(0.5, 1.5, parameter.shape)))
        elif name.endswith(("beta", "running_mean")):
            parameter.set_data(mx.nd.array(rng.uniform(-0.5, 0.5, parameter.shape)))


def _zoo(net: Network, folder: Path) -> None:
    with contextlib.suppress(ValueError):  # the zoo has not this network
        vision.get_model(net.model_name)
        save_weights(net, folder / "zoo.params", "mxnet-zoo")


def _torch_onnx(net: Network, folder: Path, shape: tuple[int, ...]) -> bool:
    """Write the peer's weights, and what torch exports; False where there is no such peer."""
    try:
        import torch

        if build(net.model_name) is None:
            return False
    except ImportError:
        return False
    save_weights(net, folder / "net.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of itself
        torch.onnx.export(
            load(folder),
            (torch.zeros(shape),),
            str(folder / "net.onnx"),
            input_names=["data"],
            dynamic_axes={"data": {0: "N"}},
            dynamo=False,
        )
    return True


def _mxnet_onnx(folder: Path, shape: tuple[int, ...]) -> None:
    try:
        import onnx
    except ImportError:
        logger.warning("onnx is not installed, so no peer can run this network.")
        return
    files = (str(folder / "portable-symbol.json"), str(folder / "portable-0000.params"))
    mx.onnx.export_model(
        *files,
        [shape],
        np.float32,
        str(folder / "net.onnx"),
        dynamic=True,
        dynamic_input_shapes=[("N", *shape[1:])],
    )
    # The exporter writes operators of opset 13 and says the newest that onnx knows.
    model = onnx.load(str(folder / "net.onnx"))
    model.ir_version = 8
    model.opset_import[0].version = 13
    onnx.save(model, str(folder / "net.onnx"))
