# SPDX-License-Identifier: Apache-2.0
"""Quantization error of a network's outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class QuantizationMetrics:
    """Difference between the outputs of a quantized network and the float network.

    Parameters
    ----------
    error
        L2 norm of the difference relative to that of the float outputs; the largest of all outputs.
    agreement
        Share of images whose predicted class is unchanged; for multi-label networks, share of
        predictions, present or absent, that are unchanged. None if there are no classes.
    """

    error: float
    agreement: float | None

    @classmethod
    def compare(
        cls,
        outputs: Sequence[np.ndarray],
        expected: Sequence[np.ndarray],
        thresholds: Sequence[float] | None = None,
    ) -> QuantizationMetrics:
        """Compare the outputs of a quantized network with those of the float network.

        ``thresholds`` are the outputs from which on each of several labels is present.

        Examples
        --------
        >>> QuantizationMetrics.compare(
        ...     [np.array([[3.0, 4.0], [1.0, 0.0]])], [np.array([[4.0, 3.0], [1.0, 0.0]])]
        ... )
        QuantizationMetrics(error=0.2773500981126146, agreement=0.5)
        """
        error = max(
            float(np.linalg.norm(got - wanted)) / max(float(np.linalg.norm(wanted)), 1e-30)
            for got, wanted in zip(outputs, expected)
        )
        if thresholds is not None:
            same = (outputs[0] >= thresholds) == (expected[0] >= thresholds)
            return cls(error, float(same.mean()))
        if len(expected) > 1 or expected[0].ndim != 2 or expected[0].shape[1] == 1:
            return cls(error, None)
        same = outputs[0].argmax(axis=1) == expected[0].argmax(axis=1)
        return cls(error, float(same.mean()))

    def __str__(self) -> str:
        text = f"outputs are off by {self.error:.2%}"
        if self.agreement is None:
            return text
        return f"{text}, and {self.agreement:.1%} of the predictions are unchanged"

    def within(self, max_changed: float) -> bool:
        """Return whether at most this share of the predictions changed.

        Without classes, return whether the error is at most 0.25.
        """
        return self.error <= 0.25 if self.agreement is None else self.agreement >= 1 - max_changed
