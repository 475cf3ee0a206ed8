# SPDX-License-Identifier: Apache-2.0
"""Recipes for people's own images."""

from __future__ import annotations

from ..config import TrainConfig
from .imagenet import AUGMENT

_BASE = TrainConfig.of("densenet121", dataset="folder", augment=AUGMENT, batch_size=32)

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
}
