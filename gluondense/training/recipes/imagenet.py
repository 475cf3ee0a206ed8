# SPDX-License-Identifier: Apache-2.0
"""Recipes for ImageNet; docs/imagenet.md has their commands.

Learning rates belong to the batch size of the same recipe; ``gluondense train imagenet`` scales
them linearly for other batch sizes (Goyal et al. 2017).

References
----------
densenet: Huang et al., "Densely Connected Convolutional Networks", section 4.2.
cspnet: Wang et al., "CSPNet", section 4.1, with the ImageNet settings of Redmon's darknet: 800,000
steps of batch size 128, polynomial decay of power 4. Deviations: GluonCV's schedule, used here, has
power 2, and the steps are given as epochs.
dpn: Chen et al., "Dual Path Networks", section 4.1: ResNeXt's settings, batch size 32 to 64 on each
of 32 to 64 GPUs, learning rate √0.1, divided by 10 when the accuracy stagnates. Deviation: the
rate drops after 30, 60 and 90 of 100 epochs, as in ResNeXt.
modern: the additions of GluonCV's recipes: cosine, warm-up, label smoothing, mixup, no weight decay
of BatchNorm and bias; and a moving average of the weights.
fast: for Imagenette, ten classes of ImageNet, at 128 pixels on a CPU; docs/results/imagenette.md.
"""

from __future__ import annotations

from ..config import TrainConfig

AUGMENT = ("random_resized_crop", "flip", "color_jitter", "lighting")

_PAPER = (
    TrainConfig.of("densenet121", dataset="imagenet", augment=AUGMENT, log_interval=50)
    .with_fields(optimizer="nag", lr=0.1, momentum=0.9, wd=1e-4, batch_size=256)
    .with_fields(epochs=90, schedule="step", lr_steps=(1 / 3, 2 / 3), warmup_lr=0.0)
)
_CSPNET = {"model": "csp_densenet121", "optimizer": "sgd", "wd": 5e-4, "schedule": "poly"}
_DPN = {"model": "dpn92", "lr": 0.1**0.5, "wd": 5e-4, "lr_steps": (0.3, 0.6, 0.9)}
_MODERN = {"schedule": "cosine", "warmup_epochs": 5, "no_decay_bn": True, "ema": 0.9999}
# Few steps: AdamW with a large rate learns more in them than SGD, and milder crops are enough.
_FAST = (
    TrainConfig.of("csp_peleenet", dataset="imagenet", augment=("random_resized_crop", "flip"))
    .with_fields(resize=128, min_area=0.35, batch_size=64, label_smoothing=0.1, log_interval=50)
    .with_fields(optimizer="adamw", lr=0.006, momentum=0.95, beta2=0.99, wd=0.02)
    .with_fields(no_decay_bn=True, epochs=5, schedule="cosine", warmup_epochs=0.3)
)
_MIXED = {"label_smoothing": 0.1, "mixup": 0.2, "mix_off_epochs": 20}

IMAGENET_RECIPES: dict[str, TrainConfig] = {
    "densenet": _PAPER.with_fields(recipe="densenet"),
    "cspnet": _PAPER.with_fields(recipe="cspnet", epochs=80, batch_size=128, **_CSPNET),
    "dpn": _PAPER.with_fields(recipe="dpn", epochs=100, batch_size=2048, **_DPN),
    "modern": _PAPER.with_fields(recipe="modern", epochs=200, **_MODERN, **_MIXED),
    "fast": _FAST.with_fields(recipe="fast"),
}
