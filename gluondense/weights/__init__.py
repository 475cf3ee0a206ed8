"""Weights: files, layouts, and the networks that have published ones."""

from .zoo import get_model, model_functions, register_with_gluoncv

__all__ = ["get_model", "model_functions", "register_with_gluoncv"]
