# SPDX-License-Identifier: Apache-2.0
"""Save a network's weights in any naming scheme."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from ..blocks.reorders import wait_for_reorders
from ..files import replacing, save_arrays
from ..models.network import Network
from .formats.open import open_weights
from .naming.scheme import NamingScheme
from .naming.schemes import NAMING_SCHEMES, get_naming_scheme
from .naming.torch import TORCH_SCHEMES

SUFFIXES = (".params", ".safetensors")


def save_weights(
    net: Network, path: str | os.PathLike[str], naming: str | None = None
) -> NamingScheme:
    """Save a network's weights under the names that another library uses.

    Parameters
    ----------
    net
        An initialized network.
    path
        ``….params`` for MXNet, ``….safetensors`` for PyTorch; replaced atomically.
    naming
        A key of ``gluondense.weights.NAMING_SCHEMES``; default: Gluon's names for ``.params``, and
        torchvision's or timm's for ``.safetensors``.

    Returns
    -------
    NamingScheme
        The scheme that was used.

    Raises
    ------
    ValueError
        If the suffix is unknown, or the scheme lacks names for some parameters.
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
    scheme = get_naming_scheme(naming) if naming else _default(net, path.suffix)
    arrays = named_arrays(net, scheme)
    with replacing(path) as file:
        if path.suffix == ".safetensors":
            try:
                save_file(arrays, file, metadata=_metadata(net, scheme))
                _sort_metadata(file)
            except SafetensorError as error:
                reason = str(error).rpartition("I/O error: ")[2]
                raise OSError(f"cannot write {path} ({reason})") from None
        else:
            copies = {name: mx.nd.array(a, dtype=a.dtype) for name, a in arrays.items()}
            save_arrays(file, copies)
    return scheme


def _metadata(net: Network, scheme: NamingScheme) -> dict[str, str]:
    """Return the header of a safetensors file, whose values are strings."""
    spec = json.dumps(dataclasses.asdict(net.spec))
    metadata = {"format": "pt", "model": net.model_name, "layout": scheme.name, "spec": spec}
    if net.preprocessing is not None:
        metadata["preprocessing"] = net.preprocessing.to_json()
    if net.classes is not None:
        metadata["classes"] = json.dumps(list(map(str, net.classes)), ensure_ascii=False)
    return metadata


def _sort_metadata(path: Path) -> None:
    """Sort the metadata in a file's header, so that equal networks give equal files.

    safetensors writes them in the random order of a hash table.
    """
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        file.seek(8)
        file.write(text.ljust(size))


@dataclasses.dataclass(frozen=True)
class FileDescription:
    """The network of a weights file: its name, its spec's fields and its class names, if known."""

    model: str
    fields: dict[str, Any]
    class_names: tuple[str, ...] | None


def describe_file(path: str | os.PathLike[str]) -> FileDescription | None:
    """Return what :func:`save_weights` wrote about the network in a file; None if it did not."""
    with open_weights(path) as file:
        metadata = file.metadata
    if not {"model", "layout", "spec"} <= metadata.keys():
        return None
    try:
        spec = json.loads(metadata["spec"])
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}
        names = json.loads(metadata.get("classes", "null"))
        return FileDescription(metadata["model"], fields, names and tuple(map(str, names)))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{os.fspath(path)}: the spec in its header is damaged: {error}") from None


def named_arrays(net: Network, scheme: NamingScheme) -> dict[str, np.ndarray]:
    """Return a network's values by their names in a naming scheme."""
    parameters = net._collect_params_with_prefix()
    names = scheme.names(parameters)
    for name, parameter in parameters.items():
        if name not in names:
            raise ValueError(
                f"the naming scheme {scheme.name!r} has no name for {name} of {net.model_name}; "
                f"it is for files of {scheme.writer}."
            )
        if parameter._data is None:
            raise ValueError(f"{name} has no values: call net.initialize() or load weights first.")
    arrays: dict[str, np.ndarray] = {}
    wait_for_reorders()
    for name, theirs in names.items():
        array = parameters[name]._reduce().asnumpy()
        if scheme.conv_output and name == "output.weight":
            array = array[:, :, None, None]
        parts = np.split(array, [_residual_width(net, name)]) if len(theirs) > 1 else [array]
        arrays.update(zip(theirs, map(np.ascontiguousarray, parts)))
    return arrays


def _residual_width(net: Network, name: str) -> int:
    """Return the number of residual channels, where a dual-path block's filters are split."""
    stage = re.match(r"features\.stage(\d+)\.", name)
    width = getattr(net.spec, "residual_width", 0)
    return width * 2 ** (int(stage[1]) - 1) if stage else 0


def _default(net: Network, suffix: str) -> NamingScheme:
    if suffix == ".params":
        return NAMING_SCHEMES["gluondense"]
    parameters = net._collect_params_with_prefix()
    for scheme in TORCH_SCHEMES:
        fits_model = not scheme.models or net.model_name in scheme.models
        if fits_model and len(scheme.names(parameters)) == len(parameters):
            return scheme
    raise ValueError(
        f"no PyTorch library has {net.model_name} with these fields: write {SUFFIXES[0]}, or "
        f"choose a naming scheme: {', '.join(NAMING_SCHEMES)}."
    )
