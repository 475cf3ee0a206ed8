# SPDX-License-Identifier: Apache-2.0
"""Naming schemes that a user gives as a dict or a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Optional, Union

from ...errors import in_one_line
from .scheme import MODULE, TORCH, NamingScheme, check_rules
from .schemes import get_naming_scheme

Names = Union[str, tuple[str, ...]]
Naming = Union[str, NamingScheme, Mapping[str, Names], Callable[[str], Optional[Names]]]

_CUSTOM = "custom"


def as_naming_scheme(naming: Naming, keys: Iterable[str]) -> NamingScheme:
    """Return the naming scheme for an argument ``naming``.

    Parameters
    ----------
    naming
        A key of ``NAMING_SCHEMES``, a scheme, or what maps our modules to those of the file: a dict
        of patterns and targets as in :class:`NamingScheme`, or a function, which returns None for a
        module that the file lacks. Two targets for one module are concatenated.
    keys
        The names of the file. They tell how it names the parts of a batch normalization: as Gluon,
        PyTorch or MXNet's Module.

    Raises
    ------
    ValueError
        If the name is unknown, or the argument is none of these.

    Examples
    --------
    >>> scheme = as_naming_scheme({"features.stage{i}": "block{i-1}"}, ["block0.running_var"])
    >>> scheme.names(["features.stage2.gamma"])
    {'features.stage2.gamma': ('block1.weight',)}
    """
    if isinstance(naming, NamingScheme):
        return naming
    if isinstance(naming, str):
        return get_naming_scheme(naming)
    rules: Any
    if isinstance(naming, Mapping):
        rules = tuple(naming.items())
        for pattern, target in rules:
            parts = target if isinstance(target, tuple) else (target,)
            if not (isinstance(pattern, str) and all(isinstance(part, str) for part in parts)):
                raise ValueError(
                    f"`naming` maps {in_one_line(repr(pattern))} to {in_one_line(repr(target))}, "
                    "but must map names to names."
                )
        check_rules(rules)
    elif callable(naming):
        rules = (("{path}", lambda path: naming(path)),)
    else:
        raise ValueError(
            f"naming (={in_one_line(repr(naming))}) must be a key of "
            "gluondense.weights.NAMING_SCHEMES, a NamingScheme, or a dict or function that maps "
            "our modules to the file's."
        )
    suffixes = _suffixes(keys)
    return NamingScheme(_CUSTOM, "you", rules, suffixes, eps=None, preprocessing=None)


def _suffixes(keys: Iterable[str]) -> Mapping[str, str]:
    ends = {key.rpartition(".")[2] for key in keys}
    if "gamma" in ends:
        return MODULE if "moving_mean" in ends else {}
    return TORCH
