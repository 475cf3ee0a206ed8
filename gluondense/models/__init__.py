"""The networks, one file a family; each family is a Spec, a trunk and a table of rows."""

from .network import FeatureInfo, Network
from .registry import (
    SPECS,
    get_model,
    get_spec,
    list_models,
    model_functions,
    register_with_gluoncv,
)
from .spec import NetworkSpec

__all__ = [
    "SPECS",
    "FeatureInfo",
    "Network",
    "NetworkSpec",
    "get_model",
    "get_spec",
    "list_models",
    "model_functions",
    "register_with_gluoncv",
]
