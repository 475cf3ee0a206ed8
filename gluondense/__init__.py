"""The DenseNet family for Apache MXNet: DenseNet, CSPNets and DPN as Gluon networks.

>>> import gluondense
>>> net = gluondense.get_model("csp_densenet121", classes=10)
"""

from __future__ import annotations

from . import environment

environment.prepare()  # before anything imports MXNet: its threads are fixed when its library loads

from .analysis.costs import summary
from .deploy import export, load_exported
from .models import get_spec, list_models
from .training import fit
from .version import __version__
from .weights import load_weights
from .zoo import get_model, model_functions, register_with_gluoncv

__all__ = [
    "__version__",
    "export",
    "fit",
    "get_model",
    "get_spec",
    "list_models",
    "load_exported",
    "load_weights",
    "register_with_gluoncv",
    "summary",
    *model_functions(),
]

# densenet121(**fields) and its like: one function for each row of the tables.
globals().update(model_functions())
