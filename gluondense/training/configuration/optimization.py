# SPDX-License-Identifier: Apache-2.0
"""The sections of a configuration about the optimizer and the course of a run; imports no NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ...errors import check
from .rules import NUMBERS
from .settings import Section, choice, count, number, setting, switch

OPTIMIZERS = ("sgd", "nag", "adamw")


@dataclass(frozen=True)
class OptimizerConfig(Section):
    """The optimizer and the average of its iterates."""

    name: str = setting(
        "nag",
        "optimizer; nag is SGD with Nesterov momentum, adamw is Adam with decoupled weight decay",
        choice(*OPTIMIZERS),
        name="optimizer",
    )
    lr: float = setting(0.1, "peak learning rate", number(closed="neither"))
    layer_decay: float = setting(
        1.0,
        "factor on the learning rate from each stage to the one before it; the output has the full "
        "rate, the last stage this share of it",
        number(0, 1, "right"),
    )
    momentum: float = setting(0.9, "momentum; beta1 of adamw", number(0, 1))
    beta2: float = setting(0.999, "decay of adamw's mean of squared gradients", number(0, 1))
    wd: float = setting(5e-4, "weight decay", number())
    no_decay_bn: bool = setting(
        False, "exclude gamma, beta and bias from the weight decay", switch(), flags=("--no-wd",)
    )
    clip: float = setting(
        0.0,
        "largest norm of all gradients of a step together; larger ones are scaled down; 0 is off",
        number(),
        flags=("--clip-grad",),
    )
    ema: float = setting(
        0.0,
        "decay per step of the moving average of the weights that is evaluated; 0 is off",
        number(0, 1),
    )


@dataclass(frozen=True)
class ScheduleConfig(Section):
    """The length of the run, and the learning rate along it."""

    name: str = setting(
        "cosine",
        "learning rate after the warm-up",
        choice("constant", "cosine", "poly", "step"),
        name="schedule",
        flags=("--lr-mode",),
    )
    epochs: int = setting(10, "number of epochs", count(), flags=("--num-epochs",))
    max_steps: int = setting(
        0,
        "end the run after this many steps, within an epoch too; the learning rate stays that of "
        "`epochs`; 0 is off",
        count(0),
    )
    patience: int = setting(
        0, "end the run after this many epochs without a better result; 0 is off", count(0)
    )
    head_epochs: int = setting(
        0, "first epochs that train the output only, and then all layers", count(0)
    )
    warmup_epochs: float = setting(0.0, "epochs of linear warm-up, may be a fraction", number())
    warmup_lr: Optional[float] = setting(
        None, "learning rate at the start of the warm-up; by default one step up", number()
    )
    lr_steps: tuple[float, ...] = setting(
        (0.5, 0.75), "fractions of the run at which schedule step lowers the rate", NUMBERS
    )
    lr_decay: float = setting(
        0.1, "factor of the learning rate at each of these", number(0, 1, "neither")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = f"at most `epochs` (={self.epochs})"
        for name in ("warmup_epochs", "head_epochs"):
            check(name, getattr(self, name), rule, getattr(self, name) <= self.epochs)

    def end(self, epoch: float, step: float, best_epoch: float | None) -> str | None:
        """Return the field that ends a run here, ``epochs``, ``max_steps`` or ``patience``.

        Parameters
        ----------
        epoch, step
            Finished epochs and steps.
        best_epoch
            The epoch with the best result; None before the first one.
        """
        if epoch >= self.epochs:
            return "epochs"
        if self.max_steps and step >= self.max_steps:
            return "max_steps"
        waited = 0 if best_epoch is None else epoch - max(best_epoch, self.head_epochs)
        return "patience" if 0 < self.patience <= waited else None
