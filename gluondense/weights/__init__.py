"""Weights: files, layouts, and the networks that have published ones."""

from .catalog import WEIGHTS, Weights, fetch_weights, find_weights
from .files import WeightsFile, open_weights
from .layout import Layout, Preprocessing
from .layouts import LAYOUTS
from .load import LoadReport, load_weights
from .save import save_weights
from .zoo import get_model, model_functions, register_with_gluoncv

__all__ = [
    "LAYOUTS",
    "WEIGHTS",
    "Layout",
    "LoadReport",
    "Preprocessing",
    "Weights",
    "WeightsFile",
    "fetch_weights",
    "find_weights",
    "get_model",
    "load_weights",
    "model_functions",
    "open_weights",
    "register_with_gluoncv",
    "save_weights",
]
