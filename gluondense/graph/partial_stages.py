# SPDX-License-Identifier: Apache-2.0
"""Cross-stage partial stages in a training graph: the split before the dense layers, and their end.

The stage's input is sliced into two parts. The first bypasses the dense layers, and is concatenated
with their output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from .dense_layers import POOL, Layer, Unit, Uses
from .ir import Node

DETOUR = ("expand_dims", "squeeze")  # of ``blocks.concat``


@dataclasses.dataclass(eq=False)
class Bypass:
    """The part of a stage's input that the dense layers do not read.

    ``part`` is the slice that they read, and ``end`` the concatenation or the pooling after it.
    """

    part: Node
    end: Node

    @property
    def source(self) -> tuple[Node, int]:
        """The stage's input."""
        return self.part.inputs[0]

    @property
    def channels(self) -> int:
        """How many channels, the first of the input, bypass the layers."""
        return int(self.part.attrs["begin"])


def find_bypass(
    first: Layer, tail: Unit | None, end: Node, uses: Uses, readers: Mapping[int, list[Node]]
) -> Bypass | None:
    """Match the split before the first layer of a stage, and the concatenation after its end."""
    part = first.units[0].source[0]
    if not part.is_like("slice_axis", axis="1", end="None") or end.op == "Pooling":
        return None
    concat = _only_reader(end, uses, readers)
    if uses[id(part)] != first.source_uses or concat is None or len(concat.inputs) != 2:
        return None
    bypass = concat.source()
    split = {"axis": "1", "begin": "0", "end": part.attrs["begin"]}
    if not concat.is_like("Concat", dim="1") or not bypass.is_like("slice_axis", **split):
        return None
    if uses[id(bypass)] > 1 or bypass.inputs != part.inputs or int(part.attrs["begin"]) < 1:
        return None
    expand = _only_reader(concat, uses, readers)
    squeeze = _only_reader(expand, uses, readers) if expand else None
    is_detour = expand and squeeze and (expand.op, squeeze.op) == DETOUR
    last = squeeze if squeeze and is_detour else concat
    pool = _only_reader(last, uses, readers)
    pooled = pool and tail and tail.conv and pool.is_like("Pooling", **POOL)
    return Bypass(part, pool if pool and pooled else last)


def _only_reader(node: Node, uses: Uses, readers: Mapping[int, list[Node]]) -> Node | None:
    return readers[id(node)][0] if uses[id(node)] == 1 and readers[id(node)] else None
