# SPDX-License-Identifier: Apache-2.0
"""The devices of this process, and its random streams."""

from __future__ import annotations

import random

import mxnet as mx
import numpy as np


def find_devices(gpus: tuple[int, ...]) -> list[mx.Context]:
    """Return the contexts of the numbered GPUs, which must exist, or of the CPU for no number."""
    if not gpus:
        return [mx.cpu()]
    count = mx.context.num_gpus()
    for gpu in gpus:
        if gpu >= count:
            raise ValueError(
                f"GPU {gpu} doesn't exist: MXNet finds {count} GPUs on this machine "
                f"(an NVIDIA driver and mxnet-cu112 are needed). Omit `gpus` to use the CPU."
            )
    return [mx.gpu(gpu) for gpu in gpus]


def seed_all(*key: int) -> None:
    """Seed the random streams of Python, NumPy and MXNet with a function of the key."""
    seed = int(np.random.SeedSequence(key).generate_state(1)[0]) % 2**31
    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)
