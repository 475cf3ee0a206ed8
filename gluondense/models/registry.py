# SPDX-License-Identifier: Apache-2.0
"""The table of all networks, and the functions that look up and build them by name."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import Any

from ..blocks.norm import NormKwargs, NormLayer, norm_scope
from ..errors import check_known, closest
from ..graph.recompute import find_policy
from . import csp_densenet, csp_resnet, darknet, densenet, dpn, peleenet, rdnet
from .feature_maps import OutIndices
from .network import Network
from .spec import NetworkSpec

NETWORKS: dict[type, type[Network]] = {
    densenet.DenseNetSpec: densenet.DenseNet,
    csp_densenet.CSPDenseNetSpec: csp_densenet.CSPDenseNet,
    dpn.DPNSpec: dpn.DPN,
    csp_resnet.CSPResNetSpec: csp_resnet.CSPResNet,
    rdnet.RDNetSpec: rdnet.RDNet,
    darknet.DarknetSpec: darknet.Darknet,
    peleenet.PeleeNetSpec: peleenet.PeleeNet,
}

SPECS: dict[str, NetworkSpec] = {
    name: spec
    for family in (densenet, csp_densenet, dpn, csp_resnet, darknet, peleenet, rdnet)
    for name, spec in family.SPECS.items()
}


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of all networks that match a pattern, sorted.

    Parameters
    ----------
    pattern
        Shell pattern: ``*`` matches anything, ``?`` one character.

    Examples
    --------
    >>> list_models("dpn*8*")
    ['dpn48b', 'dpn68', 'dpn68b', 'dpn98', 'dpn98_listing']
    """
    return sorted(fnmatch.filter(SPECS, pattern))


def get_spec(name: str, **fields: Any) -> NetworkSpec:
    """Return the frozen row that describes a network, with the given fields replaced.

    Parameters
    ----------
    name
        One of :func:`list_models`, in any case.
    **fields
        Fields of the spec to replace.

    Raises
    ------
    ValueError
        If the network or a field is unknown, or a value is outside its range.

    Examples
    --------
    >>> get_spec("csp_densenet121", classes=10).fusion
    'last'
    """
    key = name.lower() if isinstance(name, str) else name
    check_known("model", key, SPECS, f"gluondense.list_models() has all {len(SPECS)} names")
    spec = SPECS[key]
    known = [field.name for field in dataclasses.fields(spec)]
    for field in fields:
        if field not in known:
            raise ValueError(
                f"{key} has no field {field!r}{closest(field, known)} (fields: {', '.join(known)})."
            )
    return dataclasses.replace(spec, **fields)


def build_model(
    name: str,
    *,
    features_only: bool = False,
    prefix: str | None = None,
    memory_efficient: bool | str = False,
    out_indices: OutIndices = None,
    norm_layer: NormLayer | None = None,
    norm_kwargs: NormKwargs = None,
    **fields: Any,
) -> Network:
    """Build a network by name, hybridized into a static graph, with uninitialized parameters.

    :func:`gluondense.get_model` calls this and loads weights.

    Parameters
    ----------
    name
        One of :func:`list_models`, in any case.
    features_only
        True returns feature maps instead of logits.
    out_indices
        Feature maps that ``features_only`` returns, see :class:`Network`; by default one after each
        stage.
    prefix
        Prefix of parameter names in exported symbols; the model's name by default.
    memory_efficient
        True lets :class:`gluondense.training.TrainStep` recompute concatenations, normalizations
        and bottlenecks in backward instead of storing them. A key of
        ``gluondense.graph.recompute.POLICIES`` chooses how much.
    norm_layer, norm_kwargs
        Normalization layer and its arguments, see :func:`gluondense.blocks.norm.norm_scope`.
    **fields
        Fields of the spec to replace.

    Raises
    ------
    ValueError
        If the network, a field, a feature map or the checkpointing policy is unknown, or a value is
        outside its range.

    Examples
    --------
    >>> build_model("dpn92", features_only=True).feature_info[1]
    FeatureInfo(name='stage2', channels=704, stride=8)
    """
    spec = get_spec(name, **fields)
    find_policy(memory_efficient)
    key = name.lower()
    prefix = f"{key}_" if prefix is None else prefix
    arguments = key, features_only, prefix, memory_efficient, out_indices
    with norm_scope(norm_layer, norm_kwargs):
        net = NETWORKS[type(spec)](spec, *arguments)
    net.hybridize(static_alloc=True, static_shape=True)
    return net
