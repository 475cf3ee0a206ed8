"""The random streams of all libraries that take part."""

from __future__ import annotations

import random

import mxnet as mx
import numpy as np


def seed_all(*key: int) -> None:
    """Set the random streams of Python, NumPy and MXNet to a function of the key."""
    seed = int(np.random.SeedSequence(key).generate_state(1)[0]) % 2**31
    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)
