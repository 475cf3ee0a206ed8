"""What a network costs, read off its graph: parameters, multiply-adds, activations, memory, CIO.

Nothing is run: the network is traced into a symbol, MXNet infers all shapes, and one pass over the
nodes counts. All counts are for the whole input shape, its batch included.

=============== ==================================================================================
``params``      elements of the trained arrays; BatchNorm's moving averages are not among them
``macs``        multiply-adds of convolutions and fully-connected layers, biases not counted
``activations`` elements of these layers' outputs, as fvcore counts (Radosavovic et al., "Designing
                Network Design Spaces", count the convolutions' only)
``memory``      bytes of all operators' outputs in float32, as if none shared its memory; those that
                only change a shape (Flatten, expand_dims …) have none of their own
``cio``         elements of input and output of each convolution, summed over the convolutions:
                c_in h_in w_in + c_out h_out w_out (Chao et al., "HarDNet", section 3)
=============== ==================================================================================
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from math import prod
from typing import Any, Callable, Union

import mxnet as mx
from mxnet.gluon import Block, HybridBlock
from mxnet.symbol import Symbol

from ..blocks import DenseBlock, DenseLayer
from ..errors import check, is_count
from ..models import Network, NetworkSpec, build_model
from ..models.registry import NETWORKS

Shape = tuple[int, ...]
Model = Union[str, NetworkSpec, HybridBlock, Symbol]

FLOAT_BYTES = 4

# Operator -> its multiply-adds, from the shapes of input, weight and output.
MACS = {
    "Convolution": lambda data, weight, out: prod(out) * prod(weight[1:]),
    "Deconvolution": lambda data, weight, out: prod(data) * prod(weight[1:]),
    "FullyConnected": lambda data, weight, out: prod(out) * prod(weight[1:]),
}
CONVOLUTIONS = ("Convolution", "Deconvolution")
VIEWS = ("Flatten", "Reshape", "expand_dims", "reshape_like", "squeeze")

# Stem -> side of the images it was made for, where that is not ImageNet's 224.
IMAGE_SIZES = {"cifar": 32, "half": 32, "tutorial": 96}
IMAGENET_SIZE = 224


@dataclasses.dataclass(frozen=True)
class Layer:
    """One operator of the graph and what it costs; the module's docstring defines the counts."""

    name: str
    op: str
    output_shape: Shape
    params: int
    macs: int
    activations: int
    memory: int
    cio: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a network costs, by layer and in total; the module's docstring defines the counts.

    Parameters
    ----------
    model
        The network's name.
    input_shape
        What it was counted for.
    layers
        The operators in the order of their execution.
    block_cio
        ``(name, CIO)`` of each dense block by seed 003's formula, c m + (m² + m) d / 2 for m layers
        of growth rate d behind c channels: the channels that each layer reads and adds, regardless
        of map size and bottleneck. In CSP-DenseNet c is c'', the part that enters the block;
        c'' = c / 2 gives the seed's formula of a partial block, (c m + (m² + m) d) / 2.
    """

    model: str
    input_shape: Shape
    layers: tuple[Layer, ...] = dataclasses.field(repr=False)
    block_cio: tuple[tuple[str, int], ...] = dataclasses.field(repr=False)

    @property
    def params(self) -> int:
        """Trained parameters."""
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and fully-connected layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def activations(self) -> int:
        """Elements of these layers' outputs."""
        return sum(layer.activations for layer in self.layers)

    @property
    def memory(self) -> int:
        """Bytes of all operators' outputs."""
        return sum(layer.memory for layer in self.layers)

    @property
    def cio(self) -> int:
        """Elements that the convolutions read and write."""
        return sum(layer.cio for layer in self.layers)

    @property
    def formula_cio(self) -> int:
        """CIO of all dense blocks by the formula; 0 where there are none."""
        return sum(cio for _, cio in self.block_cio)

    def __str__(self) -> str:
        """All totals on one line."""
        return (
            f"{self.model} at {'x'.join(map(str, self.input_shape))}: {self.params:,} parameters, "
            f"{self.macs / 1e6:,.2f} M multiply-adds, {self.activations / 1e6:,.2f} M activations, "
            f"{self.memory / 1e6:,.1f} MB, CIO {self.cio / 1e6:,.2f} M"
        )


def summary(model: Model, input_shape: Shape | None = None, **fields: Any) -> Summary:
    """Count what a network costs for an input shape, by layer and in total, without running it.

    Parameters
    ----------
    model
        A name of :func:`gluondense.list_models`, a spec, any HybridBlock (initialized or not), or a
        Symbol.
    input_shape
        ``(N, C, H, W)``; by default one image of the size that the network was made for: 224, with
        a CIFAR stem 32, for the tutorial's network 96.
    **fields
        Fields of the spec to replace, for a name or a spec.

    Returns
    -------
    Summary
        Totals ``params``, ``macs``, ``activations``, ``memory`` and ``cio``, and ``layers`` with
        the same of each.

    Raises
    ------
    ValueError
        If the network can't take the shape, or there is no such network or field.

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
        layers=tuple(_layers(model, shape)),
        block_cio=tuple(
            (path, sum(layer.out_channels for layer in block if isinstance(layer, DenseLayer)))
            for path, block in _blocks(model)
            if isinstance(block, DenseBlock)
        ),
    )


def _build(model: Model, fields: dict[str, Any]) -> HybridBlock | Symbol:
    if isinstance(model, str):
        return build_model(model, **fields)
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
        raise ValueError(f"{', '.join(fields)}: the fields of a built network can't be replaced.")
    return model


def _image_shape(model: HybridBlock | Symbol) -> Shape:
    if not isinstance(model, Network):
        return (1, 3, IMAGENET_SIZE, IMAGENET_SIZE)
    size = IMAGE_SIZES.get(model.spec.stem, IMAGENET_SIZE)
    return (1, model.spec.in_channels, size, size)


def _blocks(model: Block | Symbol, path: str = "") -> Iterator[tuple[str, Block]]:
    """Yield the block and its descendants with their paths (``features.stage1.layer3``)."""
    if isinstance(model, Block):
        yield path, model
        for name, child in model._children.items():
            yield from _blocks(child, f"{path}.{name}" if path else name)


def _layers(model: HybridBlock | Symbol, input_shape: Shape) -> Iterator[Layer]:
    symbol = _trace(model)
    arguments = symbol.list_arguments()
    data = "data" if "data" in arguments else arguments[0]
    internals = symbol.get_internals()
    graph = json.loads(internals.tojson())
    nodes = graph["nodes"]
    outputs = [(node, output) for node, output, _ in graph["heads"]]
    shapes = dict(zip(outputs, _infer_shapes(internals, data, input_shape)))
    memory: Counter[int] = Counter()
    for (index, _), shape in shapes.items():
        memory[index] += 0 if nodes[index]["op"] in VIEWS else FLOAT_BYTES * prod(shape)
    # The labels of Module's loss operators are arguments too.
    labels = (name for name in arguments if name.endswith("label"))
    params = _params(nodes, shapes, {data, *labels, *symbol.list_auxiliary_states()})
    rename = _renamer(model, [node["name"] for node in nodes if node["op"] != "null"])
    for index, node in enumerate(nodes):
        op, out = node["op"], shapes[index, 0]
        if op == "null":
            continue
        if "subgraphs" in node:
            raise ValueError(f"{node['name']} ({op}) hides a graph: count before optimize_for.")
        inputs = [shapes[source, output] for source, output, _ in node["inputs"]]
        yield Layer(
            name=rename(node["name"]),
            op=op,
            output_shape=out,
            params=params[index],
            macs=MACS[op](inputs[0], inputs[1], out) if op in MACS else 0,
            activations=prod(out) if op in MACS else 0,
            memory=memory[index],
            cio=prod(inputs[0]) + prod(out) if op in CONVOLUTIONS else 0,
        )


def _trace(model: HybridBlock | Symbol) -> Symbol:
    if isinstance(model, Symbol):
        return model
    outputs = model(mx.sym.var("data"))
    return outputs if isinstance(outputs, Symbol) else mx.sym.Group(list(outputs))


def _infer_shapes(internals: Symbol, data: str, input_shape: Shape) -> list[Shape]:
    try:
        _, shapes, _ = internals.infer_shape_partial(**{data: input_shape})
    except mx.MXNetError as error:
        # On one line, without the time and the place in MXNet's own source.
        reason = " ".join(re.sub(r"MXNetError: |\[[\d:]+\] \S+: ", "", str(error)).split())
        raise ValueError(
            f"the network can't take inputs of shape {input_shape}: {reason}"
        ) from None
    for name, shape in zip(internals.list_outputs(), shapes):
        if not shape or 0 in shape:
            raise ValueError(
                f"the shape of {name!r} doesn't follow from that of {data!r}: "
                "give a network that has one input."
            )
    return shapes


def _params(
    nodes: list[Any], shapes: dict[tuple[int, int], Shape], no_params: set[str]
) -> Counter[int]:
    """Count the parameters of each node; those of several nodes are the first one's."""
    counted = set(no_params)
    params: Counter[int] = Counter()
    for index, node in enumerate(nodes):
        for source, output, _ in node["inputs"]:
            if nodes[source]["op"] == "null" and nodes[source]["name"] not in counted:
                counted.add(nodes[source]["name"])
                params[index] += prod(shapes[source, output])
    return params


def _renamer(model: HybridBlock | Symbol, operators: list[str]) -> Callable[[str], str]:
    """Make the function from an operator's name in the symbol to its block's path.

    Without blocks to go by, the beginning that all names of a symbol share is cut off.
    """
    if isinstance(model, Symbol):
        same = takewhile(lambda letters: len(set(letters)) == 1, zip(*operators))
        prefix = "".join(letters[0] for letters in same)
        paths = {prefix[: prefix.rfind("_") + 1]: ""}
    else:
        paths = {}
        for path, block in _blocks(model):
            paths.setdefault(block.prefix, path)

    def rename(operator: str) -> str:
        beginnings = (operator[: match.end()] for match in re.finditer("_", operator))
        prefix = max((part for part in beginnings if part in paths), key=len, default="")
        rest = re.sub("_?fwd$", "", operator[len(prefix) :])
        return ".".join(filter(None, (paths.get(prefix), rest))) or operator

    return rename
