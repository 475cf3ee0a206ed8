# SPDX-License-Identifier: Apache-2.0
"""Knowledge distillation: learning from another network's outputs (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mxnet as mx
from mxnet import gluon

from ...environment.process import import_gluoncv
from ...zoo import get_model
from .. import checkpoint


def load_teacher(teacher: str, devices: Sequence[mx.Context], classes: int) -> gluon.HybridBlock:
    """Load the network to learn from.

    ``teacher`` is the folder of a run or checkpoint; a row of ``WEIGHTS`` such as
    ``"densenet201.tv_in1k"``; or a model name, which selects the model's first published weights.

    Raises
    ------
    ValueError
        If the network has another number of classes, or there is no such network.
    OSError
        If its weights can't be read or downloaded.
    """
    if Path(teacher).is_dir():
        net = checkpoint.load(teacher).network(list(devices))
    else:
        model, _, tag = teacher.partition(".")
        net = get_model(model, pretrained=tag or True, ctx=list(devices))
    if net.spec.classes != classes:
        raise ValueError(
            f"`teacher` {teacher} has {net.spec.classes} classes, the data set has {classes}: "
            "choose a teacher for this data set."
        )
    net.hybridize(static_alloc=True, static_shape=True)
    return net


class DistillationLoss(gluon.HybridBlock):
    """GluonCV's distillation loss, with targets and teacher's probabilities in one array.

    ``temperature`` divides the logits in the comparison with the teacher; ``hard_weight`` is the
    weight of the cross-entropy with the targets, 0 to 1.

    Inputs
        - **output**: logits (N, classes)
        - **both**: targets and teacher's probabilities (N, 2 * classes)

    Outputs
        - loss of each image (N,)
    """

    def __init__(self, classes: int, temperature: float, hard_weight: float) -> None:
        super().__init__()
        self._classes = classes
        with self.name_scope():
            self.loss = import_gluoncv().loss.DistillationSoftmaxCrossEntropyLoss(
                temperature=temperature, hard_weight=hard_weight, sparse_label=False
            )

    def hybrid_forward(self, F, output, both):
        """Compute the loss."""
        target = F.slice_axis(both, axis=1, begin=0, end=self._classes)
        return self.loss(output, target, F.slice_axis(both, axis=1, begin=self._classes, end=None))
