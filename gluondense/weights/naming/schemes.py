"""The table of naming schemes."""

from __future__ import annotations

from ...errors import closest
from .mxnet import MXNET_SCHEMES
from .scheme import NamingScheme
from .torch import TORCH_SCHEMES

NAMING_SCHEMES: dict[str, NamingScheme] = {
    scheme.name: scheme for scheme in MXNET_SCHEMES + TORCH_SCHEMES
}


def get_naming_scheme(name: str) -> NamingScheme:
    """Return a naming scheme.

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> get_naming_scheme("torchvision").writer
    'torchvision, timm, seed 000'
    """
    if name not in NAMING_SCHEMES:
        known = ", ".join(NAMING_SCHEMES)
        raise ValueError(
            f"unknown naming scheme {name!r}{closest(name, NAMING_SCHEMES)} (known: {known})."
        )
    return NAMING_SCHEMES[name]
