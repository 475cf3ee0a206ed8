"""Constants that Python's lowering and the C++ kernels share."""

from __future__ import annotations

import re

import pytest

from gluondense.native.build import SOURCES
from gluondense.native.program import lower_int8, mixed_precision, operators, packing

SHARED = {
    "kPanelWidth": packing.PANEL_WIDTH,
    "kGroupedWidth": packing.DEPTHWISE_WIDTH,
    "kMaxTaps": operators.MAX_TAPS,
    "kMaxAveragedBytes": mixed_precision.MAX_AVERAGED,
    "kOverreadBytes": lower_int8.VECTOR,
}


@pytest.mark.parametrize("name", SHARED)
def test_constants_are_those_of_the_kernels(name):
    header = (SOURCES / "kernels" / "inference_kernels.h").read_text()
    assert re.findall(rf"\b{name} = (\d+)", header) == [str(SHARED[name])]


def test_lanes_are_in_the_order_of_the_kernels():
    source = (SOURCES / "kernels" / "per_isa" / "conv_u8.cc").read_text()
    (formula,) = re.findall(r"panel_channel\(int vector, int lane\) \{ return (.*?); \}", source)
    python = formula.replace("/", "//")
    order = [eval(python, {"vector": v, "lane": i}) for v in range(2) for i in range(16)]
    assert list(packing.PANEL_CHANNELS) == order


def test_object_files_have_different_names():
    stems = [file.stem for file in SOURCES.rglob("*.cc")] + ["lib_api"]
    assert len(stems) == len(set(stems))
