# SPDX-License-Identifier: Apache-2.0
"""Recipes for images with boxes: from scratch, and from the weights of ``--pretrained``.

finetune: two epochs of the neck and the predictions alone, then of all layers, whose rate falls by
a factor from each stage of the backbone to the one before it.
demo: a small network and small images, to see that everything works.
"""

from __future__ import annotations

from ..config import TrainConfig

AUGMENT = ("flip", "crop", "expand", "mosaic", "color_jitter")

# Few images make few steps, in which AdamW learns more than SGD: docs/notes/detection.md.
_BASE = (
    TrainConfig.of("yolo3_efm_csp_peleenet_custom", dataset="detection", task="detection")
    .with_fields(model_args={"width": 0.5}, resize=416, augment=AUGMENT, batch_size=8)
    .with_fields(optimizer="adamw", lr=0.002, momentum=0.9, wd=0.05, no_decay_bn=True, clip=5.0)
    .with_fields(match=0.3, schedule="cosine", warmup_epochs=3, ema=0.998, mix_off_epochs=15)
)

DETECTION_RECIPES: dict[str, TrainConfig] = {
    "scratch": _BASE.with_fields(recipe="scratch", epochs=150),
    "finetune": _BASE.with_fields(
        recipe="finetune",
        pretrained="default",
        epochs=100,
        lr=0.001,
        head_epochs=2,
        layer_decay=0.8,
    ),
    "demo": _BASE.with_fields(
        recipe="demo",
        model_args={"width": 0.25, "backbone_args": {"growth_rate": 16}},
        resize=160,
        augment=("flip", "color_jitter"),
        epochs=10,
        warmup_epochs=1,
        ema=0.95,
        mix_off_epochs=0,
    ),
}
