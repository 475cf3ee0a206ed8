# SPDX-License-Identifier: Apache-2.0
"""The necks of the detectors, drawn from their tables."""

from __future__ import annotations

from gluondense.detection.necks import NECKS, Gather
from gluondense.detection.spec import STRIDES

from .svg import arrow, box, figure, text

WIDTH, TOP, ROW, HEIGHT, BOX = 300, 60, 58, 30, 46
MAP, LATERAL, FUSED, HEAD = 37, 111, 191, 263  # centers of the columns
TITLES = {"fpn": "FPN (YOLOv3)", "gfm": "GFM: global fusion", "efm": "EFM: exact fusion"}
KINDS = {"blue": "upsample", "orange": "space to depth"}
ENDS = {"orange": -9, "": 0, "blue": 9}  # so that the tips do not cover each other


def draw_neck(name: str) -> str:
    """Return which feature maps a neck fuses."""
    neck = NECKS[name]
    gathers = issubclass(neck, Gather)
    strides = _lateral(neck) if gathers else STRIDES
    y = {stride: TOP + ROW * index for index, stride in enumerate(strides)}
    parts = [text(WIDTH / 2, 20, TITLES[name], "title")]
    parts += [_box(MAP, y[stride], f"C{stride}") for stride in neck.strides]
    for stride in STRIDES:
        parts += [_box(FUSED, y[stride], f"F{stride}"), _box(HEAD, y[stride], "head")]
        parts.append(_between(FUSED, y[stride], HEAD, y[stride]))
    parts += _gather(neck, y) if gathers else _pyramid(y)
    bottom = TOP + ROW * len(y)
    for x, (kind, meaning) in zip((20, 150), KINDS.items()):
        parts += [arrow(f"M{x} {bottom}h26", kind), text(x + 33, bottom + 5, meaning, "start")]
    label = f"{TITLES[name]}: which feature maps C are fused to F at strides 8, 16 and 32"
    return figure(WIDTH, bottom + 16, label, parts)


def _pyramid(y: dict[int, int]) -> list[str]:
    parts = [_between(MAP, y[stride], FUSED, y[stride]) for stride in STRIDES]
    for coarse, fine in zip(STRIDES[1:], STRIDES):
        begin, end = y[coarse] - HEIGHT // 2, y[fine] + HEIGHT // 2
        middle = (begin + end) // 2
        curve = f"M{HEAD} {begin}C{HEAD} {middle} {FUSED} {middle} {FUSED} {end}"
        parts.append(arrow(curve, "blue"))
    return parts


def _gather(neck: type[Gather], y: dict[int, int]) -> list[str]:
    parts = []
    for stride in _lateral(neck):
        parts.append(_box(LATERAL, y[stride], f"L{stride}"))
        parts.append(_between(MAP, y[min(stride, STRIDES[-1])], LATERAL, y[stride]))
    for target, sources in neck.sources.items():
        for source in sources:
            kind = "" if source == target else "orange" if source < target else "blue"
            parts.append(_between(LATERAL, y[source], FUSED, y[target] + ENDS[kind], kind))
    return parts


def _lateral(neck: type[Gather]) -> list[int]:
    return sorted({each for sources in neck.sources.values() for each in sources})


def _box(x: int, y: int, content: str) -> str:
    return box(x, y, BOX, HEIGHT, content)


def _between(x1: int, y1: int, x2: int, y2: int, kind: str = "") -> str:
    """Return an arrow from the right of a box to the left of another."""
    return arrow(f"M{x1 + BOX // 2} {y1}L{x2 - BOX // 2} {y2}", kind)
