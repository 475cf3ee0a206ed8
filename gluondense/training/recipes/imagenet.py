"""The table of recipes for ImageNet; what gluondense itself has trained is in docs/imagenet.md.

Learning rates are those of the batch size beside them; ``scripts/train_imagenet.py`` scales them
with another batch size, linearly (Goyal et al. 2017).

References
----------
densenet: Huang et al., "Densely Connected Convolutional Networks", section 4.2.
cspnet: Wang et al., "CSPNet", section 4.1, whose ImageNet settings are those of Redmon's darknet:
800,000 steps of 128, polynomial decay of power 4; GluonCV's schedule has power 2, which this uses,
and the steps are given as epochs.
dpn: Chen et al., "Dual Path Networks", section 4.1: ResNeXt's settings, a batch of 32 to 64 on each
of 32 to 64 GPUs, learning rate √0.1, divided by 10 when the accuracy stands still; the drops of
ResNeXt (30, 60, 90 of 100 epochs) stand for the authors' eye.
modern: what GluonCV's own recipes add: cosine, warm-up, label smoothing, mixup, no decay of
BatchNorm and bias; and an average of the weights.
"""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig

AUGMENT = ("random_resized_crop", "flip", "color_jitter", "lighting")

_PAPER = TrainConfig(
    model="densenet121",
    dataset="imagenet",
    augment=AUGMENT,
    epochs=90,
    batch_size=256,
    optimizer="nag",
    lr=0.1,
    momentum=0.9,
    wd=1e-4,
    schedule="step",
    lr_steps=(1 / 3, 2 / 3),
    warmup_lr=0.0,
    log_interval=50,
)

IMAGENET_RECIPES: dict[str, TrainConfig] = {
    "densenet": replace(_PAPER, recipe="densenet"),
    "cspnet": replace(
        _PAPER,
        recipe="cspnet",
        model="csp_densenet121",
        epochs=80,
        batch_size=128,
        optimizer="sgd",
        lr=0.1,
        wd=5e-4,
        schedule="poly",
    ),
    "dpn": replace(
        _PAPER,
        recipe="dpn",
        model="dpn92",
        epochs=100,
        batch_size=2048,
        lr=0.1**0.5,
        schedule="step",
        lr_steps=(0.3, 0.6, 0.9),
        wd=5e-4,
    ),
    "modern": replace(
        _PAPER,
        recipe="modern",
        epochs=200,
        batch_size=256,
        lr=0.1,
        schedule="cosine",
        warmup_epochs=5,
        label_smoothing=0.1,
        mixup=0.2,
        mix_off_epochs=20,
        no_decay_bn=True,
        ema=0.9999,
    ),
}
