"""Sums of loss and hits that stay on the device, so that counting does not stall the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import mxnet as mx


@dataclass
class Meter:
    """Running mean of loss and accuracy; ``add`` never waits for the device, ``sync`` does.

    Parameters
    ----------
    loss_sum, hits, images
        Totals so far; given when an epoch is resumed in its middle.
    """

    loss_sum: float = 0.0
    hits: float = 0.0
    images: int = 0
    _pending: list[tuple[int, mx.nd.NDArray]] = field(default_factory=list, repr=False)

    def add(
        self,
        step: int,
        losses: Sequence[mx.nd.NDArray],
        logits: Sequence[mx.nd.NDArray],
        targets: Sequence[mx.nd.NDArray],
    ) -> None:
        """Note one step: per device the losses (N,), logits (N, classes) and targets (N, classes)."""
        for loss, scores, target in zip(losses, logits, targets):
            right = scores.argmax(axis=1) == target.argmax(axis=1)
            self._pending.append((step, mx.nd.stack(loss.sum(), right.sum())))
            self.images += loss.shape[0]

    def sync(self) -> None:
        """Wait for the noted steps and add them up.

        Raises
        ------
        FloatingPointError
            If the loss of a step is not finite; it names the first such step.
        """
        pending, self._pending = self._pending, []
        for step, sums in pending:
            loss, hits = sums.asnumpy().ravel().tolist()
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"The loss became {loss} at step {step}: "
                    "lower the learning rate or lengthen the warm-up."
                )
            self.loss_sum += loss
            self.hits += hits

    @property
    def loss(self) -> float:
        """Mean loss of the images counted up to the last ``sync``."""
        return self.loss_sum / max(self.images, 1)

    @property
    def accuracy(self) -> float:
        """Share of hits, 0 to 1, among the images counted up to the last ``sync``."""
        return self.hits / max(self.images, 1)
