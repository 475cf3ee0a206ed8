# SPDX-License-Identifier: Apache-2.0
"""Recipes for images with boxes: from scratch, and from the weights of ``--pretrained``.

finetune: two epochs of the neck and the predictions alone, then of all layers, whose rate falls by
a factor from each stage of the backbone to the one before it.
demo: a small network and small images, to see that everything works.
"""

from __future__ import annotations

from ..config import TrainConfig

AUGMENT = ("mosaic", "expand", "crop", "flip", "color_jitter")

_BASE = (
    TrainConfig.of("yolo3_efm_csp_peleenet_custom", dataset="detection", task="detection")
    .with_fields(batch_size=8, resize=320, augment=AUGMENT, mix_off_epochs=15)
    .with_fields(optimizer="nag", lr=0.005, momentum=0.9, wd=5e-4, no_decay_bn=True)
    .with_fields(schedule="cosine", warmup_epochs=3, clip=35.0, ema=0.998)
)

DETECTION_RECIPES: dict[str, TrainConfig] = {
    "scratch": _BASE.with_fields(recipe="scratch", epochs=150),
    "finetune": _BASE.with_fields(
        recipe="finetune",
        pretrained="default",
        epochs=100,
        head_epochs=2,
        layer_decay=0.8,
    ),
    "demo": _BASE.with_fields(
        recipe="demo",
        resize=160,
        augment=("flip", "color_jitter"),
        model_args={"width": 0.25, "backbone_args": {"growth_rate": 16}},
        epochs=10,
        warmup_epochs=1,
        ema=0.98,
    ),
}
