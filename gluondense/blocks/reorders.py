# SPDX-License-Identifier: Apache-2.0
"""Parameters that are read while inference is still running on a CPU.

The first inference has oneDNN reorder the weights of convolutions and linear layers in place. The
reorder is an operation of its own, which the layer issues when it runs. MXNet's ``asnumpy`` and
``save`` wait for the operations on an array that were issued before, and not for a layer that will
issue another one. So they may read weights that are replaced at this moment: the values are wrong,
and both threads change the same pointers, which can damage the heap.
"""

from __future__ import annotations

from typing import Any

import mxnet as mx
from mxnet.gluon import nn


def wait_for_reorders() -> None:
    """Wait for all operations, before parameters are read by other means than operators."""
    mx.nd.waitall()


class SafelySaved(nn.HybridBlock):
    """A block that saves its parameters after the inference that is running."""

    def save_parameters(self, filename: str, deduplicate: bool = False) -> None:
        """Save the parameters, as Gluon's method of this name."""
        wait_for_reorders()
        super().save_parameters(filename, deduplicate)

    def export(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """Save graph and parameters, as Gluon's method of this name.

        :func:`gluondense.export` also checks them, and optimizes the graph.
        """
        wait_for_reorders()
        return super().export(path, *args, **kwargs)
