# SPDX-License-Identifier: Apache-2.0
"""The table of naming schemes."""

from __future__ import annotations

from ...errors import check_known
from .mxnet import MXNET_SCHEMES
from .scheme import NamingScheme
from .torch import TORCH_SCHEMES

NAMING_SCHEMES: dict[str, NamingScheme] = {
    scheme.name: scheme for scheme in MXNET_SCHEMES + TORCH_SCHEMES
}


def get_naming_scheme(name: str) -> NamingScheme:
    """Return a naming scheme; raise a ValueError that suggests names if it is unknown."""
    check_known("naming scheme", name, NAMING_SCHEMES)
    return NAMING_SCHEMES[name]
