# SPDX-License-Identifier: Apache-2.0
"""Normalization layers: batch normalization, or the one that a scope selects, and layer norm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Callable, Optional

from mxnet.gluon import nn

NormLayer = Callable[..., nn.HybridBlock]
NormKwargs = Optional[Mapping[str, Any]]

_scope: ContextVar[tuple[NormLayer, Mapping[str, Any]]] = ContextVar(
    "norm_layer", default=(nn.BatchNorm, {})
)


@contextmanager
def norm_scope(norm_layer: NormLayer | None, norm_kwargs: NormKwargs = None) -> Iterator[None]:
    """Build the blocks in this context with another normalization layer.

    All layers of a network are alike, so blocks do not take these arguments.

    Parameters
    ----------
    norm_layer
        A layer with the arguments ``epsilon``, ``in_channels`` and ``prefix`` of ``nn.BatchNorm``,
        which is the default: ``gluon.contrib.nn.SyncBatchNorm``, subclasses …
    norm_kwargs
        Further arguments of the layer, such as ``{"use_global_stats": True}``.

    Examples
    --------
    >>> from gluondense.blocks import NormActConv
    >>> with norm_scope(None, {"use_global_stats": True}):
    ...     block = NormActConv(8, 16)
    >>> block[0]._kwargs["use_global_stats"]
    True
    """
    token = _scope.set((norm_layer or nn.BatchNorm, dict(norm_kwargs or {})))
    try:
        yield
    finally:
        _scope.reset(token)


def batch_norm(channels: int, eps: float, prefix: str) -> nn.HybridBlock:
    """Return the normalization layer of the enclosing :func:`norm_scope`, else a ``BatchNorm``.

    Raises a ValueError if the layer does not take the arguments. (GluonCV would take a TypeError
    for a sign that the network has no ``norm_layer``, and ignore it.)
    """
    layer, options = _scope.get()
    options = {"epsilon": eps, "in_channels": channels, **options, "prefix": prefix}
    try:
        return layer(**options)
    except TypeError as error:
        name = getattr(layer, "__name__", layer)
        raise ValueError(f"norm_layer {name} with norm_kwargs {options}: {error}") from error


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of each pixel.

    Parameters
    ----------
    channels
        Width of input and output.
    eps
        Added to the variance.

    Inputs / Outputs
        ``(N, channels, H, W)`` for both.

    References
    ----------
    Ba et al., "Layer Normalization"; timm's ``LayerNorm2d``.
    """

    def __init__(self, channels: int, eps: float = 1e-6, prefix: str | None = None) -> None:
        super().__init__(epsilon=eps, in_channels=channels, prefix=prefix)

    def hybrid_forward(self, F: Any, data: Any, gamma: Any, beta: Any) -> Any:
        """Normalize; MXNet's kernels for the last axis take a third of the time of others."""
        last = super().hybrid_forward(F, F.transpose(data, axes=(0, 2, 3, 1)), gamma, beta)
        return F.transpose(last, axes=(0, 3, 1, 2))
