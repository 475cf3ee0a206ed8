"""Weights from any known layout into a network, all of them or none."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, check_call

from ..blocks import HeFanOut
from ..models import Network
from .files import WeightsFile, open_weights
from .layout import Layout, Preprocessing
from .layouts import get_layout
from .matching import HEAD, STEM, Plan, find_layout, shapes_of, some

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What :func:`load_weights` did.

    Parameters
    ----------
    path, format, layout
        The file, its format (``"torch"``, ``"safetensors"``, ``"mxnet"``) and the row of
        ``LAYOUTS`` that names its parameters.
    loaded
        Our names of the parameters that took the file's values.
    fresh
        Those that did not, because the network has other ``classes`` than the file.
    adapted
        Those that were fitted to other ``in_channels``.
    ignored
        The file's names that belong to no parameter, such as ``num_batches_tracked``.
    preprocessing
        What images such weights take; None if the layout does not tell.
    """

    path: str
    format: str
    layout: str
    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    adapted: tuple[str, ...]
    ignored: tuple[str, ...]
    preprocessing: Preprocessing | None

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} parameters from {self.path} ({self.layout} layout)"]
        for word in ("adapted", "fresh", "ignored"):
            names = getattr(self, word)
            if names:
                parts.append(f"{len(names)} {word}: {some(names)}")
        return "; ".join(parts)


def load_weights(
    net: Network,
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    ctx: mx.Context | Sequence[mx.Context] | None = None,
) -> LoadReport:
    """Load a file of weights into a network, whoever wrote it.

    ``.params`` of Gluon or Module, ``.safetensors``, and PyTorch's ``.pth`` in both of its formats
    are read, without torch and without running what a pickle says. Whose names the file has is seen
    from its names and shapes. Nothing is loaded unless everything fits, with two exceptions, which
    are logged and reported: where the network has other ``classes`` its output stays as it is, or
    starts fresh, and where it has other ``in_channels`` the stem's filters are fitted: summed for
    one channel, else repeated in turn and scaled so that their sum stays.

    Parameters
    ----------
    net
        A network of :func:`gluondense.get_model`, initialized or not.
    path
        The file.
    layout
        A key of ``gluondense.weights.LAYOUTS``, where it should not be found out.
    ctx
        Device or devices; by default where the network is, else MXNet's current context.

    Returns
    -------
    LoadReport
        What was loaded and what not; ``net.preprocessing`` gets its ``preprocessing``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or hostile, is of no known layout, or does not fit: then the message
        lists the missing, unexpected and misshapen names, and the network is as it was.

    Examples
    --------
    >>> import tempfile, gluondense
    >>> net = gluondense.get_model("densenet_tutorial")
    >>> net.initialize()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.save_parameters(f"{folder}/net.params")
    ...     other = gluondense.get_model("densenet_tutorial", classes=3)
    ...     report = load_weights(other, f"{folder}/net.params")
    >>> report.layout, report.fresh
    ('gluondense', ('output.weight', 'output.bias'))
    """
    parameters = net._collect_params_with_prefix()
    with open_weights(path) as file:
        row = get_layout(layout) if layout else find_layout(parameters, file)
        plan = Plan(shapes_of(net), net.spec, file, row, net.features_only)
        plan.check(net.model_name)
        preprocessing = _preprocessing(file, row)
        devices = _devices(net, ctx)
        for name in plan.loads:
            _fill(parameters[name], plan, name, devices)
    if plan.fresh:
        _start_head(net, plan, devices)
    if plan.adapted:
        logger.warning(
            "%s: the stem's filters for %d channels were made of those for %d.",
            net.model_name,
            net.spec.in_channels,
            file.shapes[plan.keys[STEM][0]][1],
        )
    if preprocessing is not None:
        net.preprocessing = preprocessing = preprocessing.for_channels(net.spec.in_channels)
    return LoadReport(
        path=os.fspath(path),
        format=file.format,
        layout=row.name,
        loaded=tuple(plan.loads),
        fresh=tuple(plan.fresh),
        adapted=tuple(plan.adapted),
        ignored=tuple(plan.ignored),
        preprocessing=preprocessing,
    )


def _preprocessing(file: WeightsFile, layout: Layout) -> Preprocessing | None:
    """What the file says itself, as those of ``save_weights`` do, before what is usual."""
    text = file.metadata.get("preprocessing")
    if text is None:
        return layout.preprocessing
    try:
        return Preprocessing.from_json(text)
    except ValueError as error:
        raise ValueError(f"{file.path}: {error} Leave it out of the header.") from None


def _read(plan: Plan, name: str, keys: tuple[str, ...]) -> np.ndarray:
    parts = [plan.file[key] for key in keys]
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    shape = plan.shapes[name]
    if name in plan.adapted:
        return fit_channels(array, shape[1])
    return array.reshape(shape)


def fit_channels(filters: np.ndarray, channels: int) -> np.ndarray:
    """Make filters for other input channels: their sum for one, else in turn and scaled.

    Examples
    --------
    >>> filters = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    >>> fit_channels(filters, 1).ravel(), fit_channels(filters, 4).ravel()
    (array([6.]), array([0.75, 1.5 , 2.25, 0.75]))
    """
    before = filters.shape[1]
    if channels == 1:
        return filters.sum(axis=1, keepdims=True)
    return filters[:, np.arange(channels) % before] * (before / channels)


def _devices(net: Network, ctx: Any) -> list[mx.Context]:
    if ctx is None:
        weight = net.features[0][0].weight
        ctx = weight.list_ctx() if weight._data is not None else mx.context.current_context()
    return [ctx] if isinstance(ctx, mx.Context) else list(ctx)


def _fill(parameter: Any, plan: Plan, name: str, devices: list[mx.Context]) -> None:
    keys = plan.loads[name]
    if parameter._data is not None:
        array = _read(plan, name, keys).astype(parameter.dtype, copy=False)
        for data in parameter.list_data():
            data[:] = array
        return
    # Straight from the file into the parameter's memory. Gluon's own way takes two copies, and for
    # each parameter a wait for MXNet's engine.
    values = mx.nd.empty(parameter.shape, ctx=mx.cpu(), dtype=parameter.dtype)
    memory = _memory(values)
    if len(keys) == 1 and plan.file.shapes[keys[0]] == parameter.shape:
        plan.file.read_into(keys[0], memory)
    else:
        memory[...] = _read(plan, name, keys)
    parameter._deferred_init = ()
    parameter._init_impl(_InPlace(values), devices)


def _memory(array: mx.nd.NDArray) -> np.ndarray:
    """Show the memory of a new array on the CPU, which no operation has touched yet."""
    pointer = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    count = array.size * np.dtype(array.dtype).itemsize
    buffer = (ctypes.c_char * count).from_address(pointer.value or 0)
    return np.frombuffer(buffer, dtype=array.dtype).reshape(array.shape)


class _InPlace:
    """What Gluon copies to each device, but for the device where it is already."""

    def __init__(self, array: mx.nd.NDArray) -> None:
        self._array = array

    def copyto(self, ctx: mx.Context) -> mx.nd.NDArray:
        return self._array if ctx == self._array.context else self._array.copyto(ctx)


def _start_head(net: Network, plan: Plan, devices: list[mx.Context]) -> None:
    initialized = net.output.weight._data is not None
    if not initialized:
        net.output.initialize(HeFanOut(), ctx=devices)
    logger.warning(
        "%s: %s has %d classes, so the output for %d %s.",
        net.model_name,
        plan.file.path,
        plan.file.shapes[plan.keys[HEAD + "bias"][0]][0],
        net.spec.classes,
        "stays as it is" if initialized else "starts fresh",
    )
