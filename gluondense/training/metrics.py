"""Sums of loss and hits that are read late, so that counting does not stall the engine."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Callable

import mxnet as mx

STEPS_AHEAD = 2  # enough to keep the engine busy, few enough to stop soon and to hold few batches


@dataclass
class Meter:
    """Running mean of loss and accuracy over the steps of an epoch.

    ``add`` waits only until the step before the last ``STEPS_AHEAD`` is done, which also bounds the
    engine's queue; ``sync`` waits for all.

    Parameters
    ----------
    loss_sum, hits, images
        Totals so far; given when an epoch is resumed in its middle.
    total
        Adds up numbers over all workers.
    """

    loss_sum: float = 0.0
    hits: float = 0.0
    images: int = 0
    total: Callable[[Sequence[float]], Sequence[float]] = field(default=list, repr=False)
    _pending: deque[tuple[int, int, list[mx.nd.NDArray]]] = field(default_factory=deque, repr=False)

    def add(
        self,
        step: int,
        losses: Sequence[mx.nd.NDArray],
        logits: Sequence[mx.nd.NDArray],
        targets: Sequence[mx.nd.NDArray],
    ) -> None:
        """Note one step, given for each device its part of the batch.

        Parameters
        ----------
        step
            Its number, for the message if the loss is not finite.
        losses, logits, targets
            Arrays (N,), (N, classes) and (N, classes).

        Raises
        ------
        FloatingPointError
            If the loss of a step is not finite; it names the first such step.
        """
        sums = []
        for loss, scores, target in zip(losses, logits, targets):
            right = scores.argmax(axis=1) == target.argmax(axis=1)
            sums.append(mx.nd.stack(loss.sum(), right.sum()))
        self._pending.append((step, sum(loss.size for loss in losses), sums))
        while len(self._pending) > STEPS_AHEAD:
            self._read()

    def sync(self) -> None:
        """Wait for all noted steps and add them up.

        Raises
        ------
        FloatingPointError
            If the loss of a step is not finite; it names the first such step.
        """
        while self._pending:
            self._read()

    def _read(self) -> None:
        step, images, sums = self._pending.popleft()
        loss, hits = sum(part.asnumpy().ravel().astype(float) for part in sums)
        loss, hits, all_images = self.total([loss, hits, images])
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"The loss became {loss} at step {step}: "
                "lower the learning rate or lengthen the warm-up."
            )
        self.loss_sum += float(loss)
        self.hits += float(hits)
        self.images += int(all_images)

    @property
    def loss(self) -> float:
        """Mean loss of the images counted so far."""
        return self.loss_sum / max(self.images, 1)

    @property
    def accuracy(self) -> float:
        """Share of hits, 0 to 1, among the images counted so far."""
        return self.hits / max(self.images, 1)
