# SPDX-License-Identifier: Apache-2.0
"""The cross-stage partial connection (Wang et al., "CSPNet", section 3.1)."""

from __future__ import annotations

from typing import Any, Callable

from mxnet.gluon import nn

from .attention import PathWeights
from .base import Tensor, concat


class CSPStage(nn.HybridBlock):
    """A stage that processes part of the channels and concatenates the rest unchanged.

    x0 is split by channels into [x0', x0'']. x0' bypasses the stage. x0'' passes through it and,
    except in "fusion first", through the transition T. The output is [x0', xT] (eq. 7). The second
    transition, U, is the next block of the network. The stage can be any block.

    Parameters
    ----------
    in_channels
        c, width of x0.
    block
        ``block(in_channels, prefix=...)`` builds the stage that runs on x0''.
    transition
        ``transition(in_channels, prefix=...)`` builds T; None omits it.
    partial_ratio
        gamma in (0, 1): floor(gamma c) channels bypass the stage; each part needs at least one.
    attention
        ``"path"`` weights the two parts before the concatenation.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, floor(gamma c) + width of T, H, W)``; the stage must
        keep H and W.
    """

    def __init__(
        self,
        in_channels: int,
        block: Callable[..., nn.HybridBlock],
        transition: Callable[..., nn.HybridBlock] | None = None,
        partial_ratio: float = 0.5,
        attention: str | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        self._bypass = int(partial_ratio * in_channels)
        if not 0 < self._bypass < in_channels:
            raise ValueError(
                f"partial_ratio (={partial_ratio}) lets {self._bypass} of {in_channels} channels "
                "bypass the stage; each part needs at least one: choose a ratio nearer to 0.5."
            )
        with self.name_scope():
            self.block = block(in_channels - self._bypass, prefix="block_")
            self.transition = transition and transition(
                self.block.out_channels, prefix="transition_"
            )
            self.out_channels = self._bypass + (self.transition or self.block).out_channels
            self.attention = None
            if attention == "path":
                self.attention = PathWeights(self.out_channels, prefix="attention_")

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Split, run the stage on one part, concatenate."""
        bypass = F.slice_axis(x, axis=1, begin=0, end=self._bypass)
        part = self.block(F.slice_axis(x, axis=1, begin=self._bypass, end=None))
        if self.transition is not None:
            part = self.transition(part)
        if self.attention is not None:
            bypass, part = self.attention(bypass, part)
        return concat(F, bypass, part, self._bypass)
