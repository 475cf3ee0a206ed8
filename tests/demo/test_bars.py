from __future__ import annotations

import re

import numpy as np
import pytest

from gluondense.demo.bars import bars, maps, note, problem

EVIL = "<i>&"


def test_there_is_a_bar_for_each_label_as_long_as_its_probability():
    html = bars(["cat", "dog"], [0.75, 0.25])
    assert re.findall(r"width:([\d.]+)%", html) == ["75.00", "25.00"]
    assert re.findall(r'class="label">(\w+)<', html) == ["cat", "dog"]
    assert "threshold" not in html


def test_a_value_below_its_threshold_has_a_grey_bar():
    low, high = bars(["a"], [0.3], [0.4]), bars(["a"], [0.4], [0.4])
    assert 'class="track below"' in low
    assert "below" not in high
    assert 'style="left:40.00%" title="threshold 40.0%"' in low


@pytest.mark.parametrize(
    "html",
    [bars([EVIL], [1.0]), note(EVIL), problem(EVIL), maps({EVIL: np.zeros((2, 2, 3), np.uint8)})],
)
def test_text_is_escaped(html):
    assert EVIL not in html
    assert "&lt;i&gt;&amp;" in html
