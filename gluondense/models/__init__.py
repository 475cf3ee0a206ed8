"""The networks, one file a family; each family is a Spec, a trunk and a table of rows."""

from .network import FeatureInfo, Network
from .registry import SPECS, build_model, get_spec, list_models
from .spec import NetworkSpec

__all__ = [
    "SPECS",
    "FeatureInfo",
    "Network",
    "NetworkSpec",
    "build_model",
    "get_spec",
    "list_models",
]
