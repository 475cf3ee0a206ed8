# SPDX-License-Identifier: Apache-2.0
"""The devices of this process, and its random streams."""

from __future__ import annotations

import random

import mxnet as mx
import numpy as np

from ..environment.gpu import gpu_problem, prepare_gpu


def find_devices(gpus: tuple[int, ...]) -> list[mx.Context]:
    """Return the contexts of the numbered GPUs, or of the CPU for no number.

    Raises a ValueError if MXNet cannot compute on one of the GPUs.
    """
    if not gpus:
        return [mx.cpu()]
    for gpu in gpus:
        problem = gpu_problem(gpu)
        if problem:
            raise ValueError(f"GPU {gpu} can't be used: {problem}. Omit `gpus` to use the CPU.")
        prepare_gpu(gpu)
    return [mx.gpu(gpu) for gpu in gpus]


def seed_all(*key: int) -> None:
    """Seed the random streams of Python, NumPy and MXNet with a function of the key."""
    seed = int(np.random.SeedSequence(key).generate_state(1)[0]) % 2**31
    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)
