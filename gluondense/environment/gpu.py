# SPDX-License-Identifier: Apache-2.0
"""Whether MXNet can compute on a GPU of this machine, and why not."""

from __future__ import annotations

from typing import Optional

__all__ = ["gpu_problem"]


def gpu_problem(number: int = 0) -> Optional[str]:
    """Return why MXNet cannot compute on a GPU, or None if it can.

    An operator runs on the GPU: MXNet may find a GPU for which it contains no machine code.

    Examples
    --------
    >>> from gluondense.environment.gpu import gpu_problem
    >>> problem = gpu_problem(1000)
    >>> problem is not None
    True
    """
    try:
        import mxnet as mx

        if not mx.runtime.Features().is_enabled("CUDA"):
            return "this MXNet is built without CUDA: pip install mxnet-cu112==1.9.1 instead"
        count = mx.context.num_gpus()
        if number >= count:
            return f"GPU {number} doesn't exist: MXNet finds {count} GPUs on this machine"
        mx.nd.zeros((1,), ctx=mx.gpu(number)).asnumpy()
    except (ImportError, RuntimeError) as error:  # an MXNetError is a RuntimeError
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"MXNet cannot use GPU {number}: {lines[-1] if lines else 'unknown error'}"
    return None
