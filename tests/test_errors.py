# SPDX-License-Identifier: Apache-2.0
"""Messages of wrong arguments stay short, whatever was given."""

from __future__ import annotations

import pytest

from gluondense.errors import check_choice, check_known, check_range

LONG = "a" * 5000


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: check_range("eps", LONG, 0),
        lambda: check_choice("stem", LONG, ("cifar", "half")),
        lambda: check_known("model", LONG, ("densenet121",)),
    ],
)
def test_a_long_value_is_cut(wrong):
    with pytest.raises(ValueError, match=r"'aaa.*\.\.\.") as caught:
        wrong()
    assert len(str(caught.value)) < 300
