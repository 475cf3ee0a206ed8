"""A small detector with random weights and statistics."""

from __future__ import annotations

from typing import Any

import mxnet as mx

from gluondense.detection import build_detector
from support.reference import randomize

BACKBONE = {
    "growth_rate": 8,
    "num_init_features": 16,
    "block_config": (1, 1, 1, 1),
    "bn_sizes": (1, 1, 1, 1),
}
SMALL = {"backbone_args": BACKBONE, "width": 0.125}
CLASSES = ("plate", "red", "white")


def detector(fusion: str = "efm", seed: int = 0, **fields: Any) -> Any:
    """Return a detector of three classes whose predictions differ from pixel to pixel."""
    name = f"yolo3_{fusion}_csp_peleenet_custom"
    net = randomize(build_detector(name, classes=CLASSES, **{**SMALL, **fields}), seed)
    for output in net.yolo_outputs:
        weight = output.prediction.weight
        weight.set_data(mx.nd.random.normal(0, 0.3, weight.shape))
    return net
