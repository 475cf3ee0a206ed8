"""Deployment: networks as files that MXNet reads without gluondense, and pictures through them."""

from .calibrate import Calibration
from .export import export
from .exported import ExportedFiles, ExportMetadata, OnnxFiles, load_exported
from .onnx_block import OnnxBlock
from .predict import Prediction, predict

__all__ = [
    "Calibration",
    "ExportMetadata",
    "ExportedFiles",
    "OnnxBlock",
    "OnnxFiles",
    "Prediction",
    "export",
    "load_exported",
    "predict",
]
