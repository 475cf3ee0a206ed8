"""Batch normalization whose statistics are of the batches of all devices."""

from __future__ import annotations

from .ir import Graph

SHARED = ("eps", "momentum", "fix_gamma", "use_global_stats", "output_mean_var")


def synchronize(graph: Graph, devices: int) -> None:
    """Put MXNet's ``SyncBatchNorm`` in place of each BatchNorm.

    Parameters
    ----------
    graph
        Is changed. Backward keeps the new operators' maps, as devices wait for each other in them.
    devices
        How many devices run it at the same time; each waits for the others.
    """
    for node in graph.operators():
        if node.op == "BatchNorm":
            node.op = "_contrib_SyncBatchNorm"
            attrs = {name: node.attrs[name] for name in SHARED if name in node.attrs}
            node.attrs = {**attrs, "ndev": str(devices), "key": node.name}
