# SPDX-License-Identifier: Apache-2.0
"""MXNet's non-maximum suppression of boxes in operators of opset 13."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...graph.ir import Node
from .attributes import require
from .shapes import END, slice_to

if TYPE_CHECKING:
    from .operators import Writer

LOWEST = float(np.finfo("float32").min)


def box_nms(to: Writer, node: Node, rows: str) -> str:
    """Write ``_contrib_box_nms`` of rows (N, B, W): kept rows first, by score, -1 behind them.

    MXNet sorts the boxes of an image by score, takes the ``topk`` best, and suppresses among them.
    NonMaxSuppression gives a list of the boxes that stay, of any length, so that they are marked in
    an array (N, k) and sorted again. Boxes of equal scores keep their order in both.
    """
    require(node, in_format="corner", out_format="corner", background_id="-1")
    return _BoxNms(to, node).write(rows)


class _BoxNms:
    def __init__(self, to: Writer, node: Node) -> None:
        self.to, self.node = to, node

    def write(self, rows: str) -> str:
        count = self._count(rows)
        column = self._column(rows, self.node.value("score_index", 1), "score")
        scores = self._add("Squeeze", "scores", column, self._integers("last", -1))
        scores, order = self._sorted(scores, count, "top")
        rows = self._gathered(rows, order, "top_rows")
        kept = self._kept(rows, scores, count)
        # In the order of the scores, those that are suppressed behind all others.
        lowest = self._floats("lowest", LOWEST)
        scores, order = self._sorted(self._where(kept, scores, lowest, "left"), count, "kept")
        rows = self._gathered(rows, order, "kept_rows")
        stays = self._add("Greater", "stays", scores, lowest)
        stays = self._add("Unsqueeze", "stays_rows", stays, self._integers("row", 2))
        none, is_whole = self._floats("none", -1), self.node.value("topk", -1) < 0
        boxes = self._where(stays, rows, none, "" if is_whole else "boxes")
        return boxes if is_whole else self._padded(boxes, none, count)

    def _count(self, rows: str) -> str:
        """Return the number of boxes among which others are suppressed."""
        shape = self._add("Shape", "shape", rows)
        self.total = slice_to(self.to, f"{self.node.name}_total", shape, 1, 2)
        topk = self.node.value("topk", -1)
        if topk < 0:
            return self.total
        return self._add("Min", "count", self.total, self._integers("topk", topk))

    def _kept(self, rows: str, scores: str, count: str) -> str:
        """Return which boxes stay, (N, k)."""
        start = self.node.value("coord_start", 2)
        boxes = slice_to(self.to, f"{self.node.name}_corners", rows, start, start + 4, axis=2)
        limits = (
            self._floats("overlap", self.node.value("overlap_thresh", 0.5)),
            self._floats("valid", self.node.value("valid_thresh", 0.0)),
        )
        by_class = self._scores_by_class(rows, scores)
        chosen = self._add("NonMaxSuppression", "chosen", boxes, by_class, count, *limits)
        # Triples of image, class and box.
        places = self._add("Gather", "places", chosen, self._integers("place", 0, 2), axis=1)
        length = slice_to(
            self.to, f"{self.node.name}_length", self._add("Shape", "all", places), 0, 1
        )
        ones = self._filled("ones", length, 1)
        zeros = self._filled("zeros", self._add("Shape", "like", scores), 0)
        marked = self._add("ScatterND", "marked", zeros, places, ones)
        return self._add("Greater", "kept_mask", marked, self._floats("zero", 0))

    def _scores_by_class(self, rows: str, scores: str) -> str:
        """Return the scores (N, classes, k); in other classes than its own a box has none."""
        scores = self._add("Unsqueeze", "one_class", scores, self._integers("class_axis", 1))
        index = self.node.value("id_index", -1)
        if index < 0 or self.node.flag("force_suppress"):
            return scores
        ids = self._column(rows, index, "id")
        ids = self._add("Transpose", "ids", ids, perm=(0, 2, 1))
        end = self._add("ReduceMax", "largest", ids, keepdims=0)
        end = self._add("Add", "classes", end, self._floats("plus", 1))
        # One class at least, where all boxes are of none.
        end = self._add("Max", "some_classes", end, self._floats("some", 1))
        classes = self._add(
            "Range", "range", self._floats("first", 0), end, self._floats("step", 1)
        )
        classes = self._add("Unsqueeze", "range_rows", classes, self._integers("range_axis", 1))
        return self._where(
            self._add("Equal", "same", ids, classes),
            scores,
            self._floats("no", LOWEST),
            "scores_of",
        )

    def _padded(self, boxes: str, none: str, count: str) -> str:
        """Append rows of -1 up to the number of boxes before."""
        missing = self._add("Sub", "missing", self.total, count)
        parts = (self._integers("before", 0, 0, 0, 0), missing, self._integers("after", 0))
        pads = self.to.add("Concat", f"{self.node.name}_pads", *parts, axis=0)
        return self._add("Pad", "", boxes, pads, none)

    def _sorted(self, scores: str, count: str, part: str) -> list[str]:
        """Return the ``count`` largest scores in descending order and their indices."""
        return self.to.add_many("TopK", f"{self.node.name}_{part}", 2, scores, count, axis=1)

    def _gathered(self, rows: str, order: str, part: str) -> str:
        last = self._integers(f"{part}_axis", 2)
        places = self._add("Unsqueeze", f"{part}_places", order, last)
        return self._add("GatherND", part, rows, places, batch_dims=1)

    def _column(self, rows: str, index: int, part: str) -> str:
        end = END if index == -1 else index + 1
        return slice_to(self.to, f"{self.node.name}_{part}", rows, index, end, axis=2)

    def _filled(self, part: str, shape: str, value: float) -> str:
        from onnx import numpy_helper

        filling = numpy_helper.from_array(np.array([value], "float32"))
        return self._add("ConstantOfShape", part, shape, value=filling)

    def _where(self, condition: str, yes: str, no: str, part: str) -> str:
        return self._add("Where", part, condition, yes, no)

    def _add(self, op: str, part: str, *inputs: str, **attributes: object) -> str:
        name = f"{self.node.name}_{part}" if part else self.node.name
        return self.to.add(op, name, *inputs, **attributes)

    def _integers(self, part: str, *values: int) -> str:
        return self.to.integers(f"{self.node.name}_{part}", *values)

    def _floats(self, part: str, value: float) -> str:
        return self.to.constant(f"{self.node.name}_{part}", np.float32(value))
