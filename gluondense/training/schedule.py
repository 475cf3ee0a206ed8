"""The learning rate as a function of the step, put together from GluonCV's schedulers."""

from __future__ import annotations

from typing import Any, Callable

from ..environment.process import import_gluoncv
from .config import TrainConfig


def make_schedule(config: TrainConfig, steps_per_epoch: int) -> Callable[[int], float]:
    """Make a function from the step (0 is the first) to its learning rate.

    The warm-up rises linearly from ``warmup_lr``, else ``lr / warm-up steps``, to ``lr``; a cosine
    and a parabola (``"poly"``) end at 0.

    Examples
    --------
    >>> rate = make_schedule(TrainConfig(model="densenet121", lr=0.4, epochs=2), 10)
    >>> rate(0), rate(19)
    (0.4, 0.0)
    """
    # Imported here, as it takes seconds that users of the models needn't pay.
    scheduler = import_gluoncv().utils.lr_scheduler
    total = config.epochs * steps_per_epoch
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total)
    phases = []
    if warmup:
        first = config.lr / warmup if config.warmup_lr is None else config.warmup_lr
        phases.append(_phase(scheduler, "linear", first, config.lr, warmup))
    if total > warmup:
        # GluonCV counts a phase's steps from its own start; the fractions are of the whole run.
        drops = [round(fraction * total) - warmup for fraction in config.lr_steps]
        phases.append(
            _phase(
                scheduler,
                config.schedule,
                config.lr,
                0.0,
                total - warmup,
                step_iter=drops,
                step_factor=config.lr_decay,
            )
        )
    return scheduler.LRSequential(phases)


def _phase(
    scheduler: Any, mode: str, start: float, end: float, steps: int, **kwargs: object
) -> Any:
    if steps == 1 and mode in ("linear", "cosine", "poly"):
        # GluonCV divides by steps - 1. A warm-up of one step is at its end, a cosine at its start.
        mode, start = "constant", end if mode == "linear" else start
    return scheduler.LRScheduler(mode, base_lr=start, target_lr=end, niters=steps, **kwargs)
