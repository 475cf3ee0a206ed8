"""The table of recipes for CIFAR and SVHN: those of the DenseNet paper, section 4.2.

SGD with Nesterov's momentum 0.9, weight decay 1e-4, batches of 64, learning rate 0.1 divided by 10
after 50 % and 75 % of 300 epochs, 40 for SVHN. ``+`` is with mirroring and shifting; without it
there is dropout of 0.2 behind each convolution but the first. SVHN's pixels are only scaled to
[0, 1].
"""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig

_PAPER = TrainConfig(
    model="densenet40_k12_cifar10",
    dataset="cifar10",
    augment=("flip", "crop"),
    epochs=300,
    batch_size=64,
    drop_last=False,
    optimizer="nag",
    lr=0.1,
    momentum=0.9,
    wd=1e-4,
    schedule="step",
    lr_steps=(0.5, 0.75),
)
_C10 = replace(_PAPER, recipe="c10", augment=(), model_args={"dropout": 0.2})

CIFAR_RECIPES: dict[str, TrainConfig] = {
    "c10": _C10,
    "c10+": replace(_PAPER, recipe="c10+"),
    "c100": replace(_C10, recipe="c100", model="densenet40_k12_cifar100", dataset="cifar100"),
    "c100+": replace(_PAPER, recipe="c100+", model="densenet40_k12_cifar100", dataset="cifar100"),
    "svhn": replace(
        _C10,
        recipe="svhn",
        model="densenet40_k12_svhn",
        dataset="svhn",
        epochs=40,
        normalize=False,
    ),
}
