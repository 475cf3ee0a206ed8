# SPDX-License-Identifier: Apache-2.0
"""Explanations of predictions: class activation maps, feature reuse and gradient flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .class_activation import ClassActivation, cam
    from .colors import overlay
    from .flow import GradientFlow, gradient_flow
    from .grid import Grid
    from .images import ImageExplanation, explain_images
    from .reuse import FeatureReuse, feature_reuse
else:
    __getattr__, __dir__ = attach(__name__)

__all__ = [
    "ClassActivation",
    "FeatureReuse",
    "GradientFlow",
    "Grid",
    "ImageExplanation",
    "cam",
    "explain_images",
    "feature_reuse",
    "gradient_flow",
    "overlay",
]
