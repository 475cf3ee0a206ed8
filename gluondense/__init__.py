# SPDX-License-Identifier: Apache-2.0
"""The DenseNet family for Apache MXNet: DenseNet, CSPNets and DPN as Gluon networks.

The import sets up the process for MXNet but does not import it; public names are loaded on first
use.

>>> import gluondense
>>> net = gluondense.get_model("csp_densenet121", classes=10)
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from .environment.process import prepare

prepare()  # before anything imports MXNet: its library reads the number of threads once

from .lazy import attach, lazy_names
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .analysis.costs import summary as summary
    from .deploy.artifact import load_exported as load_exported
    from .deploy.exporter import export as export
    from .models.registry import get_spec as get_spec
    from .models.registry import list_models as list_models
    from .training.loop import fit as fit
    from .weights.load import load_weights as load_weights
    from .zoo import get_model as get_model
    from .zoo import register_with_gluoncv as register_with_gluoncv
else:
    _find, _ = attach(__name__)

    def __getattr__(name: str) -> Any:
        if name == "__all__":
            return ["__version__", *lazy_names(__name__), *_model_functions()]
        try:
            return _find(name)
        except AttributeError:
            if name.startswith("_") or name not in _model_functions():
                raise
            return _model_functions()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})

    @cache
    def _model_functions() -> dict[str, Any]:
        """``densenet121(**fields)`` and its like: one function for each row of the tables."""
        from .zoo import model_functions

        return model_functions()
