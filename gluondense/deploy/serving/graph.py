# SPDX-License-Identifier: Apache-2.0
"""The graph of an export as a function of NumPy arrays: a native one without MXNet, or in MXNet."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Callable, Optional

import numpy as np

from ..native.network import NativeNetwork

logger = logging.getLogger(__name__)

Graph = Callable[[np.ndarray], "list[np.ndarray]"]  # from its input to its outputs


def open_graph(
    prefix: str, files: Mapping[str, str], metadata: Mapping[str, Any], gpu: Optional[int]
) -> Graph:
    """Open the graph of an export whose files have been verified.

    Native exports of earlier versions, and those with operators of MXNet, run in MXNet.

    Parameters
    ----------
    prefix, files, metadata
        Prefix of the export, its files by their names in the metadata, and the content of its JSON.
    gpu
        Number of the GPU to use if the export and MXNet can; None for the CPU.
    """
    if "library" in files:
        try:
            network = NativeNetwork(prefix, metadata)
            logger.info("the export's library runs it, without MXNet")
            return network
        except ValueError as error:
            logger.info("MXNet runs the export: %s", error)
    return _open_in_mxnet(files, metadata, gpu)


def _open_in_mxnet(
    files: Mapping[str, str], metadata: Mapping[str, Any], gpu: Optional[int]
) -> Graph:
    import mxnet as mx

    from ..device import choose_device

    if "library" in files:
        mx.library.load(files["library"], False)
    ctx = choose_device(metadata["target"], mx.cpu() if gpu is None else mx.gpu(gpu))
    block = mx.gluon.SymbolBlock.imports(
        files["symbol"], [metadata["input_name"]], files["params"], ctx=ctx
    )
    block.hybridize(static_alloc=True, static_shape=True)
    logger.info("MXNet runs it on %s", ctx)

    def run(images: np.ndarray) -> list[np.ndarray]:
        outputs = block(mx.nd.array(images, ctx=ctx, dtype=images.dtype))
        found = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return [output.asnumpy() for output in found]

    return run
