# SPDX-License-Identifier: Apache-2.0
"""Dropout of values after convolutions, and of whole blocks (stochastic depth)."""

from __future__ import annotations

from mxnet.gluon import nn

DROPOUT_AFTER = ("conv", "3x3")


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
    return [nn.Dropout(dropout, prefix=prefix)] if wanted else []


def drop_path_layer(rate: float) -> nn.HybridBlock | None:
    """Return the layer that zeroes the whole input of an image with a probability; None for 0.

    It is MXNet's Dropout with one random number for each image, so that graph passes, exports and
    recomputation know it: other inputs are divided by 1 - rate, and in inference it does nothing.

    References
    ----------
    Huang et al., "Deep Networks with Stochastic Depth"; timm, ``layers/drop.py``, ``DropPath``.
    """
    return nn.Dropout(rate, axes=(1, 2, 3), prefix="drop_path_") if rate else None
