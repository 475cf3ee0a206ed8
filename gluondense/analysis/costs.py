# SPDX-License-Identifier: Apache-2.0
"""The costs of a network, from its graph: parameters, multiply-adds, activations, memory, CIO.

The network is not run. It is traced into a symbol, MXNet infers all shapes, and one pass over the
nodes counts. All counts are for the whole input shape, including its batch size.

=============== ==================================================================================
``params``      elements of the trained arrays, without BatchNorm's moving averages
``macs``        multiply-adds of convolutions and fully-connected layers, without biases
``activations`` elements of the outputs of these layers, as in fvcore (Radosavovic et al.,
                "Designing Network Design Spaces", count only those of convolutions)
``memory``      bytes of the outputs of all operators in float32, without memory sharing; operators
                that only change a shape (Flatten, expand_dims …) have none
``cio``         elements of input and output of each convolution, summed over the convolutions:
                c_in h_in w_in + c_out h_out w_out (Chao et al., "HarDNet", section 3)
=============== ==================================================================================
"""

from __future__ import annotations

import dataclasses
from typing import Any, Union

from mxnet.gluon import HybridBlock
from mxnet.symbol import Symbol

from ..blocks.dense import DenseBlock, DenseLayer
from ..detection.registry import build_network
from ..errors import check, is_count
from ..models.network import Network
from ..models.registry import NETWORKS
from ..models.spec import NetworkSpec
from .layers import Layer, Shape, Traceable, count_layers, descendants

Model = Union[str, NetworkSpec, HybridBlock, Symbol]

# Stem -> side of the images that it is designed for, if that is not ImageNet's 224.
IMAGE_SIZES = {"cifar": 32, "half": 32, "tutorial": 96}
IMAGENET_SIZE = 224


def _total(field: str, description: str) -> Any:
    """Return a property that sums a field over the layers."""
    return property(
        lambda cost: sum(getattr(layer, field) for layer in cost.layers), doc=description
    )


@dataclasses.dataclass(frozen=True)
class Summary:
    """The costs of a network, per layer and in total.

    The module's docstring defines them.

    Parameters
    ----------
    model
        Name of the network.
    input_shape
        The input shape (N, C, H, W).
    layers
        The operators in the order of execution.
    block_cio
        ``(name, CIO)`` of each dense block by CSPNet's formula, c m + (m² + m) d / 2 for m layers
        of growth rate d after c channels: the channels that each layer reads and adds, regardless
        of the size of the feature maps and of the bottleneck. In CSP-DenseNet c is c'', the part
        that enters the block; c'' = c / 2 gives its formula of a partial block,
        (c m + (m² + m) d) / 2.
    """

    model: str
    input_shape: Shape
    layers: tuple[Layer, ...] = dataclasses.field(repr=False)
    block_cio: tuple[tuple[str, int], ...] = dataclasses.field(repr=False)

    params = _total("params", "Trained parameters.")
    macs = _total("macs", "Multiply-adds of convolutions and fully-connected layers.")
    activations = _total("activations", "Elements of the outputs of these layers.")
    memory = _total("memory", "Bytes of the outputs of all operators.")
    cio = _total("cio", "Elements that the convolutions read and write.")

    @property
    def formula_cio(self) -> int:
        """CIO of all dense blocks by the formula; 0 if there are none."""
        return sum(cio for _, cio in self.block_cio)

    def __str__(self) -> str:
        """All totals on one line."""
        return (
            f"{self.model} at {'x'.join(map(str, self.input_shape))}: {self.params:,} parameters, "
            f"{self.macs / 1e6:,.2f} M multiply-adds, {self.activations / 1e6:,.2f} M activations, "
            f"{self.memory / 1e6:,.1f} MB, CIO {self.cio / 1e6:,.2f} M"
        )


def summary(model: Model, input_shape: Shape | None = None, **fields: Any) -> Summary:
    """Count the costs of a network for an input shape, per layer and in total, without running it.

    Parameters
    ----------
    model
        A name of :func:`gluondense.list_models` or of :func:`gluondense.detection.list_detectors`,
        a spec, any HybridBlock (initialized or not), or a Symbol.
    input_shape
        ``(N, C, H, W)``. By default one image of the size that the network is designed for: 224,
        with a CIFAR stem 32, for the tutorial's network 96, for a detector its ``input_size``.
    **fields
        Fields of the spec to replace, for a name or a spec.

    Returns
    -------
    Summary
        Totals ``params``, ``macs``, ``activations``, ``memory`` and ``cio``, and the same for each
        of its ``layers``.

    Raises
    ------
    ValueError
        If the network cannot take the shape, or the network or a field is unknown.

    Examples
    --------
    >>> densenet = summary("densenet121", input_shape=(1, 3, 224, 224))
    >>> print(densenet)
    densenet121 at 1x3x224x224: 7,978,856 parameters, 2,834.16 M multiply-adds, ...
    >>> densenet.layers[0].name, densenet.layers[0].macs
    ('features.stem.conv', 118013952)
    >>> densenet.macs - summary("csp_densenet121", (1, 3, 224, 224)).macs
    348806144
    """
    model = _build(model, fields)
    shape = _image_shape(model) if input_shape is None else input_shape
    holds = isinstance(shape, (tuple, list)) and all(map(is_count, shape))
    check("input_shape", shape, "positive integers, such as (1, 3, 224, 224)", holds)
    shape = tuple(shape)
    if isinstance(model, Network):
        model.check_image_shape(shape)
    return Summary(
        model=getattr(model, "model_name", "") or model.name or type(model).__name__,
        input_shape=shape,
        layers=tuple(count_layers(model, shape)),
        block_cio=tuple(
            (path, sum(layer.out_channels for layer in block if isinstance(layer, DenseLayer)))
            for path, block in descendants(model)
            if isinstance(block, DenseBlock)
        ),
    )


def _build(model: Model, fields: dict[str, Any]) -> Traceable:
    if isinstance(model, str):
        return build_network(model, **fields)
    if isinstance(model, NetworkSpec):
        network = NETWORKS[type(model)]
        try:
            spec = dataclasses.replace(model, **fields)
        except TypeError as error:
            raise ValueError(f"{type(model).__name__}: {error}") from None
        return network(spec, network.__name__)
    if not isinstance(model, (HybridBlock, Symbol)):
        raise ValueError(
            f"model (={model!r}) must be a name, a spec, a HybridBlock or a Symbol "
            "(gluondense.list_models() has the names)."
        )
    if fields:
        raise ValueError(f"{', '.join(fields)}: the fields of a built network cannot be replaced.")
    return model


def _image_shape(model: Traceable) -> Shape:
    if not isinstance(model, Network):
        channels = getattr(getattr(model, "spec", None), "in_channels", 3)
        size = getattr(model, "input_size", IMAGENET_SIZE)  # detectors have one
        return (1, channels, size, size)
    size = IMAGE_SIZES.get(model.spec.stem, IMAGENET_SIZE)
    return (1, model.spec.in_channels, size, size)
