"""Deployment: networks as files that MXNet reads without gluondense, and pictures through them."""

from .archive import archive
from .calibrate import Calibration
from .export import export
from .exported import ExportMetadata, load_exported
from .files import ExportedFiles, OnnxFiles
from .onnx_block import OnnxBlock
from .predict import Prediction, predict
from .unpack import unpack

__all__ = [
    "Calibration",
    "ExportMetadata",
    "ExportedFiles",
    "OnnxBlock",
    "OnnxFiles",
    "Prediction",
    "archive",
    "export",
    "load_exported",
    "predict",
    "unpack",
]
