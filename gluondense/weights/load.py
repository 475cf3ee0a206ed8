"""Weights from any known layout into a network, all of them or none."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..blocks import HeFanOut
from ..data.preprocessing import Preprocessing
from ..models import Network
from .formats.open import WeightsFile, open_weights
from .memory import divide, make_arrays, make_pages, open_arrays, reserve, share
from .naming.match import HEAD, STEM, Plan, find_layout, some
from .naming.scheme import Layout
from .naming.schemes import get_layout

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
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    new = {name: value for name, value in parameters.items() if value._data is None}
    memory = reserve(*_kinds(shapes, new))
    with ThreadPoolExecutor(1) as helper:
        # It takes as long as finding the parameters in the file.
        if new:
            helper.submit(make_pages, memory)
        with open_weights(path) as file:
            row = get_layout(layout) if layout else find_layout(shapes, file)
            plan = Plan(shapes, net.spec, file, row, net.features_only)
            plan.check(net.model_name)
            preprocessing = _preprocessing(file, row)
            devices = _devices(net, ctx)
            _fill(plan, parameters, devices, memory, helper)
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


def _fill(
    plan: Plan,
    parameters: dict[str, gluon.Parameter],
    devices: list[mx.Context],
    memory: np.ndarray,
    helper: Executor,
) -> None:
    """Read what the plan loads, to where it is in use or else to the reserved memory."""
    new = {name: parameters[name] for name in plan.loads if parameters[name]._data is None}
    views = divide(memory, *_kinds(plan.shapes, new))
    reading = helper.submit(_read_all, plan, zip(new, views))
    trained = {name: value for name, value in new.items() if value.grad_req != "null"}
    try:
        arrays = share(views)
        gradients, _ = make_arrays(*_kinds(plan.shapes, trained))
    finally:
        reading.result()  # whatever happens, before the file is closed
    _start(new, dict(zip(new, arrays)), dict(zip(trained, gradients)), devices)
    _overwrite(plan, {n: parameters[n] for n in plan.loads if n not in new})


def _overwrite(plan: Plan, parameters: dict[str, gluon.Parameter]) -> None:
    """Read those that are in use, on the CPU to where they are."""
    used = [
        (name, array, ctx.device_type == "cpu")
        for name, value in parameters.items()
        for array, ctx in zip(value.list_data(), value.list_ctx())
    ]
    here = [(name, array) for name, array, on_cpu in used if on_cpu]
    shapes = [plan.shapes[name] for name, _ in here]
    dtypes = [np.dtype(parameters[name].dtype) for name, _ in here]
    opened = open_arrays([array for _, array in here], shapes, dtypes)
    _read_all(plan, ((name, view) for (name, _), view in zip(here, opened)))
    for name, array, on_cpu in used:
        if not on_cpu:
            array[:] = _read(plan, name)


def _kinds(
    shapes: Mapping[str, tuple[int, ...]], parameters: dict[str, gluon.Parameter]
) -> tuple[list[tuple[int, ...]], list[np.dtype]]:
    """Shape and type of each of these parameters."""
    return (
        [shapes[name] for name in parameters],
        [np.dtype(value.dtype) for value in parameters.values()],
    )


def _start(
    parameters: dict[str, gluon.Parameter],
    values: dict[str, mx.nd.NDArray],
    gradients: dict[str, mx.nd.NDArray],
    devices: list[mx.Context],
) -> None:
    """Give parameters their first values, and gradients to those that have some."""
    for name, parameter in parameters.items():
        parameter._deferred_init = ()
        # Gluon would make the gradients now, and one by one.
        grad_req, parameter._grad_req = parameter._grad_req, "null"
        parameter._init_impl(_InPlace(values[name]), devices)
        parameter._grad_req = grad_req
    for name, gradient in gradients.items():
        parameters[name]._grad = [_InPlace(gradient).copyto(ctx) for ctx in devices]
    mx.autograd.mark_variables(
        [array for name in gradients for array in parameters[name]._data],
        [array for name in gradients for array in parameters[name]._grad],
        [parameters[name].grad_req for name in gradients for _ in devices],
    )


def _read_all(plan: Plan, rows: Iterable[tuple[str, np.ndarray]]) -> None:
    as_they_are = []
    for name, memory in rows:
        keys = plan.loads[name]
        if len(keys) == 1 and plan.file.shapes[keys[0]] == memory.shape:
            as_they_are.append((keys[0], memory))
        else:
            memory[...] = _read(plan, name)
    plan.file.read_all_into(as_they_are)


def _read(plan: Plan, name: str) -> np.ndarray:
    parts = [plan.file[key] for key in plan.loads[name]]
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    shape = plan.shapes[name]
    if name in plan.adapted:
        return fit_channels(array, shape[1])
    return array.reshape(shape)


_HERE = mx.cpu()


class _InPlace:
    """What Gluon copies to each device, but for the one where it is already."""

    def __init__(self, array: mx.nd.NDArray) -> None:
        self._array = array

    def copyto(self, ctx: mx.Context) -> mx.nd.NDArray:
        return self._array if ctx == _HERE else self._array.copyto(ctx)


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
