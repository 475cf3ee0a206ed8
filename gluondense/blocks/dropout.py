# SPDX-License-Identifier: Apache-2.0
"""Dropout of values after convolutions, and of whole blocks (stochastic depth)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mxnet.gluon import nn

if TYPE_CHECKING:
    from .base import Tensor

DROPOUT_AFTER = ("conv", "3x3")


class Dropout(nn.Dropout):
    """MXNet's Dropout, whose masks are a function of the seed on GPUs too.

    cuDNN's Dropout seeds itself once in a process, and ``mx.random.seed`` does not reach it, so a
    resumed run would draw other masks. MXNet's own kernel draws from the seeded stream.
    """

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Drop values of the input in training."""
        return F.Dropout(x, p=self._rate, axes=self._axes, cudnn_off=True, name="fwd")


def dropout_layers(
    dropout: float, dropout_after: str, kernel: int, prefix: str = "dropout_"
) -> list[nn.HybridBlock]:
    """Return the dropout after a convolution, or no layer.

    Parameters
    ----------
    dropout
        Probability; 0 for none.
    dropout_after
        ``"conv"`` for all convolutions, ``"3x3"`` for those of a kernel of 3.
    kernel
        Side of the convolution's kernel.
    """
    wanted = dropout and (dropout_after == "conv" or kernel == 3)
    return [Dropout(dropout, prefix=prefix)] if wanted else []


def drop_path_layer(rate: float) -> nn.HybridBlock | None:
    """Return the layer that zeroes the whole input of an image with a probability; None for 0.

    It is MXNet's Dropout with one random number for each image, so that graph passes, exports and
    recomputation know it: other inputs are divided by 1 - rate, and in inference it does nothing.

    References
    ----------
    Huang et al., "Deep Networks with Stochastic Depth"; timm, ``layers/drop.py``, ``DropPath``.
    """
    return Dropout(rate, axes=(1, 2, 3), prefix="drop_path_") if rate else None
