"""Between which values a graph's tensors lie: what 8 bits are spread over."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Callable

import mxnet as mx
import numpy as np
from mxnet import gluon

from .ir import Params
from .trace import INPUT

# Gives pairs of name and values for a batch of images.
Run = Callable[[np.ndarray], Iterator["tuple[str, np.ndarray]"]]

METHODS = ("entropy", "percentile", "minmax")

# Bins on each side of zero; and how many of them the ends tried for the entropy lie apart.
BINS, STEP = 4096, 8


@dataclass(frozen=True, eq=False)
class Range:
    """The values of one tensor.

    Parameters
    ----------
    low, high
        What 8 bits are to be spread over; it holds zero, and what lies outside is cut off.
    channel_low, channel_high
        The smallest and the largest value of each channel, (C,); nothing is cut off of them.
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
    """Run a graph on images and say what values its tensors take.

    Parameters
    ----------
    symbol, params
        The graph, and the array of each of its variables.
    tensors
        Names as in ``symbol.get_internals().list_outputs()``, the input's among them.
    batches
        Images (N, C, H, W); gone through twice, unless the method is ``"minmax"``. All of the
        tensors of one batch are in memory at a time.
    method
        ``"minmax"``: all values. ``"percentile"``: without the lowest and the highest.
        ``"entropy"``: so that the distribution changes least (Kullback-Leibler divergence), as
        TensorRT does.
    percentile
        How many of the values, in percent, lie below ``high``, and how many above ``low``.

    Raises
    ------
    ValueError
        If there is no such tensor or method, no image, or a value is not finite.

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
    if not lows and tensors:
        raise ValueError("there are no images to calibrate with.")

    ends = {name: (min(0.0, lows[name].min()), max(0.0, highs[name].max())) for name in tensors}
    if method != "minmax":
        histograms = {name: Histogram(max(-low, high)) for name, (low, high) in ends.items()}
        for batch in batches:
            for name, values in run(batch):
                histograms[name].add(values)
        for name, (low, high) in ends.items():
            cut_low, cut_high = (
                histograms[name].least_divergence(signed=low < 0)
                if method == "entropy"
                else histograms[name].percentile(percentile)
            )
            ends[name] = max(low, cut_low), min(high, cut_high)
    return {
        name: Range(float(low), float(high), lows[name], highs[name])
        for name, (low, high) in ends.items()
    }


def check_method(method: str, percentile: float) -> None:
    """Refuse what is none of the methods.

    Raises
    ------
    ValueError
        If it is another method or no percentile.
    """
    if method not in METHODS:
        raise ValueError(f"method (={method!r}) must be one of {', '.join(METHODS)}.")
    if not 50 < percentile <= 100:
        raise ValueError(f"percentile (={percentile}) must lie above 50 and not above 100.")


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


def as_block(symbol: mx.sym.Symbol, params: Params) -> gluon.SymbolBlock:
    """Make a block on the CPU of a graph and its arrays."""
    with warnings.catch_warnings():
        # MXNet wonders about the input's type before it has seen that of the parameters.
        warnings.filterwarnings("ignore", "Cannot decide type for the following arguments")
        block = gluon.SymbolBlock(symbol, [mx.sym.var(INPUT)])
    for name, parameter in block.collect_params().items():
        parameter.dtype = params[name].dtype
        parameter._load_init(mx.nd.array(params[name], dtype=params[name].dtype), mx.cpu())
    return block


class Histogram:
    """How often values occur, in bins of one width from ``-end`` to ``end``.

    Parameters
    ----------
    end
        The largest absolute value.
    """

    def __init__(self, end: float) -> None:
        self.width = float(end) / BINS
        self.counts = np.zeros(2 * BINS, np.int64)
        self.zeros = 0

    def add(self, values: np.ndarray) -> None:
        """Count an array's values."""
        self.zeros += values.size - np.count_nonzero(values)
        if self.width > 0:
            bins = np.floor(values.ravel() * np.float32(1 / self.width)).astype(np.int64) + BINS
            np.clip(bins, 0, 2 * BINS - 1, out=bins)
            self.counts += np.bincount(bins, minlength=2 * BINS)

    def percentile(self, percentile: float) -> tuple[float, float]:
        """Find ends that leave out the given share of the values on each side."""
        share = percentile / 100 * self.counts.sum()
        high = np.searchsorted(self.counts.cumsum(), share) + 1 - BINS
        low = BINS - 1 - np.searchsorted(self.counts[::-1].cumsum(), share)
        return self.width * min(low, 0), self.width * max(high, 0)

    def least_divergence(self, signed: bool) -> tuple[float, float]:
        """Find the end, on both sides of zero, for which 8 bits change the distribution least.

        Zeros are left out: they are zero whatever the end is.
        """
        counts = self.counts.copy()
        counts[BINS] -= self.zeros
        levels = 128 if signed else 256
        ends = np.arange(levels, BINS + 1, STEP)
        best = ends[np.argmin(divergences(counts[BINS:] + counts[BINS - 1 :: -1], levels, ends))]
        return -self.width * best, self.width * best


def divergences(counts: np.ndarray, levels: int, ends: np.ndarray) -> np.ndarray:
    """Measure how far quantized distributions are from a distribution of absolute values.

    For each end the bins below it are merged into levels of equal width; each level's values are
    spread evenly over its bins that have any. What lies beyond counts as part of the last bin, in
    the distribution but not in the quantized one.

    Parameters
    ----------
    counts
        Values in each bin, beginning at zero.
    levels
        Levels of the quantized values.
    ends
        Numbers of bins, each at least as many as the levels.

    Returns
    -------
    ndarray
        The Kullback-Leibler divergence for each end; infinite where the last level is empty but
        values lie beyond.
    """
    total = counts.sum()
    inside = _before(counts)[ends]
    outside = total - inside
    last = counts[ends - 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # The distribution's own entropy, with the last bin as it is when all beyond is added.
        own = _before(_times_log(counts))[ends] - _times_log(last) + _times_log(last + outside)

        edges = np.arange(levels + 1) * ends[:, None] // levels
        filled = np.diff(_before(counts > 0)[edges], axis=1)
        mass = np.diff(_before(counts)[edges], axis=1).astype(np.float64)
        filled[:, -1] += (last == 0) & (outside > 0)
        density = np.log(mass / filled)
        mass[:, -1] += outside
        cross = np.where(mass > 0, mass * density, 0).sum(axis=1)
        found = (own - cross) / total + np.log(inside / total)
    return np.where(np.isnan(found), np.inf, found)


def _before(values: np.ndarray) -> np.ndarray:
    """Sum all values in front of each place, and behind the last."""
    return np.concatenate([[0], np.cumsum(values)])


def _times_log(values: np.ndarray) -> np.ndarray:
    return values * np.log(np.maximum(values, 1))
