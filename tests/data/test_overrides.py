# SPDX-License-Identifier: Apache-2.0
"""Overrides of single fields of a preprocessing."""

from __future__ import annotations

import pytest

from gluondense.data.overrides import adjust
from gluondense.data.preprocessing import Preprocessing


def test_adjusting_the_unknown_needs_mean_and_std():
    assert adjust(None, input_size=32) is None
    with pytest.raises(ValueError, match=r"std \(=None\) must be given too"):
        adjust(None, mean=(0.5,), input_size=32)
    assert adjust(None, mean=(0.5,), std=(0.2,), input_size=32).resize == "exact"
    assert adjust(None, mean=(0.5,), std=(0.2,), input_size=32, crop_ratio=0.9).resize == "shorter"
    exact = Preprocessing((0.5,), (0.2,), input_size=16, resize="exact", source_size=(8, 8))
    assert adjust(exact, crop_ratio=0.9).source_size is None
    assert adjust(exact, resize="letterbox").source_size is None
    assert adjust(exact, input_size=24).source_size == (8, 8)
