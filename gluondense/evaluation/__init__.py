# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a run, an export or published weights on the test images of a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .detection import DetectionEvaluation
    from .evaluate import evaluate_model, open_test_data
    from .model import EvaluatedModel, open_model
    from .results import Evaluation, LabelEvaluation
else:
    __getattr__, __dir__ = attach(__name__)

__all__ = [
    "DetectionEvaluation",
    "EvaluatedModel",
    "Evaluation",
    "LabelEvaluation",
    "evaluate_model",
    "open_model",
    "open_test_data",
]
