# SPDX-License-Identifier: Apache-2.0
"""Calibration ranges: the values of a graph's tensors over a set of images."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Callable

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..errors import check_choice, check_range
from .ir import Params
from .trace import INPUT

# Yields pairs of a tensor's name and its values for a batch of images.
Run = Callable[[np.ndarray], Iterator["tuple[str, np.ndarray]"]]

METHODS = ("entropy", "percentile", "minmax")

BINS = 4096  # histogram bins on each side of zero
CLIP_STEP = 8  # bins between two clipping thresholds that the entropy method compares


@dataclass(frozen=True, eq=False)
class Range:
    """The calibrated range of one tensor.

    Parameters
    ----------
    low, high
        The range that the int8 values represent. It contains zero; values outside are clipped.
    channel_low, channel_high
        Minimum and maximum of each channel, (C,), without clipping.
    """

    low: float
    high: float
    channel_low: np.ndarray
    channel_high: np.ndarray


def collect_ranges(
    symbol: mx.sym.Symbol,
    params: Params,
    tensors: Sequence[str],
    batches: Iterable[np.ndarray],
    method: str = "entropy",
    percentile: float = 99.99,
) -> dict[str, Range]:
    """Run a graph on images and return the ranges of its tensors.

    Parameters
    ----------
    symbol, params
        The graph and the array of each of its variables.
    tensors
        Names as in ``symbol.get_internals().list_outputs()``; the input's name is valid too.
    batches
        Images (N, C, H, W). They are iterated over twice unless the method is ``"minmax"``. All
        requested tensors of one batch are in memory at a time.
    method
        ``"minmax"``: minimum and maximum. ``"percentile"``: percentiles of the values.
        ``"entropy"``: the clipping threshold with the smallest Kullback-Leibler divergence between
        the original and the quantized distribution, as in TensorRT.
    percentile
        Percentage of the values that are at most ``high``, and of those that are at least ``low``.

    Raises
    ------
    ValueError
        If a tensor or the method is unknown, there are no images, or a value is not finite.

    References
    ----------
    Szymon Migacz: "8-bit Inference with TensorRT", GTC 2017.

    Examples
    --------
    >>> symbol = mx.sym.Activation(mx.sym.var("data"), act_type="relu", name="relu")
    >>> images = np.arange(-4, 4, dtype="float32").reshape(1, 2, 2, 2)
    >>> found = collect_ranges(symbol, {}, ["data", "relu_output"], [images], "minmax")
    >>> [(name, range.low, range.high) for name, range in found.items()]
    [('data', -4.0, 3.0), ('relu_output', 0.0, 3.0)]
    >>> found["data"].channel_high.tolist()
    [-1.0, 3.0]
    """
    check_method(method, percentile)
    run = _runner(symbol, params, tensors)
    lows, highs = _channel_extrema(run, batches)
    if not lows and tensors:
        raise ValueError("there are no images to calibrate with.")
    limits = {name: (min(0.0, lows[name].min()), max(0.0, highs[name].max())) for name in tensors}
    if method != "minmax":
        histograms = {name: Histogram(max(-low, high)) for name, (low, high) in limits.items()}
        for batch in batches:
            for name, values in run(batch):
                histograms[name].add(values)
        for name, (low, high) in limits.items():
            if method == "entropy":
                clip_low, clip_high = histograms[name].least_divergence(signed=low < 0)
            else:
                clip_low, clip_high = histograms[name].percentile(percentile)
            limits[name] = max(low, clip_low), min(high, clip_high)
    return {
        name: Range(float(low), float(high), lows[name], highs[name])
        for name, (low, high) in limits.items()
    }


def check_method(method: str, percentile: float) -> None:
    """Raise a ValueError unless the method and the percentile are valid."""
    check_choice("method", method, METHODS)
    check_range("percentile", percentile, 50, 100, closed="right")


def tensor_names(symbol: mx.sym.Symbol, params: Params) -> list[str]:
    """Return the names of the input and of everything that a graph computes."""
    return [name for name in symbol.get_internals().list_outputs() if name not in params]


def _channel_extrema(
    run: Run, batches: Iterable[np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    lows: dict[str, np.ndarray] = {}
    highs: dict[str, np.ndarray] = {}
    for batch in batches:
        for name, values in run(batch):
            rows = values.reshape(len(values), values.shape[1] if values.ndim > 1 else 1, -1)
            low, high = rows.min(axis=2).min(axis=0), rows.max(axis=2).max(axis=0)
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                raise ValueError(f"{name} is not finite for the calibration's images.")
            lows[name] = np.minimum(low, lows.get(name, low))
            highs[name] = np.maximum(high, highs.get(name, high))
    return lows, highs


def _runner(symbol: mx.sym.Symbol, params: Params, tensors: Sequence[str]) -> Run:
    internals = symbol.get_internals()
    known = set(internals.list_outputs())
    for name in tensors:
        if name not in known:
            raise ValueError(f"the graph has no tensor {name!r}.")
    names = [name for name in tensors if name != INPUT]
    block = as_block(mx.sym.Group([internals[name] for name in names]), params) if names else None

    def run(batch: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        if INPUT in tensors:
            yield INPUT, batch
        if block is not None:
            outputs = block(mx.nd.array(batch, ctx=mx.cpu()))
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            for name, output in zip(names, outputs):
                yield name, output.asnumpy()

    return run


def as_block(
    symbol: mx.sym.Symbol, params: Params, ctx: mx.Context | None = None
) -> gluon.SymbolBlock:
    """Return a block that runs a graph with its arrays, on the CPU by default."""
    with warnings.catch_warnings():
        # MXNet infers the type of the input before it knows the types of the parameters.
        warnings.filterwarnings("ignore", "Cannot decide type for the following arguments")
        block = gluon.SymbolBlock(symbol, [mx.sym.var(INPUT)])
    for name, parameter in block.collect_params().items():
        parameter.dtype = params[name].dtype
        array = mx.nd.array(params[name], dtype=params[name].dtype)
        parameter._load_init(array, ctx or mx.cpu())
    return block


class Histogram:
    """A histogram with bins of equal width up to the largest absolute value, ``limit``."""

    def __init__(self, limit: float) -> None:
        self.width = float(limit) / BINS
        self.counts = np.zeros(2 * BINS, np.int64)
        self.zeros = 0

    def add(self, values: np.ndarray) -> None:
        """Count the values of an array."""
        self.zeros += values.size - np.count_nonzero(values)
        if self.width > 0:
            bins = np.floor(values.ravel() * np.float32(1 / self.width)).astype(np.int64) + BINS
            np.clip(bins, 0, 2 * BINS - 1, out=bins)
            self.counts += np.bincount(bins, minlength=2 * BINS)

    def percentile(self, percentile: float) -> tuple[float, float]:
        """Return the limits that exclude ``100 - percentile`` percent of the values per side."""
        share = percentile / 100 * self.counts.sum()
        high = np.searchsorted(self.counts.cumsum(), share) + 1 - BINS
        low = BINS - 1 - np.searchsorted(self.counts[::-1].cumsum(), share)
        return self.width * min(low, 0), self.width * max(high, 0)

    def least_divergence(self, signed: bool) -> tuple[float, float]:
        """Return the symmetric limits whose quantization has the smallest KL divergence.

        Zeros are excluded, as any limits represent them exactly.
        """
        counts = self.counts.copy()
        counts[BINS] -= self.zeros
        levels = 128 if signed else 256
        thresholds = np.arange(levels, BINS + 1, CLIP_STEP)
        absolute = counts[BINS:] + counts[BINS - 1 :: -1]
        best = thresholds[np.argmin(divergences(absolute, levels, thresholds))]
        return -self.width * best, self.width * best


def divergences(counts: np.ndarray, levels: int, thresholds: np.ndarray) -> np.ndarray:
    """Compute the KL divergence between a distribution and its quantization for each threshold.

    The bins below a threshold are merged into ``levels`` levels of equal width, and the values of a
    level are distributed evenly over its non-empty bins. Values above the threshold count towards
    the last bin of the original distribution, but not of the quantized one. So the divergence is
    infinite where the last level is empty although there are values above the threshold.

    ``counts`` is the histogram of the absolute values, from zero on. ``thresholds`` are numbers of
    bins, each at least ``levels``.
    """
    total = counts.sum()
    inside = _prefix_sums(counts)[thresholds]
    outside = total - inside
    last = counts[thresholds - 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Entropy of the distribution, with all values above the threshold in the last bin.
        entropy = (
            _prefix_sums(_x_log_x(counts))[thresholds] - _x_log_x(last) + _x_log_x(last + outside)
        )
        edges = np.arange(levels + 1) * thresholds[:, None] // levels
        filled = np.diff(_prefix_sums(counts > 0)[edges], axis=1)
        mass = np.diff(_prefix_sums(counts)[edges], axis=1).astype(np.float64)
        filled[:, -1] += (last == 0) & (outside > 0)
        density = np.log(mass / filled)
        mass[:, -1] += outside
        cross_entropy = np.where(mass > 0, mass * density, 0).sum(axis=1)
        found = (entropy - cross_entropy) / total + np.log(inside / total)
    return np.where(np.isnan(found), np.inf, found)


def _prefix_sums(values: np.ndarray) -> np.ndarray:
    """Return the sums of the first 0, 1, ..., n values."""
    return np.concatenate([[0], np.cumsum(values)])


def _x_log_x(values: np.ndarray) -> np.ndarray:
    return values * np.log(np.maximum(values, 1))
