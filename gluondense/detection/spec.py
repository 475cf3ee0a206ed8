# SPDX-License-Identifier: Apache-2.0
"""The fields that describe a detector."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import check, check_choice, check_count, check_flag, check_range, is_count, is_number
from ..models.registry import get_spec

FUSIONS = ("fpn", "gfm", "efm")
ATTENTION = (None, "sam")
STRIDES = (8, 16, 32)  # of the three scales, finest first
ANCHORS_PER_SCALE = 3
# YOLOv3's anchors for COCO at 416 (Redmon and Farhadi, section 2.3), finest scale first.
COCO_ANCHORS = (
    *((10, 13), (16, 30), (33, 23)),
    *((30, 61), (62, 45), (59, 119)),
    *((116, 90), (156, 198), (373, 326)),
)

Pairs = tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class DetectorSpec:
    """The fields of a YOLOv3 detector.

    Specs are hashable and can be rebuilt from their JSON.

    Parameters
    ----------
    backbone
        A name of :func:`gluondense.list_models`, of a network with maps at strides 8, 16 and 32.
    backbone_args
        Fields of the backbone's spec that differ, as a dict or as its sorted pairs.
    classes
        Number of classes.
    in_channels
        Channels of the image.
    fusion
        ``"fpn"``: YOLOv3's neck; ``"gfm"``: global fusion, all scales at each scale; ``"efm"``: the
        Exact Fusion Model, the next finer and the next coarser map. A key of ``NECKS``.
    attention
        ``"sam"`` for a :class:`SpatialAttention` in each head, or None.
    spp
        Whether :class:`SPP` follows the last map of the backbone.
    width
        Factor of the neck's widths, which are 128, 256 and 512 at strides 8, 16 and 32.
    head_depth
        Number of pairs of 1x1 and 3x3 convolutions in each head, at least 2. YOLOv3 has 3.
    anchors
        Nine (width, height) in pixels of the input: three for each scale, finest scale first.
    input_size
        Side of the images that the anchors are meant for, divisible by 32.
    nms_threshold
        IoU in (0, 1) above which the less probable of two boxes of a class is dropped.
    nms_topk
        Number of boxes that enter the non-maximum suppression, whose time grows with its square.
    post_nms
        Number of returned boxes.
    score_threshold
        Boxes below this score are dropped.

    Raises
    ------
    ValueError
        If a field is outside its range, or the backbone or one of its fields is unknown.

    Examples
    --------
    >>> spec = DetectorSpec("csp_peleenet", classes=3, backbone_args={"growth_rate": 16})
    >>> spec.backbone_args, spec.fusion
    ((('growth_rate', 16),), 'efm')
    """

    backbone: str = "csp_peleenet"
    backbone_args: Any = ()
    classes: int = 20
    in_channels: int = 3
    fusion: str = "efm"
    attention: str | None = "sam"
    spp: bool = False
    width: float = 1.0
    head_depth: int = 2
    anchors: Pairs = COCO_ANCHORS
    input_size: int = 416
    nms_threshold: float = 0.45
    nms_topk: int = 400
    post_nms: int = 100
    score_threshold: float = 0.01

    def __post_init__(self) -> None:
        """Check the fields; convert dicts, and lists, which JSON has, to tuples."""
        object.__setattr__(self, "backbone_args", _pairs(self.backbone_args))
        object.__setattr__(self, "anchors", _tuples(self.anchors))
        for name in ("classes", "in_channels", "nms_topk", "post_nms"):
            check_count(name, getattr(self, name))
        get_spec(self.backbone, **dict(self.backbone_args))
        for name in ("classes", "in_channels"):
            rule = f"without {name}, which the detector has"
            check("backbone_args", self.backbone_args, rule, name not in dict(self.backbone_args))
        check_choice("fusion", self.fusion, FUSIONS)
        check_choice("attention", self.attention, ATTENTION)
        check_flag("spp", self.spp)
        check_range("width", self.width, 0, 8, closed="right")
        check_count("head_depth", self.head_depth, least=2)
        holds = len(self.anchors) == ANCHORS_PER_SCALE * len(STRIDES)
        check("anchors", self.anchors, "nine (width, height) > 0", holds and _are_sizes(self))
        holds = is_count(self.input_size) and self.input_size % STRIDES[-1] == 0
        check("input_size", self.input_size, f"a positive multiple of {STRIDES[-1]}", holds)
        check_range("nms_threshold", self.nms_threshold, 0, 1, closed="neither")
        check_range("score_threshold", self.score_threshold, 0, 1, closed="left")

    @property
    def is_stochastic(self) -> bool:
        """Whether training draws random numbers in the network."""
        return get_spec(self.backbone, **dict(self.backbone_args)).is_stochastic

    @property
    def stem(self) -> str:
        """The stem of the backbone."""
        return get_spec(self.backbone, **dict(self.backbone_args)).stem

    @property
    def layout(self) -> str:
        """The memory layout of the feature maps: always that of the parameters."""
        return "NCHW"

    @property
    def scales(self) -> tuple[tuple[int, Pairs], ...]:
        """Stride and anchors of each scale, coarsest first, the order of predictions."""
        groups = [
            self.anchors[index : index + ANCHORS_PER_SCALE]
            for index in range(0, len(self.anchors), ANCHORS_PER_SCALE)
        ]
        return tuple(zip(STRIDES, groups))[::-1]

    def function_fields(self) -> dict[str, Any]:
        """Return the fields that determine what the network computes: all of them."""
        return dataclasses.asdict(self)


def _pairs(arguments: Any) -> tuple[tuple[str, Any], ...]:
    """Return a mapping, or the pairs of one, as sorted pairs."""
    try:
        pairs = dict(arguments.items() if isinstance(arguments, Mapping) else arguments)
    except (TypeError, ValueError):
        pairs = {0: None}
    check("backbone_args", arguments, "a dict of fields", all(isinstance(k, str) for k in pairs))
    return tuple(sorted((name, _tuples(value)) for name, value in pairs.items()))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _are_sizes(spec: DetectorSpec) -> bool:
    return all(
        isinstance(pair, tuple) and len(pair) == 2 and all(is_number(v) and v > 0 for v in pair)
        for pair in spec.anchors
    )
