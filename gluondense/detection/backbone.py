# SPDX-License-Identifier: Apache-2.0
"""Networks of the zoo as backbones of detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ..errors import check
from ..models.network import Network
from ..models.registry import build_model


def build_backbone(
    name: str, strides: Sequence[int], arguments: Mapping[str, Any], **options: Any
) -> Network:
    """Return a network that returns its last feature map of each of the given strides.

    Parameters
    ----------
    name
        A name of :func:`gluondense.list_models`.
    strides
        The strides, finest first.
    arguments
        Fields of its spec to replace.
    **options
        Further arguments of :func:`gluondense.models.build_model`.

    Raises
    ------
    ValueError
        If the network has no map of a stride.

    Examples
    --------
    >>> [info.name for info in build_backbone("densenet121", (8, 32), {}).feature_info]
    ['stage2', 'stage4']
    """
    build = partial(build_model, name, features_only=True, **arguments, **options)
    indices = {info.stride: index for index, info in enumerate(build().feature_info, start=1)}
    has = f"{name}, which has maps at strides {', '.join(map(str, indices))}"
    rule = f"a network with maps at strides {', '.join(map(str, strides))}"
    check("backbone", has, rule, all(stride in indices for stride in strides))
    return build(out_indices=tuple(indices[stride] for stride in strides))
