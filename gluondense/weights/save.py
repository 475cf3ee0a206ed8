"""A network's weights under the names of any layout."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mxnet as mx
import numpy as np
from safetensors.numpy import save_file

from ..models import Network
from .naming.scheme import Layout
from .naming.schemes import LAYOUTS, get_layout
from .naming.torch import TORCH_LAYOUTS

SUFFIXES = (".params", ".safetensors")


def save_weights(net: Network, path: str | os.PathLike[str], layout: str | None = None) -> Layout:
    """Write a network's weights as others name them.

    Parameters
    ----------
    net
        An initialized network.
    path
        ``….params`` for MXNet, ``….safetensors`` for PyTorch; written beside and renamed.
    layout
        A key of ``gluondense.weights.LAYOUTS``; by default Gluon's own for ``.params``, and
        torchvision's or timm's for ``.safetensors``.

    Returns
    -------
    Layout
        What it was written as.

    Raises
    ------
    ValueError
        If the file's suffix is another one, or the layout lacks names for some parameters.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile, gluondense
    >>> net = gluondense.get_model("densenet121", classes=10)
    >>> net.initialize()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(net, f"{folder}/net.safetensors").name
    'torchvision'
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} must end in {' or '.join(SUFFIXES)}.")
    row = get_layout(layout) if layout else _default(net, path.suffix)
    arrays = as_layout(net, row)
    with _beside(path) as file:
        if path.suffix == ".safetensors":
            save_file(arrays, file, metadata=_metadata(net, row))
        else:
            mx.nd.save(str(file), {name: _nd(array) for name, array in arrays.items()})
    return row


def as_layout(net: Network, layout: Layout) -> dict[str, np.ndarray]:
    """A network's values by their names in a layout.

    Raises
    ------
    ValueError
        If the layout lacks names for some parameters, or the network is not initialized.
    """
    parameters = net._collect_params_with_prefix()
    names = layout.names(parameters)
    for name, parameter in parameters.items():
        if name not in names:
            raise ValueError(
                f"the layout {layout.name!r} has no name for {name} of {net.model_name}: it is for "
                f"files of {layout.writer}."
            )
        if parameter._data is None:
            raise ValueError(f"{name} has no values: call net.initialize() or load weights first.")
    arrays: dict[str, np.ndarray] = {}
    for name, theirs in names.items():
        array = parameters[name]._reduce().asnumpy()
        if layout.conv_output and name == "output.weight":
            array = array[:, :, None, None]
        parts = np.split(array, [_residual_width(net, name)]) if len(theirs) > 1 else [array]
        arrays.update(zip(theirs, map(np.ascontiguousarray, parts)))
    return arrays


def _residual_width(net: Network, name: str) -> int:
    """Where the filters of both paths of a dual-path block part."""
    stage = re.match(r"features\.stage(\d+)\.", name)
    width = getattr(net.spec, "residual_width", 0)
    return width * 2 ** (int(stage[1]) - 1) if stage else 0


def _default(net: Network, suffix: str) -> Layout:
    if suffix == ".params":
        return LAYOUTS["gluondense"]
    parameters = net._collect_params_with_prefix()
    for row in TORCH_LAYOUTS:
        if row.model in (None, net.model_name) and len(row.names(parameters)) == len(parameters):
            return row
    raise ValueError(
        f"PyTorch has no {net.model_name} with these fields: write {SUFFIXES[0]}, or choose one of "
        f"the layouts {', '.join(LAYOUTS)}."
    )


def _metadata(net: Network, layout: Layout) -> dict[str, str]:
    about = {"format": "pt", "model": net.model_name, "layout": layout.name}
    if net.preprocessing is not None:
        about["preprocessing"] = net.preprocessing.to_json()
    return about


def _nd(array: np.ndarray) -> mx.nd.NDArray:
    return mx.nd.array(array, dtype=array.dtype)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a file beside, which takes the path's place if all goes well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)  # mkstemp's are private
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
