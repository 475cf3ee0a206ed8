# SPDX-License-Identifier: Apache-2.0
"""The learning rate as a function of the step, composed of GluonCV's schedulers."""

from __future__ import annotations

from typing import Any, Callable

from ..environment.process import import_gluoncv
from .configuration.sections import ScheduleConfig


def make_schedule(
    config: ScheduleConfig, lr: float, steps_per_epoch: int
) -> Callable[[int], float]:
    """Return the learning rate as a function of the step, which counts from 0.

    The warm-up is linear from ``warmup_lr``, or from ``lr`` divided by its number of steps, to
    ``lr``; ``"cosine"`` and ``"poly"`` (a parabola) end at 0.

    Examples
    --------
    >>> rate = make_schedule(ScheduleConfig(epochs=2), 0.4, steps_per_epoch=10)
    >>> rate(0), rate(19)
    (0.4, 0.0)
    """
    scheduler = import_gluoncv().utils.lr_scheduler
    total = config.epochs * steps_per_epoch
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total)
    phases = []
    if warmup:
        first = lr / warmup if config.warmup_lr is None else config.warmup_lr
        phases.append(_phase(scheduler, "linear", first, lr, warmup))
    if total > warmup:
        # GluonCV counts the steps of a phase from its start; the fractions refer to the whole run.
        drops = [round(fraction * total) - warmup for fraction in config.lr_steps]
        options = {"step_iter": drops, "step_factor": config.lr_decay}
        phases.append(_phase(scheduler, config.name, lr, 0.0, total - warmup, **options))
    return scheduler.LRSequential(phases)


def _phase(
    scheduler: Any, mode: str, start: float, end: float, steps: int, **options: object
) -> Any:
    if steps == 1 and mode in ("linear", "cosine", "poly"):
        # GluonCV divides by steps - 1. One step of warm-up is its end, one of a cosine its start.
        mode, start = "constant", end if mode == "linear" else start
    return scheduler.LRScheduler(mode, base_lr=start, target_lr=end, niters=steps, **options)
