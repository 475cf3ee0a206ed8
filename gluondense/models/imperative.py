# SPDX-License-Identifier: Apache-2.0
"""Hybridized networks that run layer by layer for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mxnet.gluon import nn


@contextmanager
def imperative(net: nn.Block) -> Iterator[None]:
    """Let all blocks of a network run without static graphs, which are kept, in this context.

    ``net.hybridize(False)`` would drop them and their settings.
    """
    hybridized: list[nn.HybridBlock] = []

    def deactivate(block: nn.Block) -> None:
        if getattr(block, "_active", False):
            hybridized.append(block)
            block._active = False

    net.apply(deactivate)
    try:
        yield
    finally:
        for block in hybridized:
            block._active = True
