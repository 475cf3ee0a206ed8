# SPDX-License-Identifier: Apache-2.0
"""The check that weights are finite numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

logger = logging.getLogger(__name__)

_SHOWN = 3


def check_finite(
    subject: str, arrays: Iterable[tuple[str, np.ndarray]], allow_nan: bool = False
) -> None:
    """Raise a ValueError that names and counts the arrays with NaN or infinite values.

    Parameters
    ----------
    subject
        What has the arrays, for the message.
    arrays
        Names and values; values that are not floating-point numbers pass.
    allow_nan
        True logs a warning instead.

    Examples
    --------
    >>> check_finite("net.pth", [("bias", np.array([0, np.nan, np.inf]))])
    Traceback (most recent call last):
    ValueError: net.pth has 2 values that are nan or infinite, in 1 of 1 arrays: bias (2 of 3). \
They make outputs nan; `allow_nan` accepts them.
    """
    bad, count = [], 0
    for name, array in arrays:
        count += 1
        # A sum is faster than a test of each value; it can also overflow, which the test decides.
        if array.dtype.kind == "f" and not _all_finite(array):
            missing = array.size - int(np.isfinite(array).sum())
            bad.append((name, missing, array.size))
    if not bad:
        return
    shown = ", ".join(f"{name} ({missing} of {size})" for name, missing, size in bad[:_SHOWN])
    more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    total = sum(missing for _, missing, _ in bad)
    values = "1 value that is" if total == 1 else f"{total:,} values that are"
    message = f"{subject} has {values} nan or infinite, in {len(bad)} of {count} arrays: "
    message += shown + more
    if not allow_nan:
        raise ValueError(f"{message}. They make outputs nan; `allow_nan` accepts them.")
    logger.warning("%s", message)


def _all_finite(array: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())
