# SPDX-License-Identifier: Apache-2.0
"""The update of the weights: AdamW, clipping of gradients, and optimizer states as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.ndarray import NDArray

UPDATES = "updates"  # in a file of states: how often each parameter was updated


@mx.optimizer.register
class AdamW(mx.optimizer.Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), as ``torch.optim.AdamW``.

    MXNet 1.9.1 has the operators only. A step first multiplies the weight by ``1 - lr * wd``, then
    takes Adam's step, whose ``epsilon`` is added to the bias-corrected root of the mean square.

    Parameters
    ----------
    beta1, beta2
        Decay of the means of the gradients and of their squares.
    epsilon
        Added to the divisor.
    **kwargs
        As for each ``mxnet.optimizer.Optimizer``: ``learning_rate``, ``wd`` …
    """

    def __init__(
        self, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        # The operator has float32 numbers; the bias corrections must be those of the same ones.
        self.beta1, self.beta2 = float(np.float32(beta1)), float(np.float32(beta2))
        self.epsilon = epsilon

    def create_state(self, index: int, weight: NDArray) -> tuple[NDArray, NDArray]:
        """Return the means of gradients and of their squares, 0."""
        return mx.nd.zeros_like(weight), mx.nd.zeros_like(weight)

    def update(
        self, index: int, weight: NDArray, grad: NDArray, state: tuple[NDArray, NDArray]
    ) -> None:
        """Update one weight and its state."""
        self._update_count(index)
        lr, wd = self._get_lr(index), self._get_wd(index)
        count = self._index_update_count[index]
        root = math.sqrt(1 - self.beta2**count)
        if wd:
            weight *= 1 - lr * wd
        mx.nd.adam_update(
            weight,
            grad,
            *state,
            out=weight,
            lr=lr * root / (1 - self.beta1**count),
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon * root,
            rescale_grad=self.rescale_grad,
        )


def update(trainer: gluon.Trainer, divisor: float, clip: float = 0.0) -> None:
    """Update as ``trainer.step(divisor)`` does, with gradients of a norm of at most ``clip``.

    The norm is that of all gradients together, summed over devices and workers and divided by
    ``divisor``. Larger gradients are scaled as by ``torch.nn.utils.clip_grad_norm_``; 0 turns
    clipping off. Clipping waits for the gradients.
    """
    if not clip:
        trainer.step(divisor)
        return
    trainer.allreduce_grads()
    norm = gradient_norm(trainer) / divisor
    trainer.update(divisor * max(1.0, (norm + 1e-6) / clip))


def gradient_norm(trainer: gluon.Trainer) -> float:
    """Return the norm of all gradients on the first device together."""
    grads = [p.list_grad()[0] for p in trainer._params if p.grad_req != "null"]
    squares = mx.nd.multi_sum_sq(*grads, num_arrays=len(grads)).asnumpy()
    return math.sqrt(squares.astype(np.float64).sum())


def states(trainer: gluon.Trainer) -> dict[str, NDArray]:
    """Return the optimizer's states by the indices of the parameters, for ``mxnet.nd.save``.

    All devices have equal states, because they get the same summed gradients. A state of several
    arrays has keys such as ``"3.0"``; with it comes ``"updates"``, for each parameter the number of
    its updates.
    """
    # Trainer.save_states pickles the whole optimizer: unsafe to load from untrusted sources, and
    # loading it silently restores the old hyperparameters.
    arrays: dict[str, NDArray] = {}
    for index, state in trainer._updaters[0].states.items():
        if isinstance(state, tuple):
            arrays.update({f"{index}.{part}": array for part, array in enumerate(state)})
        elif state is not None:
            arrays[str(index)] = state
    if any("." in key for key in arrays):
        counts = trainer.optimizer._index_update_count
        numbers = [counts.get(index, 0) for index in range(len(trainer._params))]
        arrays[UPDATES] = mx.nd.array(numbers, dtype="int64")
    return arrays


def restore_states(trainer: gluon.Trainer, arrays: Mapping[str, NDArray]) -> None:
    """Load what :func:`states` returned into a trainer of the same parameters."""
    parts: dict[int, dict[int, NDArray]] = {}
    for key, array in arrays.items():
        if key != UPDATES:
            number, _, part = key.partition(".")
            parts.setdefault(int(number), {})[int(part or -1)] = array
    for updater, ctx in zip(trainer._updaters, trainer._contexts):
        for index, found in parts.items():
            copies = [found[part].as_in_context(ctx).copy() for part in sorted(found)]
            updater.states[index] = copies[0] if -1 in found else tuple(copies)
            updater.states_synced[index] = True
    if UPDATES in arrays:
        optimizer = trainer.optimizer
        counts = {i: int(n) for i, n in enumerate(arrays[UPDATES].asnumpy()) if n}
        for ctx in trainer._contexts:
            optimizer._set_current_context(ctx.device_id)
            optimizer._index_update_count.update(counts)
