# SPDX-License-Identifier: Apache-2.0
"""Pre- and post-processing in the exported graph: normalization, probabilities, float16 weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..analysis.tasks import ACTIVATIONS, TASKS
from ..data.preprocessing import Preprocessing
from ..data.transforms.batch import scale_and_shift
from ..errors import check, check_known
from ..graph.ir import Lowered
from ..graph.trace import INPUT, indented_json, portable_json
from .metadata_schema import OUTPUTS, PARAMS_DTYPES
from .onnx.pre_post import add_normalization, add_probabilities


def select_output(
    net: gluon.HybridBlock, output: str, class_names: object, is_detector: bool = False
) -> str:
    """Return the output of an export.

    That of a detector is ``"boxes"``, that of a network without a classifier ``"features"``.
    """
    check_known("output", output, OUTPUTS)
    if is_detector != (output == "boxes"):
        rule = "'boxes' for a detector, and only for one"
        check("output", output, rule, is_detector and output == "logits")
        return "boxes"
    if not getattr(net, "is_headless", False):
        return output
    if output == "probabilities" or class_names is not None:
        raise ValueError(
            "the network was built with classes=0 and gives features, without probabilities "
            "or class names: leave these out, or call net.reset_output(classes) and train it."
        )
    return "features"


@dataclasses.dataclass(frozen=True)
class PrePost:
    """The input and output of an exported graph, and the type of its stored weights.

    Parameters
    ----------
    preprocessing
        Preprocessing of images, if known; its mean and std may be a part of the graph.
    preprocess
        Whether the graph takes pixels (N, H, W, C), after resize and crop, and normalizes them.
        ONNX models take uint8, MXNet graphs any type.
    output
        ``"logits"``: the network's outputs. ``"probabilities"``: their softmax, or the sigmoid of a
        multi-label network. ``"features"``: the input of the network's ``output`` layer.
        ``"boxes"``: classes, scores and corners, of detectors.
    params_dtype
        ``"float16"``: weights are stored as float16 and cast to float32 by the graph.
    task
        What the network has learned: ``"classification"``, ``"multi_label"`` or ``"detection"``.

    Raises
    ------
    ValueError
        If ``output``, ``params_dtype`` or ``task`` is unknown.
    """

    preprocessing: Preprocessing | None = None
    preprocess: bool = False
    output: str = "logits"
    params_dtype: str = "float32"
    task: str = "classification"

    def __post_init__(self) -> None:
        check_known("output", self.output, OUTPUTS)
        check_known("params_dtype", self.params_dtype, PARAMS_DTYPES)
        check_known("task", self.task, TASKS)

    @property
    def is_multi_label(self) -> bool:
        """Whether an image has several labels."""
        return self.task == "multi_label"

    def check(self, target: str, quantized: bool) -> None:
        """Raise a ValueError if mean or std is missing or the target lacks an option."""
        if self.preprocess and self.preprocessing is None:
            raise ValueError("preprocess=True normalizes with mean and std: give them too.")
        if self.params_dtype != "float32" and target != "portable":
            raise ValueError(
                f"params_dtype={self.params_dtype!r} is for target='portable', not {target!r}."
            )
        if self.output == "features" and quantized:
            raise ValueError(
                f"output='features' is not for target={target!r}, whose quantization error is "
                "measured on the predicted classes: use another target."
            )

    def source(self, net: gluon.HybridBlock) -> Callable:
        """Return the block to trace: the network, or its ``features`` if they are the output."""
        if self.output != "features" or getattr(net, "is_headless", False):
            return net
        if not (hasattr(net, "features") and hasattr(net, "output")):
            raise ValueError(
                "output='features' needs a network of features and output, as those of "
                "gluondense.get_model and MXNet's model zoo are."
            )
        return net.features

    def graph_input(self, batch: np.ndarray) -> np.ndarray:
        """Convert a normalized batch (N, C, H, W) to the input of the graph.

        With ``preprocess`` these are the nearest pixels, uint8 (N, H, W, C).
        """
        if not self.preprocess:
            return batch
        scale, shift = self._scale_and_shift()
        pixels = (batch - shift[:, None, None]) / scale[:, None, None]
        return np.rint(pixels).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)

    def round_to_pixels(self, batch: np.ndarray) -> np.ndarray:
        """Round a normalized batch (N, C, H, W) to values that the graph's input can represent."""
        if not self.preprocess:
            return batch
        assert self.preprocessing is not None  # checked
        return self.preprocessing.normalize(self.graph_input(batch))

    def _scale_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        assert self.preprocessing is not None  # checked
        return scale_and_shift(self.preprocessing.mean, self.preprocessing.std)

    def graph_outputs(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        """Convert the outputs of :meth:`source` to those of the graph."""
        if self.output != "probabilities":
            return outputs
        if len(outputs) != 1 or outputs[0].ndim != 2:
            shapes = ", ".join(str(array.shape) for array in outputs)
            raise ValueError(f"output='probabilities' needs logits (N, classes), not {shapes}.")
        return [ACTIVATIONS[self.task](outputs[0])]

    def attach(self, lowered: Lowered, portable: bool) -> Lowered:
        """Add the pre- and post-processing to a graph; MXNet 1.4 loads it if ``portable``."""
        probabilities = self.output == "probabilities"
        computes_in_half = any(array.dtype == np.float16 for array in lowered.params.values())
        stays = not (self.preprocess or probabilities or computes_in_half)
        if stays and self.params_dtype == "float32":
            return lowered
        if not isinstance(lowered.graph, str):
            if self.preprocess:
                add_normalization(lowered.graph, *self._scale_and_shift())
            if probabilities:
                add_probabilities(lowered.graph, sigmoid=self.is_multi_label)
            return lowered
        symbol, params = mx.sym.load_json(lowered.graph), dict(lowered.params)
        if self.params_dtype == "float16":
            symbol = _store_float16(symbol, params)
        if computes_in_half:  # the input and the logits are float32 nevertheless
            half = mx.sym.Cast(mx.sym.var(INPUT), dtype="float16", name=f"{INPUT}_half")
            symbol = symbol(**{INPUT: half})
            if probabilities:
                symbol = mx.sym.Cast(symbol, dtype="float32", name="logits_float")
        if self.preprocess:
            symbol = symbol(**{INPUT: _normalized(params, *self._scale_and_shift())})
        if probabilities:
            name = "probabilities"
            if self.is_multi_label:
                symbol = mx.sym.sigmoid(symbol, name=name)
            else:
                symbol = mx.sym.softmax(symbol, axis=-1, name=name)
        written = portable_json(symbol) if portable else indented_json(symbol)
        return lowered._replace(graph=written, params=params)


def _normalized(
    params: dict[str, np.ndarray], scale: np.ndarray, shift: np.ndarray
) -> mx.sym.Symbol:
    """Build the operations of ``data.transforms.batch.normalize``, in the same order."""
    constants = []
    for name, values in ((f"{INPUT}_scale", scale), (f"{INPUT}_shift", shift)):
        params[name] = values.reshape(1, -1, 1, 1)
        # Shape inference cannot derive the shape of a broadcast operand.
        constants.append(mx.sym.var(name, shape=params[name].shape))
    # The cast accepts uint8 and floats, whichever type the input is bound with.
    floats = mx.sym.Cast(mx.sym.var(INPUT), dtype="float32", name=f"{INPUT}_float")
    channels_first = mx.sym.transpose(floats, axes=(0, 3, 1, 2), name=f"{INPUT}_maps")
    scaled = mx.sym.broadcast_mul(channels_first, constants[0], name=f"{INPUT}_scaled")
    return mx.sym.broadcast_add(scaled, constants[1], name=f"{INPUT}_normalized")


def _store_float16(symbol: mx.sym.Symbol, params: dict[str, np.ndarray]) -> mx.sym.Symbol:
    """Store filters as float16; the few arrays of normalizations and biases stay float32."""
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
