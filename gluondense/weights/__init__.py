"""Weights: files, layouts, and the networks that have published ones."""

from .layout import Layout, Preprocessing
from .layouts import LAYOUTS
from .zoo import get_model, model_functions, register_with_gluoncv

__all__ = [
    "LAYOUTS",
    "Layout",
    "Preprocessing",
    "get_model",
    "model_functions",
    "register_with_gluoncv",
]
