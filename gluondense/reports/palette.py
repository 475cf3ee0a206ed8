# SPDX-License-Identifier: Apache-2.0
"""The colors of reports and of boxes drawn on images."""

from __future__ import annotations

INK, FAINT, GRID = "#1d2433", "#667085", "#e7eaf0"
LOSS, TRAIN, TEST, RATE = "#12a594", "#f08c00", "#e0317b", "#5b6ee1"

# Of classes, repeated if there are more: Okabe and Ito's, which color-blind readers can tell apart.
CLASSES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")


def class_color(label: int) -> str:
    """Return the color of a class index.

    Examples
    --------
    >>> class_color(0) == class_color(len(CLASSES))
    True
    """
    return CLASSES[label % len(CLASSES)]
