"""Target "int8": graphs of oneDNN's 8-bit operators, which plain MXNet runs."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Callable, Collection, Iterable, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.contrib import quantization as mxnet_quantization

from ...graph.ir import Graph, Lowered, Params, free_name
from ...graph.ranges import as_block, collect_ranges
from ...graph.trace import INPUT
from .calibration import Calibration
from .equalize import convolve_batch_norms, is_line, level_groups, spread_channels

# A network without classes is good enough if its maps are no further off, relative to their size.
_MAX_ERROR = 0.25
# How many images each layer's harm is measured on.
_TRIAL_IMAGES = 64


@dataclasses.dataclass(frozen=True)
class Harm:
    """What 8 bits do to a network's outputs.

    Parameters
    ----------
    error
        Length of the difference over that of the float network's outputs; the largest of them.
    agreement
        Share of images whose likeliest class stays the same; None if there are no classes.
    """

    error: float
    agreement: float | None

    @classmethod
    def of(cls, outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> Harm:
        """Compare a network's outputs with those of the float network.

        Examples
        --------
        >>> Harm.of([np.array([[3.0, 4.0], [1.0, 0.0]])], [np.array([[4.0, 3.0], [1.0, 0.0]])])
        Harm(error=0.2773500981126146, agreement=0.5)
        """
        error = max(
            float(np.linalg.norm(got - wanted)) / max(float(np.linalg.norm(wanted)), 1e-30)
            for got, wanted in zip(outputs, expected)
        )
        classes = len(expected) == 1 and expected[0].ndim == 2 and expected[0].shape[1] > 1
        if not classes:
            return cls(error, None)
        same = outputs[0].argmax(axis=1) == expected[0].argmax(axis=1)
        return cls(error, float(same.mean()))

    def __str__(self) -> str:
        words = f"outputs are off by {self.error:.2%}"
        if self.agreement is None:
            return words
        return f"{words}, and {self.agreement:.1%} of the images keep their likeliest class"

    def within(self, calibration: Calibration) -> bool:
        """Whether it is as little as a calibration demands."""
        if self.agreement is None:
            return self.error <= _MAX_ERROR
        return self.agreement >= 1 - calibration.max_changed


def int8(graph: Graph, calibration: Calibration) -> Lowered:
    """Return a graph of oneDNN's 8-bit operators.

    Parameters
    ----------
    graph
        The float32 network, optimized, but its normalizations not fused with a ReLU.
    calibration
        Its images are read.

    Raises
    ------
    ValueError
        If no layer has a name that is to be kept.
    """
    taken: set[str] = set()
    for node in graph.operators():
        node.name = free_name(node.name, taken)
        if node.is_like("Activation", act_type="sigmoid"):
            # The same in float; MXNet's pass complains of each that it can't make of 8 bits.
            node.op, node.attrs = "sigmoid", {}
    return _Quantizer(graph, calibration).lower()


class _Quantizer:
    """A graph, what its tensors hold, and which of its layers stay in float."""

    def __init__(self, graph: Graph, calibration: Calibration) -> None:
        self.calibration, batches = calibration, calibration.batches()
        convolve_batch_norms(graph, calibration.images.shape)
        self.wrong = level_groups(graph)
        symbol, params = graph.to_symbol()
        self.expected = run_block(as_block(symbol, params), batches)
        ranges = collect_ranges(symbol, params, tensors_of(symbol, params), batches, "minmax")
        exact = spread_channels(graph, ranges)
        self.lines = {node.source(1).name: node.name for node in graph.operators() if is_line(node)}

        symbol, self.params = graph.to_symbol()
        # Convolutions with ReLU and addition; MXNet names the new nodes by number.
        self.symbol = symbol.get_backend_symbol("MKLDNN_QUANTIZE")
        found = collect_ranges(
            self.symbol,
            self.params,
            tensors_of(self.symbol, self.params),
            batches,
            calibration.method,
            calibration.percentile,
        )
        self.thresholds = {name: (range.low, range.high) for name, range in found.items()}
        self.layers = []
        for node in json.loads(self.symbol.tojson())["nodes"]:
            inner = [row for part in node.get("subgraphs", []) for row in part["nodes"]]
            for row in inner:
                if row["op"] in ("Convolution", "FullyConnected"):
                    self.layers.append(row["name"])
                if f"{row['name']}_output" in exact:
                    self.thresholds[f"{node['name']}_output"] = exact[f"{row['name']}_output"]

    def lower(self) -> Lowered:
        kept, harm = choose_kept(self.layers, self.calibration, self._harm, self.wrong)
        symbol, params = self._build(kept)
        quantization = {
            "method": self.calibration.method,
            "images": len(self.calibration.images),
            "layers": len(self.layers),
            "kept": [name for name in self.layers if name in kept],
            **dataclasses.asdict(harm),
        }
        text = json.dumps(json.loads(symbol.tojson()), indent=2) + "\n"
        return Lowered(text, params, quantization)

    def _harm(self, kept: set[str], count: int | None = None) -> Harm:
        outputs = run_block(as_block(*self._build(kept)), self.calibration.batches(), count)
        return Harm.of(outputs, [array[: len(outputs[0])] for array in self.expected])

    def _build(self, kept: set[str]) -> tuple[mx.sym.Symbol, Params]:
        quantized, _ = mxnet_quantization._quantize_symbol(
            self.symbol,
            mx.cpu(),
            excluded_symbols=sorted(kept),
            quantized_dtype="auto",
            quantize_mode="smart",
            quantize_granularity="channel-wise",
        )
        quantized = mxnet_quantization._calibrate_quantized_sym(quantized, self.thresholds)
        symbol = quantized.get_backend_symbol("MKLDNN_QUANTIZE")
        names = {*symbol.list_arguments(), *symbol.list_auxiliary_states()} - {INPUT}
        return symbol, {name: self._array(name, kept) for name in sorted(names)}

    def _array(self, name: str, kept: set[str]) -> np.ndarray:
        array = self.params[name]
        if self.lines.get(name, None) in {None, *kept}:
            return array
        # MXNet has the largest weight of a channel become 127.5, of which the byte 127 or -128 is
        # left. A line's weights are all the largest, and would all be wrong by 0.4 %.
        byte = np.where(array > 0, np.float32(127), np.float32(128))
        return array * (np.float32(127.5) / byte)


def tensors_of(symbol: mx.sym.Symbol, params: Params) -> list[str]:
    """Name all that a graph computes, and its input."""
    return [name for name in symbol.get_internals().list_outputs() if name not in params]


def run_block(
    block: gluon.Block, batches: Iterable[np.ndarray], count: int | None = None
) -> list[np.ndarray]:
    """Run a block on the images, or the first of them."""
    parts, seen = [], 0
    for batch in batches:
        outputs = block(mx.nd.array(batch, ctx=mx.cpu()))
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        parts.append([output.asnumpy() for output in outputs])
        seen += len(batch)
        if count is not None and seen >= count:
            break
    return [np.concatenate(arrays) for arrays in zip(*parts)]


def choose_kept(
    layers: Sequence[str],
    calibration: Calibration,
    harm_of: Callable[..., Harm],
    wrong: Collection[str] = (),
) -> tuple[set[str], Harm]:
    """Keep the layers in float that are asked for, and more until the harm is small enough.

    Parameters
    ----------
    layers
        Names of all.
    calibration
        Says which to keep, and what is small enough.
    harm_of
        Measures the harm when layers, a set, are kept; on some of the images if a number follows.
    wrong
        Those that have to be kept.

    Raises
    ------
    ValueError
        If no layer has a name that is to be kept.
    """
    kept = set(wrong)
    for pattern in calibration.keep:
        found = fnmatch.filter(layers, pattern)
        if not found:
            raise ValueError(
                f"keep (={pattern!r}) is the name of no layer; some are {', '.join(layers[:3])}."
            )
        kept.update(found)
    harm = harm_of(kept)
    if harm.within(calibration):
        return kept, harm
    groups = _groups(name for name in layers if name not in kept)
    trials = {name: harm_of(kept | group, _TRIAL_IMAGES).error for name, group in groups.items()}
    worst, count, more = sorted(groups, key=lambda name: trials[name]), 1, set[str]()
    while not harm.within(calibration) and count < 2 * len(worst):
        more = set().union(*(groups[name] for name in worst[:count]))
        harm = harm_of(kept | more)
        count *= 2
    return kept | more, harm


def _groups(layers: Iterable[str]) -> dict[str, set[str]]:
    """Put the layers of a block together, going by their names."""
    groups: dict[str, set[str]] = {}
    for name in layers:
        block = name[: -len("_fwd")] if name.endswith("_fwd") else name
        groups.setdefault(block.rpartition("_")[0] or name, set()).add(name)
    # A block around them all is no help.
    return groups if len(groups) > 1 else {name: {name} for name in next(iter(groups.values()), ())}
