# SPDX-License-Identifier: Apache-2.0
"""Load weights files in any known naming scheme into networks."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import math
import os
import warnings
from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.base import _LIB, check_call

from ..blocks.initializer import HeFanOut
from ..data.preprocessing import Preprocessing
from ..models.network import Network
from .catalog import find_published
from .finite import check_finite
from .formats.open import WeightsFile, open_weights
from .naming.custom import Naming, as_naming_scheme
from .naming.match import HEAD, STEM, Plan, abbreviate, find_naming_scheme

logger = logging.getLogger(__name__)

WRITTEN_BY_US = "layout"  # a key of the metadata of files that save_weights writes


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """The result of :func:`load_weights`.

    Parameters
    ----------
    path, format, naming
        The file, its format (``"torch"``, ``"safetensors"``, ``"mxnet"``) and its naming scheme, a
        key of ``NAMING_SCHEMES``.
    loaded
        Our names of the parameters that were loaded.
    fresh
        Parameters that were not loaded because the network has other ``classes`` than the file.
    adapted
        Parameters that were converted to other ``in_channels``.
    ignored
        Names in the file that are no parameters, such as ``num_batches_tracked``.
    preprocessing
        The preprocessing that the weights expect; None if unknown.
    """

    path: str
    format: str
    naming: str
    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    adapted: tuple[str, ...]
    ignored: tuple[str, ...]
    preprocessing: Preprocessing | None

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} parameters from {self.path} ({self.naming} names)"]
        for word in ("adapted", "fresh", "ignored"):
            names = getattr(self, word)
            if names:
                parts.append(f"{len(names)} {word}: {abbreviate(names)}")
        return "; ".join(parts)


def load_weights(
    net: Network,
    path: str | os.PathLike[str],
    *,
    naming: Naming | None = None,
    ctx: mx.Context | Sequence[mx.Context] | None = None,
    layout: str | None = None,
    allow_nan: bool = False,
) -> LoadReport:
    """Load a weights file into a network.

    Reads ``.params`` of Gluon and Module, ``.safetensors``, and PyTorch's ``.pth`` in both of its
    formats, without torch and without executing pickled code. The naming scheme is detected from
    names and shapes. Either everything fits and is loaded, or nothing is, with two exceptions,
    which are logged and reported: if the network has other ``classes``, its output keeps its values
    or is initialized; if it has other ``in_channels``, the stem's filters are converted (summed for
    one channel, else repeated cyclically and scaled so that their sum is preserved).

    Parameters
    ----------
    net
        A network of :func:`gluondense.get_model`, initialized or not.
    path
        The file.
    naming
        How the file names the parameters: a key of ``gluondense.weights.NAMING_SCHEMES``, a
        ``NamingScheme``, or a mapping of our modules to the file's, as a dict of patterns or a
        function (see the examples). By default it is detected.
    ctx
        Device or devices; default: the network's, or MXNet's current context.
    layout
        Deprecated name of ``naming``.
    allow_nan
        Whether to load NaN and infinite values, with a warning, instead of refusing the file.

    Returns
    -------
    LoadReport
        The names that were and were not loaded; its ``preprocessing`` is also assigned to
        ``net.preprocessing``. It is the one in the file, else that of the published weights which
        the file is, else the usual one of a naming scheme for its classes and channels; else None.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged or hostile, has values that are not finite, its naming scheme is
        unknown, or it does not fit. Then the message lists the missing, unexpected and misshapen
        names, and the network is unchanged.

    Examples
    --------
    >>> import tempfile, gluondense
    >>> net = gluondense.get_model("densenet_tutorial")
    >>> net.initialize()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.save_parameters(f"{folder}/net.params")
    ...     other = gluondense.get_model("densenet_tutorial", classes=3)
    ...     report = load_weights(other, f"{folder}/net.params")
    >>> report.naming, report.fresh
    ('gluondense', ('output.weight', 'output.bias'))

    A file whose names no scheme has. ``{i}`` and ``{j}`` match indices, any other name in braces
    matches any part. A function of a module's name works too:

    >>> naming = {
    ...     "features.stem.{unit}": "stem.{unit}",
    ...     "features.stage{i}.layer{j}.{unit}": "block{i}.{j-1}.{unit}",
    ...     "features.transition{i}.{unit}": "down{i}.{unit}",
    ...     "features.norm": "last",
    ...     "output": "classifier",
    ... }
    >>> names = as_naming_scheme(naming, ()).names(net._collect_params_with_prefix())
    >>> names["features.stage2.layer3.norm1.gamma"]
    ('block2.2.norm1.weight',)
    """
    if layout is not None:
        warnings.warn("load_weights: layout is now called naming", DeprecationWarning, stacklevel=2)
        naming = naming or layout
    parameters = net._collect_params_with_prefix()
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    names = [*shapes, *net.absent]  # a stem alone fits too many schemes
    with open_weights(path) as file:
        if naming is None:
            scheme = find_naming_scheme(names, shapes, file, net.model_name)
        else:
            scheme = as_naming_scheme(naming, file)
        plan = Plan(shapes, net.spec, file, scheme, net.absent)
        plan.check(net.model_name)
        preprocessing = _preprocessing(file, plan)
        # Read all values before assigning one: reading can fail if the file changes meanwhile.
        dtypes = {name: np.dtype(parameters[name].dtype) for name in plan.loads}
        values = {name: _read(plan, name, dtype) for name, dtype in dtypes.items()}
    views = ((name, _memory(values[name], shapes[name], dtypes[name])) for name in values)
    check_finite(os.fspath(path), views, allow_nan)
    devices = _devices(net, ctx)
    mx.nd.waitall()  # pending operations may read the parameters that are overwritten
    for name in plan.loads:
        _assign(parameters[name], values.pop(name), devices)
    if plan.fresh:
        _initialize_head(net, plan, devices)
    if plan.adapted:
        message = "%s: converted the stem's filters from %d channels to %d."
        channels = file.shapes[plan.keys[STEM][0]][1], net.spec.in_channels
        logger.warning(message, net.model_name, *channels)
    if preprocessing is not None:
        preprocessing = preprocessing.for_channels(net.spec.in_channels)
    net.preprocessing = preprocessing
    loaded, fresh = tuple(plan.loads), tuple(plan.fresh)
    adapted, ignored = tuple(plan.adapted), tuple(plan.ignored)
    about = os.fspath(path), file.format, scheme.name
    return LoadReport(*about, loaded, fresh, adapted, ignored, preprocessing)


def find_preprocessing(net: Network, path: str | os.PathLike[str]) -> Preprocessing | None:
    """Return the preprocessing that a weights file expects, without loading it; None if unknown.

    Raises as :func:`load_weights` for a file that is missing or unreadable, and a ValueError if its
    naming scheme is unknown.
    """
    parameters = net._collect_params_with_prefix()
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    with open_weights(path) as file:
        scheme = find_naming_scheme([*shapes, *net.absent], shapes, file, net.model_name)
        return _preprocessing(file, Plan(shapes, net.spec, file, scheme, net.absent))


def _preprocessing(file: WeightsFile, plan: Plan) -> Preprocessing | None:
    """Return the preprocessing that is known of a file."""
    text = file.metadata.get("preprocessing")
    if text is None:
        if WRITTEN_BY_US in file.metadata:  # save_weights would have recorded it
            return None
        published = find_published(file.path)
        return published.preprocessing if published else plan.preprocessing()
    try:
        return Preprocessing.from_json(text)
    except ValueError as error:
        raise ValueError(f"{file.path}: {error} Remove it from the header.") from None


def fit_channels(filters: np.ndarray, channels: int) -> np.ndarray:
    """Convert (out_channels, in_channels, H, W) to other input channels; see `load_weights`.

    Examples
    --------
    >>> filters = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    >>> fit_channels(filters, 1).ravel(), fit_channels(filters, 4).ravel()
    (array([6.]), array([0.75, 1.5 , 2.25, 0.75]))
    """
    old = filters.shape[1]
    if channels == 1:
        return filters.sum(axis=1, keepdims=True)
    return filters[:, np.arange(channels) % old] * (old / channels)


def _read(plan: Plan, name: str, dtype: np.dtype) -> mx.nd.NDArray:
    """Read a parameter's value into a new array on the CPU."""
    if dtype.kind != "f":
        raise ValueError(f"{plan.file.path}: {name} is {dtype}; cast the network to float32 first")
    keys, shape = plan.loads[name], plan.shapes[name]
    array = mx.nd.empty(shape, mx.cpu(), dtype)
    memory = _memory(array, shape, dtype)
    if len(keys) == 1 and plan.file.shapes[keys[0]] == shape:
        plan.file.read_into(keys[0], memory)
    else:
        value = np.concatenate([plan.file[key] for key in keys])
        adapted = name in plan.adapted
        memory[...] = fit_channels(value, shape[1]) if adapted else value.reshape(shape)
    return array


def _memory(array: mx.nd.NDArray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """View the memory of an array on the CPU; the array must outlive the view.

    A copy by MXNet takes several times as long, because its engine switches threads for each array.
    """
    pointer = ctypes.c_void_p()
    # This also converts a convolution's weight from oneDNN's blocked layout.
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    size = math.prod(shape) * dtype.itemsize
    buffer = (ctypes.c_char * size).from_address(pointer.value or 0)
    return np.ndarray(shape, dtype, memoryview(buffer))


def _devices(net: Network, ctx: Any) -> list[mx.Context]:
    if ctx is None:
        weight = net.features[0][0].weight
        ctx = weight.list_ctx() if weight._data is not None else mx.context.current_context()
    return [ctx] if isinstance(ctx, mx.Context) else list(ctx)


class _InPlace:
    """An array that Gluon takes over, instead of a copy, for the CPU."""

    def __init__(self, array: mx.nd.NDArray) -> None:
        self._array = array

    def copyto(self, ctx: mx.Context) -> mx.nd.NDArray:
        return self._array if ctx == mx.cpu() else self._array.copyto(ctx)


def _assign(parameter: gluon.Parameter, value: mx.nd.NDArray, devices: list[mx.Context]) -> None:
    """Overwrite an initialized parameter; initialize another one and its gradient."""
    if parameter._data is None:
        parameter._deferred_init = ()
        parameter._init_impl(_InPlace(value), devices)
        return
    shape, dtype = parameter.shape, np.dtype(parameter.dtype)
    for array in parameter.list_data():
        if array.context.device_type == "cpu":
            _memory(array, shape, dtype)[...] = _memory(value, shape, dtype)
        else:
            value.copyto(array)


def _initialize_head(net: Network, plan: Plan, devices: list[mx.Context]) -> None:
    """Initialize an output that the file does not fit, unless it is initialized already."""
    initialized = net.output.weight._data is not None
    if not initialized:
        net.output.initialize(HeFanOut(), ctx=devices)
    stored = plan.file.shapes[plan.keys[HEAD + "bias"][0]][0]
    outcome = "keeps its values" if initialized else "is initialized"
    message = "%s: %s has %d classes; the output for %d %s."
    logger.warning(message, net.model_name, plan.file.path, stored, net.spec.classes, outcome)
