# SPDX-License-Identifier: Apache-2.0
"""Synchronized batch normalization: statistics over the batches of all devices."""

from __future__ import annotations

from .ir import Graph

SHARED_ATTRIBUTES = ("eps", "momentum", "fix_gamma", "use_global_stats", "output_mean_var")


def use_sync_batch_norm(graph: Graph, devices: int, scope: str = "") -> None:
    """Replace each ``BatchNorm`` by MXNet's ``SyncBatchNorm`` for a number of devices.

    ``scope`` is the same for the graphs of all devices, and another one for other networks: MXNet
    keeps a buffer of each layer's width for its name as long as the process lives.

    The devices wait for each other in the new operators. Apply this pass before those that mark
    nodes for recomputation, so that the outputs of the new operators are stored.
    """
    for node in graph.operators():
        if node.op == "BatchNorm":
            node.op = "_contrib_SyncBatchNorm"
            attrs = {name: node.attrs[name] for name in SHARED_ATTRIBUTES if name in node.attrs}
            node.attrs = {**attrs, "ndev": str(devices), "key": scope + node.name}
