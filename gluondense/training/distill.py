"""Learning from another network's answers as well as from the labels (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mxnet as mx
from mxnet import autograd, gluon

from ..environment.process import import_gluoncv
from ..zoo import get_model
from . import checkpoint
from .config import TrainConfig


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


class Lesson:
    """What a run learns from: the labels, and a teacher's answers if it has one.

    Parameters
    ----------
    config
        Its ``teacher``, ``temperature`` and ``hard_weight``.
    devices
        Where the teacher runs.
    classes
        Number of them.

    Attributes
    ----------
    loss
        Of the network's logits and :meth:`targets`.

    Raises
    ------
    ValueError, OSError
        As of :func:`load_teacher`.
    """

    def __init__(self, config: TrainConfig, devices: Sequence[mx.Context], classes: int) -> None:
        self._teacher, self._heat = None, config.temperature
        self.loss: gluon.Block = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
        if config.teacher is not None:
            self._teacher = load_teacher(config.teacher, devices, classes)
            self.loss = DistillationLoss(classes, config.temperature, config.hard_weight)

    def targets(
        self, images: Sequence[mx.nd.NDArray], targets: Sequence[mx.nd.NDArray]
    ) -> list[mx.nd.NDArray]:
        """Put the teacher's softened answers beside the targets of each device."""
        if self._teacher is None:
            return list(targets)
        with autograd.predict_mode():
            answers = [mx.nd.softmax(self._teacher(image) / self._heat) for image in images]
        return [mx.nd.concat(*pair, dim=1) for pair in zip(targets, answers)]
