# SPDX-License-Identifier: Apache-2.0
"""Recipes for images with boxes: from scratch, and from the weights of ``--pretrained``.

finetune: two epochs of the neck and the predictions alone, then of all layers, whose rate falls by
a factor from each stage of the backbone to the one before it.
demo: small images and few epochs, to see that everything works.
"""

from __future__ import annotations

from ..config import TrainConfig

_SMALL = {"width": 0.25, "backbone_args": {"growth_rate": 16}}  # 2.2 M parameters

# Few images make few steps, in which AdamW and more than one anchor for a box learn more:
# docs/notes/detection.md.
_BASE = (
    TrainConfig.of("yolo3_efm_csp_peleenet_custom", dataset="detection", task="detection")
    .with_fields(resize=416, augment=("flip", "crop", "color_jitter"), batch_size=8)
    .with_fields(optimizer="adamw", lr=0.002, momentum=0.9, wd=0.05, no_decay_bn=True, clip=5.0)
    .with_fields(match=0.3, schedule="cosine", warmup_epochs=3, ema=0.998, mix_off_epochs=15)
)

DETECTION_RECIPES: dict[str, TrainConfig] = {
    "scratch": _BASE.with_fields(recipe="scratch", model_args=_SMALL, epochs=110),
    "finetune": _BASE.with_fields(
        recipe="finetune",
        model_args={"width": 0.5},
        pretrained="default",
        epochs=100,
        lr=0.001,
        head_epochs=2,
        layer_decay=0.8,
    ),
    "demo": _BASE.with_fields(
        recipe="demo",
        model_args=_SMALL,
        resize=160,
        augment=("flip", "color_jitter"),
        epochs=10,
        warmup_epochs=1,
        ema=0.95,
        mix_off_epochs=0,
    ),
}
