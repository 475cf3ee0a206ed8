# SPDX-License-Identifier: Apache-2.0
"""Feature reuse in dense networks (Huang et al. 2017, section 5 and Fig. 5)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from mxnet import gluon

from ..blocks.reorders import wait_for_reorders
from ..errors import check_choice
from ..models.network import Network
from .channels import read_by
from .dense_stages import DenseStage, dense_stages

SCALES = ("layer", "stage", None)


@dataclass(frozen=True)
class FeatureReuse:
    """How strongly the layers of a stage use the feature maps of previous layers.

    Parameters
    ----------
    stage
        Name of the stage.
    sources
        Labels of the rows: ``"input"``, the number of each layer, ``"T"`` …
    readers
        Labels of the columns: the number of each layer, ``"transition"``, ``"classifier"`` …
    weights
        Mean absolute weight (sources, readers) of the connections; NaN where there is none.
    """

    stage: str
    sources: tuple[str, ...]
    readers: tuple[str, ...]
    weights: np.ndarray

    def scaled(self, scale: str | None = "layer") -> np.ndarray:
        """Return the weights divided by their maximum, of each column or of the stage.

        The layers of a column share their kernel, normalization and fan-in; weights of different
        columns are comparable only after scaling by ``"layer"``, because the batch normalization
        after a layer makes the network independent of the scale of its weights.
        """
        check_choice("scale", scale, SCALES)
        if scale is None:
            return self.weights
        top = np.nanmax(self.weights, axis=0 if scale == "layer" else None, keepdims=True)
        return self.weights / np.where(top > 0, top, 1)


def feature_reuse(net: Network, normalization: bool = False) -> list[FeatureReuse]:
    """Measure the feature reuse in each dense stage of a trained network, as in the paper's Fig. 5.

    The value of source s and layer l is the L1 norm of the weights that connect them, divided by
    their number: the mean absolute weight. The columns are all layers of the stage that read
    several others: of each dense layer its first convolution, 1x1 with a bottleneck; then the
    transition, or the classifier. In a CSP stage they are T, and U where ``fusion`` has one; rows
    x0′ and x0″ are the two parts of its input. In DPN, the dense path is shown; the sums of the
    residual path are one row.

    Deviations from the paper: it shows networks without bottlenecks, and does not say how its
    colors are scaled to [0, 1]; see :meth:`FeatureReuse.scaled`.

    Parameters
    ----------
    net
        A network of :func:`gluondense.get_model` with its weights.
    normalization
        True multiplies each weight by the absolute gamma of the batch normalization before it. The
        paper uses the weights alone, although the normalization scales what they multiply: a
        channel with a small gamma contributes little even if its weights are large.

    Raises
    ------
    ValueError
        If the network has no dense stages.

    Examples
    --------
    >>> import gluondense
    >>> net = gluondense.get_model("densenet40_k12_cifar10", block_config=(2, 3, 2))
    >>> net.initialize()
    >>> found = feature_reuse(net)
    >>> found[1].sources, found[1].readers
    (('input', '1', '2', '3'), ('1', '2', '3', 'transition'))
    """
    parameters = net.collect_params()
    wait_for_reorders()
    return [_reuse(stage, parameters, normalization) for stage in dense_stages(net)]


def _reuse(stage: DenseStage, parameters: gluon.ParameterDict, normalization: bool) -> FeatureReuse:
    found: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    readers = dict(stage.readers())
    for reader, node in readers.items():
        weight = np.abs(_array(parameters, node.source(1).name))
        per_channel = weight.reshape(*weight.shape[:2], -1).mean(axis=(0, 2))
        _, between = read_by(node)
        norms = [operator for operator in between if operator.op == "BatchNorm"]
        if normalization and norms:
            per_channel = per_channel * np.abs(_array(parameters, norms[0].source(1).name))
        offset = 0
        for part in stage.origins[id(node.source())]:
            channels = per_channel[offset : offset + part.width]
            found[stage.label(part), reader].append(channels)
            offset += part.width
    sources = stage.order({source for source, _ in found})
    weights = np.full((len(sources), len(readers)), np.nan)
    for (source, reader), used in found.items():
        weights[sources.index(source), list(readers).index(reader)] = np.concatenate(used).mean()
    return FeatureReuse(stage.name, tuple(sources), tuple(readers), weights)


def _array(parameters: gluon.ParameterDict, name: str) -> np.ndarray:
    return parameters[name].data(parameters[name].list_ctx()[0]).asnumpy().astype(np.float64)
