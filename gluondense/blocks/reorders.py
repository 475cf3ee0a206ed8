# SPDX-License-Identifier: Apache-2.0
"""Parameters that are read while inference is still running on a CPU.

In the first inference, oneDNN reorders the weights of convolutions and linear layers in place. The
layer issues the reorder as a separate operation while it runs. MXNet's ``asnumpy`` and ``save``
wait for the operations that were already issued, and so not for the reorder of a layer that has not
run yet. They may then read a weight while it is replaced, and get wrong values.
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
