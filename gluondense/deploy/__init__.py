# SPDX-License-Identifier: Apache-2.0
"""Deployment: export of networks, quantization, archives for servers, and prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .artifact import load_exported
    from .artifact_files import ExportedFiles, OnnxFiles
    from .detection import Detection
    from .exporter import export
    from .metadata import ExportMetadata
    from .onnx.block import OnnxBlock
    from .prediction import Prediction, predict
    from .quantization.calibration import Calibration
    from .serving.archive import archive
    from .serving.unpack import unpack
else:
    __getattr__, __dir__ = attach(__name__)

__all__ = [
    "Calibration",
    "Detection",
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
