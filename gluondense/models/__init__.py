# SPDX-License-Identifier: Apache-2.0
"""The networks, one file a family; each family is a Spec, a trunk and a table of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .feature_maps import FeatureInfo
    from .network import Network
    from .registry import SPECS, build_model, get_spec, list_models
    from .spec import NetworkSpec
else:
    __getattr__, __dir__ = attach(__name__)

__all__ = [
    "SPECS",
    "FeatureInfo",
    "Network",
    "NetworkSpec",
    "build_model",
    "get_spec",
    "list_models",
]
