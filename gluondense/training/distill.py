"""Learning from another network's answers as well as from the labels (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mxnet as mx
from mxnet import autograd, gluon

from ..environment import import_gluoncv
from ..weights import get_model
from . import checkpoint


def load_teacher(teacher: str, devices: Sequence[mx.Context], classes: int) -> gluon.HybridBlock:
    """Load the network to learn from.

    Parameters
    ----------
    teacher
        A run's or a checkpoint's folder, or a name of ``WEIGHTS`` such as
        ``"densenet201.tv_in1k"``, or a network's name, which stands for its first weights.
    devices
        Where it runs.
    classes
        How many it must tell apart.

    Raises
    ------
    ValueError
        If it tells apart another number, or there is no such network.
    OSError
        If its weights can't be had.
    """
    if Path(teacher).is_dir():
        net = checkpoint.load(teacher).network(list(devices))
    else:
        model, _, tag = teacher.partition(".")
        net = get_model(model, pretrained=tag or True, ctx=list(devices))
    if net.spec.classes != classes:
        raise ValueError(
            f"`teacher` {teacher} tells {net.spec.classes} classes apart, the data has {classes}."
        )
    net.hybridize(static_alloc=True, static_shape=True)
    return net


class DistillationLoss(gluon.HybridBlock):
    """GluonCV's distillation loss of logits and ``[target, teacher's answer]`` side by side.

    Parameters
    ----------
    classes
        Number of them.
    temperature
        What logits are divided by before they are compared.
    hard_weight
        Share of the loss on the labels, 0 to 1.
    """

    def __init__(self, classes: int, temperature: float, hard_weight: float) -> None:
        super().__init__()
        self._classes = classes
        with self.name_scope():
            self.loss = import_gluoncv().loss.DistillationSoftmaxCrossEntropyLoss(
                temperature=temperature, hard_weight=hard_weight, sparse_label=False
            )

    def hybrid_forward(self, F, output, both):
        """Give the loss of each image, (N,)."""
        target = F.slice_axis(both, axis=1, begin=0, end=self._classes)
        return self.loss(output, target, F.slice_axis(both, axis=1, begin=self._classes, end=None))


def with_answers(
    teacher: gluon.HybridBlock, image: mx.nd.NDArray, target: mx.nd.NDArray, temperature: float
) -> mx.nd.NDArray:
    """Put the teacher's softened answer beside the target, (N, 2 * classes)."""
    with autograd.predict_mode():
        soft = mx.nd.softmax(teacher(image) / temperature, axis=1)
    return mx.nd.concat(target, soft, dim=1)
