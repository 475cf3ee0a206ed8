"""Where a network is trained."""

from __future__ import annotations

import mxnet as mx


def find_devices(gpus: tuple[int, ...]) -> list[mx.Context]:
    """Find the contexts of the numbered GPUs, or the CPU's if there is no number.

    Raises
    ------
    ValueError
        If a GPU isn't there.

    Examples
    --------
    >>> find_devices(())
    [cpu(0)]
    """
    if not gpus:
        return [mx.cpu()]
    count = mx.context.num_gpus()
    for gpu in gpus:
        if gpu >= count:
            raise ValueError(
                f"GPU {gpu} isn't there: MXNet sees {count} GPUs on this machine "
                f"(an NVIDIA driver and mxnet-cu112 are needed). Leave out --gpus for the CPU."
            )
    return [mx.gpu(gpu) for gpu in gpus]
