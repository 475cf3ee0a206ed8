# SPDX-License-Identifier: Apache-2.0
"""The native operator in a run on a CPU: it trains the network, and predicts the test set."""

from __future__ import annotations

from collections.abc import Sequence

import mxnet as mx
from mxnet import gluon

from ..deploy.native_block import native_block
from ..native.build import CompilerError
from .configuration.sections import ModelConfig


def use_native(
    block: gluon.HybridBlock, config: ModelConfig, devices: Sequence[mx.Context], dtype: str
) -> bool:
    """Let a CPU train with the native operator where it can; return whether there is one."""
    if devices[0].device_type != "cpu":
        return False
    options = {"backend": "native", "static_alloc": True, "static_shape": True}
    compiled, reason = False, "`native` is off"
    if config.native:
        try:
            block.hybridize(**options)
            compiled = True
            if dtype == "bfloat16":
                block.hybridize(**options, dtype=dtype)
            return True
        except (CompilerError, OSError, RuntimeError) as error:
            reason = str(error)
            print(f"training with MXNet's own operators, which are slower: {error}", flush=True)
        except ValueError:
            reason = "the native operator trains no part of this network"
    if dtype == "bfloat16":
        print(f"bfloat16 in MXNet's operators is slower than float32: {reason}", flush=True)
    return compiled


class Evaluated:
    """What predicts the test set: a block, or on a CPU its native inference.

    The native operator takes a fifth to a half of the time of MXNet's, and predicts what native
    exports of the network do.
    """

    def __init__(self, block: gluon.HybridBlock, native: bool) -> None:
        self._block, self._native = block, native

    def now(self) -> gluon.HybridBlock:
        """Return a block for inference with the present parameters."""
        if self._native:
            try:
                return native_block(self._block)
            except ValueError:  # an operator has no native counterpart
                self._native = False
        return self._block
