# SPDX-License-Identifier: Apache-2.0
"""Recipes for CIFAR and SVHN, from section 4.2 of the DenseNet paper (Huang et al. 2017).

SGD with Nesterov momentum 0.9, weight decay 1e-4, batch size 64, and a learning rate of 0.1 that is
divided by 10 after 50 % and 75 % of 300 epochs (SVHN: 40). Recipes ending in ``+`` augment by
mirroring and shifting; the others use dropout of 0.2 after each convolution but the first. SVHN's
pixels are only scaled to [0, 1].

fast: not the paper's; CIFAR-10 in few epochs on a CPU, see docs/results/cifar10.md.
"""

from __future__ import annotations

from ..config import TrainConfig

_PAPER = (
    TrainConfig.of("densenet40_k12_cifar10", dataset="cifar10", augment=("flip", "crop"))
    .with_fields(optimizer="nag", lr=0.1, momentum=0.9, wd=1e-4, batch_size=64, drop_last=False)
    .with_fields(epochs=300, schedule="step", lr_steps=(0.5, 0.75))
)
_C10 = _PAPER.with_fields(recipe="c10", augment=(), model_args={"dropout": 0.2})
_CIFAR100 = {"model": "densenet40_k12_cifar100", "dataset": "cifar100"}
_SVHN = {"model": "densenet40_k12_svhn", "dataset": "svhn", "epochs": 40, "normalize": False}
# Few epochs need a larger weight decay than 300; half of them on images of 24 pixels.
_FAST = {"model": "densenet40_k12_bc_cifar10", "epochs": 20, "wd": 5e-4, "no_decay_bn": True}
_COSINE = {"schedule": "cosine", "warmup_epochs": 1, "train_sizes": (24, 32)}

CIFAR_RECIPES: dict[str, TrainConfig] = {
    "c10": _C10,
    "c10+": _PAPER.with_fields(recipe="c10+"),
    "fast": _PAPER.with_fields(recipe="fast", **_FAST, **_COSINE),
    "c100": _C10.with_fields(recipe="c100", **_CIFAR100),
    "c100+": _PAPER.with_fields(recipe="c100+", **_CIFAR100),
    "svhn": _C10.with_fields(recipe="svhn", **_SVHN),
}
