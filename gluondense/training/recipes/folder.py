# SPDX-License-Identifier: Apache-2.0
"""Recipes for people's own images: from scratch, and from the weights of ``--pretrained``.

finetune: two epochs of the output alone, then of all layers, whose rate falls by a factor from each
stage to the one before it; ends early if the validation result gets no better.
linear-probe: the output alone, on features that are computed once.
"""

from __future__ import annotations

from ..config import TrainConfig
from .imagenet import AUGMENT

_BASE = TrainConfig.of("densenet121", dataset="folder", augment=AUGMENT, batch_size=32)

# Few images make few steps of large batches.
_ADAMW = {"optimizer": "adamw", "momentum": 0.9, "no_decay_bn": True, "batch_size": 16}

FOLDER_RECIPES: dict[str, TrainConfig] = {
    # Small batches and few images need a small rate and many epochs.
    "scratch": _BASE.with_fields(
        recipe="scratch",
        epochs=60,
        lr=0.05,
        wd=1e-4,
        warmup_epochs=1,
        no_decay_bn=True,
        label_smoothing=0.1,
        log_interval=50,
    ),
    "finetune": _BASE.with_fields(
        recipe="finetune",
        pretrained="default",
        augment=("random_resized_crop", "flip"),
        **_ADAMW,
        lr=1e-3,
        wd=0.05,
        layer_decay=0.7,
        head_epochs=2,
        epochs=20,
        warmup_epochs=1,
        patience=6,
        clip=1.0,
        label_smoothing=0.1,
        class_weights="balanced",
    ),
    "linear-probe": _BASE.with_fields(
        recipe="linear-probe",
        pretrained="default",
        augment=(),
        cache_features=True,
        **_ADAMW,
        lr=3e-3,
        wd=0.05,
        epochs=50,
        class_weights="balanced",
    ),
}
