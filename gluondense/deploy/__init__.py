"""Deployment: networks as files that MXNet reads without gluondense, and pictures through them."""

from .calibrate import Calibration
from .export import export
from .exported import ExportedFiles, ExportMetadata, load_exported
from .predict import Prediction, predict

__all__ = [
    "Calibration",
    "ExportMetadata",
    "ExportedFiles",
    "Prediction",
    "export",
    "load_exported",
    "predict",
]
