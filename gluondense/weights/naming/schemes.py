"""All layouts that are read and written, by name."""

from __future__ import annotations

from ...errors import closest
from .mxnet import MXNET_LAYOUTS
from .scheme import Layout
from .torch import TORCH_LAYOUTS

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in MXNET_LAYOUTS + TORCH_LAYOUTS}


def get_layout(name: str) -> Layout:
    """Look up a layout.

    Raises
    ------
    ValueError
        If there is no such layout.

    Examples
    --------
    >>> get_layout("torchvision").writer
    'torchvision, timm, seed 000'
    """
    if name not in LAYOUTS:
        raise ValueError(
            f"unknown layout {name!r}{closest(name, LAYOUTS)} (known: {', '.join(LAYOUTS)})."
        )
    return LAYOUTS[name]
