# SPDX-License-Identifier: Apache-2.0
"""The base class of all networks: features, output, and the feature maps of each stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from ..blocks.base import Chain, Tensor
from ..blocks.head import POOL_WINDOW, mean_max_logits
from ..blocks.initializer import HeFanOut
from ..blocks.stem import Stem
from ..errors import check_count
from ..native.backend import NativeTraining
from .spec import NetworkSpec


class FeatureInfo(NamedTuple):
    """The feature map after a stage: name, channels, and stride relative to the image."""

    name: str
    channels: int
    stride: int


class Network(NativeTraining):
    """Stem, stages, final BN-ReLU, global pooling, and a fully-connected ``output``.

    The network of a family implements :meth:`stages`, the blocks after the stem.

    Parameters
    ----------
    spec
        The row that describes the network.
    model_name
        The name of the row, for messages and checkpoints.
    features_only
        True ends the network after the final BN-ReLU and returns the feature map of each stage.
    memory_efficient
        The checkpointing policy of :class:`gluondense.training.TrainStep`: the activations that
        backward recomputes. It changes neither results nor saved and exported files.

    Attributes
    ----------
    features, output
        All blocks including the pooling, and the classifier, as Gluon's fine-tuning code expects.
    feature_info
        Name, channels and stride of the feature map after each stage.
    preprocessing
        Preprocessing of the images for the loaded weights; None if unknown.
    classes
        Names of the outputs of published weights (with ``synset`` and ``classes_long``, as in
        GluonCV); else None.

    Inputs
        ``(N, in_channels, H, W)``
    Outputs
        Logits ``(N, classes)``, or one ``(N, info.channels, H / info.stride, W / info.stride)`` for
        each ``info`` of ``feature_info``, the last one after the final BN-ReLU.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        model_name: str = "",
        features_only: bool = False,
        prefix: str | None = None,
        memory_efficient: bool | str = False,
    ) -> None:
        super().__init__(prefix=prefix)
        self.spec, self.model_name, self.features_only = spec, model_name, features_only
        self.memory_efficient = memory_efficient
        self.feature_info: list[FeatureInfo] = []
        self.preprocessing: Any = None
        self.classes: Any = None
        with self.name_scope():
            self.features = Chain(prefix="")
            with self.features.name_scope():
                self._add_stages()
                if not features_only:
                    self._add_pooling()
            if not features_only:
                self.output = self._classifier(spec.classes)

    def stages(self, in_channels: int) -> Iterator[nn.HybridBlock]:
        """Yield the blocks after the stem; feature maps follow those with the prefix ``stage…``."""
        raise NotImplementedError(f"{type(self).__name__} must implement stages().")

    def _add_stages(self) -> None:
        spec = self.spec
        options = {"eps": spec.eps, "prefix": "stem_", **spec.stem_options}
        stem = Stem(spec.in_channels, spec.num_init_features, spec.stem, **options)
        self.features.add(stem)
        self.out_channels, stride = stem.out_channels, stem.strides
        for block in self.stages(stem.out_channels):
            self.features.add(block)
            self.out_channels = block.out_channels
            stride *= getattr(block, "strides", 1)
            name = block.prefix[len(self.prefix) : -1]
            if name.startswith("stage"):
                self.feature_info.append(FeatureInfo(name, block.out_channels, stride))
        if spec.final_norm:
            norm = nn.BatchNorm(epsilon=spec.eps, in_channels=self.out_channels, prefix="norm_")
            self.features.add(norm, nn.Activation("relu", prefix="relu_"))

    def _add_pooling(self) -> None:
        if self.spec.pool == "avg":
            self.features.add(nn.GlobalAvgPool2D(prefix="pool_"), nn.Flatten(prefix="flatten_"))
        else:
            self.features.add(nn.AvgPool2D(POOL_WINDOW, 1, prefix="pool_"))

    def _classifier(self, classes: int) -> nn.Dense:
        return nn.Dense(classes, in_units=self.out_channels, prefix="output_")

    def output_size(self, size: int) -> int:
        """Return the height (or width) of the last feature map for a ``size``; 0 if too small."""
        for block in self.features:
            size = block.output_size(size) if hasattr(block, "output_size") else size
            if size < 1:
                return 0
        return size

    @property
    def min_size(self) -> int:
        """Minimum height and width of an image."""
        windowed = self.spec.pool == "mean_max" and not self.features_only
        least = POOL_WINDOW if windowed else 1
        return next(size for size in range(1, 1024) if self.output_size(size) >= least)

    def initialize(
        self, init: Any = None, ctx: Any = None, verbose: bool = False, force_reinit: bool = False
    ) -> None:
        """Initialize the parameters, by default like the authors' code (:class:`HeFanOut`)."""
        super().initialize(init or HeFanOut(), ctx, verbose, force_reinit)

    def forward(self, x: Tensor, *args: Any) -> Any:
        """Check the shape of an NDArray, then run the graph."""
        if isinstance(x, NDArray):
            self.check_image_shape(x.shape)
        return super().forward(x, *args)

    def check_image_shape(self, shape: tuple[int, ...]) -> None:
        """Check that the network accepts images of a shape.

        Raises
        ------
        ValueError
            If the shape is not (N, ``in_channels``, H, W), or H or W is below :attr:`min_size`.
        """
        name = self.model_name or type(self).__name__
        if len(shape) != 4 or shape[1] != self.spec.in_channels:
            build = f", or build the network with in_channels={shape[1]}" if len(shape) == 4 else ""
            raise ValueError(
                f"{name} takes images of shape (N, {self.spec.in_channels}, H, W), not {shape}: "
                f"reshape them{build}."
            )
        if min(shape[2:]) < self.min_size:
            other = ", or build it with stem='cifar' (stride 1)"
            build = "" if self.spec.stem == "cifar" else other
            raise ValueError(
                f"{name} needs images of at least {self.min_size}x{self.min_size}, not "
                f"{shape[2]}x{shape[3]}: resize them{build}."
            )

    def hybrid_forward(self, F: Any, x: Tensor) -> Any:
        """Return the logits, or the feature maps."""
        if self.features_only:
            return self._feature_maps(x)
        x = self.features(x)
        return self.output(x) if self.spec.pool == "avg" else mean_max_logits(F, x, self.output)

    def _feature_maps(self, x: Tensor) -> list[Tensor]:
        found = []
        for name, block in self.features._children.items():
            x = block(x)
            if name.startswith("stage"):
                found.append(x)
        found[-1] = x  # after the final BN-ReLU
        return found

    def reset_output(self, classes: int, ctx: Any = None) -> None:
        """Replace ``output`` by a new classifier for another number of classes.

        Parameters
        ----------
        classes
            Number of outputs.
        ctx
            Context of its parameters; by default that of the features. If those are not
            initialized, ``output`` is not either.

        Raises
        ------
        ValueError
            If ``classes`` is not a positive integer, or the network is ``features_only``.
        """
        check_count("classes", classes)
        if self.features_only:
            raise ValueError(
                f"{self.model_name or type(self).__name__} was built with features_only=True and "
                "has no output to reset: build it without."
            )
        with self.name_scope():
            self.output = self._classifier(classes)
        self.spec, self.classes = dataclasses.replace(self.spec, classes=classes), None
        weight = self.features[0][0].weight
        if ctx is None and weight._data is not None:
            ctx = weight.list_ctx()
        if ctx is not None:
            self.output.initialize(HeFanOut(), ctx=ctx)
