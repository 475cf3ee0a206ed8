"""What stands in front of a network and behind it in its graph: pixels in, probabilities out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..data.transforms.batch import scale_and_shift
from ..errors import closest
from ..graph.ir import Lowered
from ..graph.trace import INPUT, portable_json
from .onnx.pre_post import add_normalization, add_softmax

# Arrays of the graph that normalizes pixels; they are no weights.
SCALE, SHIFT = f"{INPUT}_scale", f"{INPUT}_shift"
OUTPUTS = ("logits", "probabilities", "features")
PARAMS_DTYPES = ("float32", "float16")


@dataclasses.dataclass(frozen=True)
class Ends:
    """What an export's graph takes and gives, and how it keeps its weights.

    Parameters
    ----------
    preprocess
        True: the graph takes pixels (N, H, W, C) and normalizes them itself. ONNX models take
        bytes, MXNet's graphs numbers of any type.
    output
        ``"logits"``: what the network gives; ``"probabilities"``: their softmax; ``"features"``:
        what its ``output`` layer reads.
    params_dtype
        ``"float16"``: the weights are kept in half of the bytes and made float32 by the graph.

    Raises
    ------
    ValueError
        If there is no such output or type.
    """

    preprocess: bool = False
    output: str = "logits"
    params_dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, known in (("output", OUTPUTS), ("params_dtype", PARAMS_DTYPES)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(
                    f"unknown {name} {value!r}{closest(str(value), known)} "
                    f"(known: {', '.join(known)})."
                )

    def check(self, target: str, needs_calibration: bool, mean: object, std: object) -> None:
        """Raise a ValueError if a target cannot have them, or mean and std are missing."""
        if self.preprocess and (mean is None or std is None):
            raise ValueError("preprocess=True normalizes with mean and std: give them too.")
        if self.params_dtype != "float32" and target != "portable":
            raise ValueError(
                f"params_dtype={self.params_dtype!r} is for target='portable', not {target!r}."
            )
        if self.output == "features" and needs_calibration:
            raise ValueError(
                f"output='features' is not for target={target!r}, whose 8 bits are judged by the "
                "likeliest class: use another target."
            )

    def network(self, net: gluon.HybridBlock) -> Callable:
        """Return what computes the graph's outputs, but for the softmax: the network or its trunk.

        Raises
        ------
        ValueError
            If features are wanted of a network that is not ``features`` and ``output``.
        """
        if self.output != "features":
            return net
        if not (hasattr(net, "features") and hasattr(net, "output")):
            raise ValueError(
                "output='features' needs a network of features and output, as those of "
                "gluondense.get_model and MXNet's zoo are."
            )
        return net.features

    def feed(self, batch: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
        """Return the pixels that the graph takes in place of a network's batch (N, C, H, W)."""
        if not self.preprocess:
            return batch
        scale, shift = scale_and_shift(mean, std)
        pixels = (batch - shift[:, None, None]) / scale[:, None, None]
        return np.rint(pixels).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)

    def expect(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        """Return what the graph gives where the network gives these."""
        if self.output != "probabilities":
            return outputs
        if len(outputs) != 1 or outputs[0].ndim != 2:
            shapes = ", ".join(str(array.shape) for array in outputs)
            raise ValueError(f"output='probabilities' needs logits (N, classes), not {shapes}.")
        powers = np.exp(outputs[0] - outputs[0].max(axis=1, keepdims=True))
        return [powers / powers.sum(axis=1, keepdims=True)]

    def attach(
        self,
        lowered: Lowered,
        mean: Sequence[float],
        std: Sequence[float],
        portable: bool,
    ) -> Lowered:
        """Return a target's graph and arrays with these ends."""
        if self in (Ends(), Ends(output="features")):
            return lowered
        if not isinstance(lowered.graph, str):
            if self.preprocess:
                add_normalization(lowered.graph, *scale_and_shift(mean, std))
            if self.output == "probabilities":
                add_softmax(lowered.graph)
            return lowered
        symbol, params = mx.sym.load_json(lowered.graph), dict(lowered.params)
        if self.params_dtype == "float16":
            symbol = _in_halves(symbol, params)
        if self.preprocess:
            symbol = symbol(**{INPUT: _normalized(params, mean, std)})
        if self.output == "probabilities":
            symbol = mx.sym.softmax(symbol, axis=-1, name="probabilities")
        written = portable_json(symbol) if portable else _json(symbol)
        return lowered._replace(graph=written, params=params)


def _json(symbol: mx.sym.Symbol) -> str:
    return json.dumps(json.loads(symbol.tojson()), indent=2) + "\n"


def _normalized(
    params: dict[str, np.ndarray], mean: Sequence[float], std: Sequence[float]
) -> mx.sym.Symbol:
    """Record what ``data.transforms.normalize`` does, operation by operation."""
    constants = []
    for name, values in zip((SCALE, SHIFT), scale_and_shift(mean, std)):
        params[name] = values.reshape(1, -1, 1, 1)
        # No shape of an operator tells that of what is broadcast.
        constants.append(mx.sym.var(name, shape=params[name].shape))
    # Bytes or floats come out of the cast as floats, whatever the reader binds.
    floats = mx.sym.Cast(mx.sym.var(INPUT), dtype="float32", name=f"{INPUT}_float")
    maps = mx.sym.transpose(floats, axes=(0, 3, 1, 2), name=f"{INPUT}_maps")
    scaled = mx.sym.broadcast_mul(maps, constants[0], name=f"{INPUT}_scaled")
    return mx.sym.broadcast_add(scaled, constants[1], name=f"{INPUT}_normalized")


def _in_halves(symbol: mx.sym.Symbol, params: dict[str, np.ndarray]) -> mx.sym.Symbol:
    """Keep the filters as float16; normalizations and biases are few, and stay."""
    largest = np.finfo(np.float16).max
    casts = {}
    for name, array in params.items():
        if array.ndim < 2 or array.dtype != np.float32 or name not in symbol.list_arguments():
            continue
        if np.abs(array).max() > largest:
            raise ValueError(
                f"params_dtype='float16' holds numbers up to {largest:g}, and {name} has "
                f"{np.abs(array).max():g}: export with float32."
            )
        params[name] = array.astype(np.float16)
        weight = mx.sym.var(name, shape=array.shape, dtype="float16")
        casts[name] = mx.sym.Cast(weight, dtype="float32", name=f"{name}_float")
    return symbol(**casts)
