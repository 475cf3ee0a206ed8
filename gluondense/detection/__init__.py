# SPDX-License-Identifier: Apache-2.0
"""Detectors: YOLOv3 with CSPNet's Exact Fusion Model on the networks of the zoo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .blocks import SPP, Maxout, SpaceToDepth, SpatialAttention
    from .loss import YOLOLoss
    from .necks import NECKS
    from .registry import build_detector, get_detector_spec, list_detectors
    from .spec import DetectorSpec
    from .yolo import YOLOv3
else:
    __getattr__, __dir__ = attach(__name__)

__all__ = [
    "NECKS",
    "SPP",
    "DetectorSpec",
    "Maxout",
    "SpaceToDepth",
    "SpatialAttention",
    "YOLOLoss",
    "YOLOv3",
    "build_detector",
    "get_detector_spec",
    "list_detectors",
]
