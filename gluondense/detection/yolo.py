# SPDX-License-Identifier: Apache-2.0
"""The YOLOv3 detector: a backbone, a neck, and GluonCV's outputs, losses and suppression."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from mxnet import autograd
from mxnet.ndarray import NDArray

from ..blocks.base import Chain, Tensor
from ..blocks.initializer import HeFanOut
from ..blocks.reorders import SafelySaved
from ..errors import check
from ..models.network import Network
from ..native.backend import NativeTraining
from .decode import suppress
from .grid import check_size
from .necks import NECKS
from .outputs import MAX_SIZE, gluoncv_yolo, make_output
from .spec import STRIDES, DetectorSpec


class YOLOv3(SafelySaved, gluoncv_yolo.YOLOV3):
    """GluonCV's ``YOLOV3`` with another backbone and neck.

    GluonCV's transforms, target generators, losses, metrics and training script apply unchanged.

    Parameters
    ----------
    backbone
        Returns the maps that the neck reads.
    spec
        The row that describes the detector.
    classes
        Names of the classes.
    model_name
        The name of the detector, for messages and checkpoints.

    Attributes
    ----------
    backbone, neck, yolo_outputs
        The three parts; the outputs are GluonCV's, coarsest scale first.
    raw
        The network without decoding, for training and export: ``(N, in_channels, H, W)`` to
        ``(N, P, 5 + classes)`` with tx, ty, tw, th, objectness and the classes' logits, in the
        order of :func:`gluondense.detection.grid.grid`. It shares all parameters.
    classes, class_names
        Names of the classes, as in GluonCV and as in the rest of this package.
    preprocessing
        Preprocessing of the images for the loaded weights; None if unknown.

    Inputs
        ``(N, in_channels, H, W)``, H and W divisible by 32; while gradients are recorded, also the
        targets of GluonCV's ``YOLO3DefaultTrainTransform``.
    Outputs
        Class indices ``(N, K, 1)``, scores ``(N, K, 1)`` and corners of boxes ``(N, K, 4)`` in
        pixels, sorted by score, with K = ``post_nms``; rows without a box are -1. While gradients
        are recorded, GluonCV's four losses. In training mode without recording, the eight arrays
        that its transform reads.

    References
    ----------
    Redmon and Farhadi, "YOLOv3: An Incremental Improvement"; CSPNet, section 3.2.
    """

    task = "detection"  # for prediction and export

    def __init__(
        self,
        backbone: Network,
        spec: DetectorSpec,
        classes: Sequence[str],
        model_name: str = "",
        prefix: str | None = None,
        memory_efficient: bool | str = False,
    ) -> None:
        nms = {name: getattr(spec, name) for name in ("nms_topk", "post_nms")}
        super().__init__(
            [], [], [], [], classes, nms_thresh=spec.nms_threshold, prefix=prefix, **nms
        )
        for name in ("stages", "transitions", "yolo_blocks"):  # parts of GluonCV's neck
            del self._children[name]
        self.spec, self.model_name = spec, model_name
        self.preprocessing: Any = None
        self.memory_efficient = memory_efficient
        self._mode: Any = None
        self._raw: Raw | None = None
        self.backbone = backbone
        channels = {info.stride: info.channels for info in backbone.feature_info}
        with self.name_scope():
            self.neck = NECKS[spec.fusion](channels, spec, prefix="neck_")
            self.yolo_outputs = Chain(prefix="outputs_")
            with self.yolo_outputs.name_scope():
                widths = zip(self.neck.out_channels, spec.scales)
                for index, (width, (stride, anchors)) in enumerate(widths):
                    self.yolo_outputs.add(make_output(index, width, spec.classes, anchors, stride))

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        return self._classes

    @classes.setter
    def classes(self, names: Sequence[str]) -> None:
        rule = f"{self.spec.classes} names"
        check("classes", names, rule, names is not None and len(names) == self.spec.classes)
        self._classes = names

    class_names = classes

    @property
    def input_size(self) -> int:
        """Side of the images that the anchors are meant for."""
        return self.spec.input_size

    @property
    def min_size(self) -> int:
        """Minimum height and width of an image."""
        return STRIDES[-1]

    @property
    def raw(self) -> Raw:
        """The network without decoding."""
        if self._raw is None:
            raw = Raw(self)
            raw.hybridize(static_alloc=True, static_shape=True)
            object.__setattr__(self, "_raw", raw)  # no child: its parameters are the network's
            return raw
        return self._raw

    def initialize(
        self, init: Any = None, ctx: Any = None, verbose: bool = False, force_reinit: bool = False
    ) -> None:
        """Initialize the parameters: the predictions by :class:`RareObjects`, others by He."""
        super().initialize(init or HeFanOut(), ctx, verbose, force_reinit)

    def reset_class(self, classes: Sequence[str], reuse_weights: Any = None) -> None:
        """Replace the classes and the predictions, as in GluonCV."""
        super().reset_class(classes, reuse_weights)
        self.spec = dataclasses.replace(self.spec, classes=len(classes))
        object.__setattr__(self, "_raw", None)

    def check_image_shape(self, shape: tuple[int, ...]) -> None:
        """Check that the network accepts images of a shape.

        Raises
        ------
        ValueError
            If the shape is not (N, ``in_channels``, H, W), or H or W is not divisible by 32 or
            above 1024, for which GluonCV's outputs have no cells.
        """
        _check_images(shape, self.spec)
        size = "x".join(map(str, shape[2:]))
        rule = f"at most {MAX_SIZE}x{MAX_SIZE}: resize the images"
        check("height x width", size, rule, max(shape[2:]) <= MAX_SIZE)

    def forward(self, x: Tensor, *args: Any) -> Any:
        """Check the shape of an NDArray, then run the graph of the present mode.

        What is returned depends on the mode, so a graph of another mode is dropped.
        """
        if isinstance(x, NDArray):
            self.check_image_shape(x.shape)
            mode = autograd.is_training(), autograd.is_recording()
            if mode != self._mode:
                self._clear_cached_op()
                self._mode = mode
        return super().forward(x, *args)

    def hybrid_forward(self, F: Any, x: Tensor, *targets: Tensor) -> Any:
        """Return detections, losses or predictions, depending on the mode."""
        if targets and not autograd.is_training():
            raise TypeError("a detector in inference mode takes images only, not targets.")
        maps = self.neck(*self.backbone(x))
        outputs = [output(each) for output, each in zip(self.yolo_outputs, maps)]
        if not autograd.is_training():
            limits = self.nms_thresh, self.nms_topk, self.post_nms  # of set_nms
            return suppress(F, F.concat(*outputs, dim=1), *limits, self.spec.score_threshold)
        boxes, centers, scales, objectness, classes, anchors, offsets = zip(*outputs)
        predictions = [
            F.concat(*[each.reshape((0, -3, -1)) for each in scale], dim=1)
            for scale in (objectness, centers, scales, classes)
        ]
        boxes = F.concat(*boxes, dim=1)
        if autograd.is_recording():
            return self._loss(*predictions, *self._target_generator(boxes, *targets))
        # The transform reads only the sizes of the maps. (`F.slice` ends the process on a CPU: the
        # cut would be inside a block of oneDNN's layout.)
        sizes = [F.sum(F.zeros_like(each), axis=(0, 1), keepdims=True) for each in maps]
        objectness, centers, scales, classes = predictions
        return boxes, list(anchors), list(offsets), sizes, centers, scales, objectness, classes


class Raw(NativeTraining):
    """Backbone, neck and predictions of a detector, without decoding; see :class:`YOLOv3`."""

    def __init__(self, net: YOLOv3) -> None:
        super().__init__(prefix=net.prefix)
        self.spec, self.model_name = net.spec, net.model_name
        self.memory_efficient = net.memory_efficient
        self._numbers = 5 + net.spec.classes
        self.backbone, self.neck = net.backbone, net.neck
        self.predictions = Chain(prefix="")
        self.predictions.add(*[output.prediction for output in net.yolo_outputs])

    def forward(self, x: Tensor, *args: Any) -> Any:
        """Check the shape of an NDArray, then run the graph."""
        if isinstance(x, NDArray):
            _check_images(x.shape, self.spec)
        return super().forward(x, *args)

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Concatenate the predictions of the scales."""
        maps = self.neck(*self.backbone(x))
        rows = [
            F.transpose(predict(each), axes=(0, 2, 3, 1)).reshape((0, -1, self._numbers))
            for predict, each in zip(self.predictions, maps)
        ]
        return F.concat(*rows, dim=1)


def _check_images(shape: tuple[int, ...], spec: DetectorSpec) -> None:
    rule = f"(N, {spec.in_channels}, H, W)"
    holds = len(shape) == 4 and shape[1] == spec.in_channels
    check("shape of the images", shape, rule, holds)
    check_size(*shape[2:])
