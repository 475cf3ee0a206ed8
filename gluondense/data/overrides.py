# SPDX-License-Identifier: Apache-2.0
"""Overrides of single fields of a preprocessing, which may be unknown."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..errors import check
from .preprocessing import Preprocessing


def adjust(known: Preprocessing | None, **fields: Any) -> Preprocessing | None:
    """Return a preprocessing with some fields changed; the result is None if it remains unknown.

    Parameters
    ----------
    known
        A preprocessing, or None if it is unknown. ``mean``, ``std`` and ``input_size`` make it
        known; both sides are then resized, unless ``resize`` or ``crop_ratio`` is given too.
    **fields
        Fields of :class:`Preprocessing`. None leaves a field as it is.

    Raises
    ------
    ValueError
        If one of ``mean``, ``std`` and ``input_size`` is missing, or a field is outside its range.

    Examples
    --------
    >>> from gluondense.data.preprocessing import IMAGENET
    >>> adjust(IMAGENET, input_size=96, mean=None).input_size
    96
    >>> adjust(None, mean=(0.5,), std=(0.25,), input_size=28).resize
    'exact'
    """
    given = {name: value for name, value in fields.items() if value is not None}
    if "crop_ratio" in given:
        given.setdefault("resize", "shorter")
    if given.get("resize", "exact") != "exact":
        given.setdefault("source_size", None)
    if known is not None:
        return dataclasses.replace(known, **given)
    if "mean" not in given and "std" not in given:
        return None
    for name in ("mean", "std", "input_size"):
        rule = "given too, as the preprocessing is unknown"
        check(name, given.get(name), rule, name in given)
    return Preprocessing(**{"resize": "exact", **given})
