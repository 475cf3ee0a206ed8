# SPDX-License-Identifier: Apache-2.0
"""The base class of all networks: features, output, and the feature maps of each stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import mxnet as mx
from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from ..blocks.base import Chain, Tensor, activation
from ..blocks.head import POOL_WINDOW, mean_max_logits
from ..blocks.initializer import HeFanOut
from ..blocks.norm import batch_norm
from ..blocks.reorders import SafelySaved
from ..blocks.stem import Stem
from ..errors import check_count
from .channels_last import ChannelsLast
from .feature_maps import HEAD, FeatureInfo, OutIndices, select_indices
from .imperative import imperative
from .spec import NetworkSpec


class Network(ChannelsLast, SafelySaved):
    """Stem, stages, final BN-ReLU, global pooling, and a fully-connected ``output``.

    The network of a family implements :meth:`stages`, the blocks after the stem.

    Parameters
    ----------
    spec
        The row that describes the network.
    model_name
        The name of the row, for messages and checkpoints.
    features_only
        True returns feature maps instead of logits, and builds nothing behind the last of them.
    out_indices
        Feature maps to return: 0 is the stem's, before its pooling, and i that of stage i; the last
        one is after the final BN-ReLU. Negative indices count from the end; an integer n selects
        the last n. By default all stages.
    memory_efficient
        The checkpointing policy of :class:`gluondense.training.TrainStep`: the activations that
        backward recomputes. It changes neither results nor saved and exported files.

    Attributes
    ----------
    features, output
        All blocks including the pooling, and the classifier, as Gluon's fine-tuning code expects.
    feature_info
        Name, channels and stride of each returned feature map; without ``features_only``, of those
        after each stage.
    absent
        Names of the parameters of the complete network that this one does not have.
    preprocessing
        Preprocessing of the images for the loaded weights; None if unknown.
    classes
        Names of the outputs of published weights (with ``synset`` and ``classes_long``, as in
        GluonCV); else None.

    Inputs
        ``(N, in_channels, H, W)``
    Outputs
        Logits ``(N, classes)``; pooled features ``(N, out_channels)`` if ``classes`` is 0; or one
        ``(N, info.channels, H / info.stride, W / info.stride)`` for
        each ``info`` of ``feature_info``.

    Raises
    ------
    ValueError
        If ``out_indices`` is invalid or given without ``features_only``.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        model_name: str = "",
        features_only: bool = False,
        prefix: str | None = None,
        memory_efficient: bool | str = False,
        out_indices: OutIndices = None,
    ) -> None:
        super().__init__(prefix=prefix)
        if out_indices is not None and not features_only:
            raise ValueError("out_indices selects feature maps: it needs features_only=True.")
        self.spec, self.model_name, self.features_only = spec, model_name, features_only
        self.memory_efficient = memory_efficient
        self.feature_info: list[FeatureInfo] = []
        self.absent: tuple[str, ...] = ()
        self.preprocessing: Any = None
        self.classes: Any = None
        with self.name_scope():
            self.features = Chain(prefix="")
            with self.features.name_scope():
                maps = self._add_stages()
                self._add_pooling()
            self.feature_info = [maps[index] for index in select_indices(out_indices, maps)]
            if features_only:
                self._remove_unused(maps)
            elif spec.classes:
                self.output = self._classifier(spec.classes)
            else:
                self.absent = HEAD

    def stages(self, in_channels: int) -> Iterator[nn.HybridBlock]:
        """Yield the blocks after the stem; feature maps follow those with the prefix ``stage…``."""
        raise NotImplementedError(f"{type(self).__name__} must implement stages().")

    def after_pooling(self) -> list[nn.HybridBlock]:
        """Return the blocks between the global pooling and the classifier; by default none."""
        return []

    def _add_stages(self) -> list[FeatureInfo]:
        """Add all blocks before the pooling; return the stem's and the stages' feature maps."""
        spec = self.spec
        options = {"eps": spec.eps, "prefix": "stem_", **spec.stem_options}
        stem = Stem(spec.in_channels, spec.num_init_features, spec.stem, **options)
        self.features.add(stem)
        maps = [FeatureInfo("stem", stem.out_channels, stem.spec.strides)]
        self.out_channels, stride = stem.out_channels, stem.strides
        for block in self.stages(stem.out_channels):
            self.features.add(block)
            self.out_channels = block.out_channels
            stride *= getattr(block, "strides", 1)
            name = block.prefix[len(self.prefix) : -1]
            if name.startswith("stage"):
                maps.append(FeatureInfo(name, block.out_channels, stride))
        if spec.final_norm:
            norm = batch_norm(self.out_channels, spec.eps, "norm_")
            self.features.add(norm, activation(spec.final_act, "relu_"))
        return maps

    def _remove_unused(self, maps: list[FeatureInfo]) -> None:
        """Remove the blocks behind the last selected feature map."""
        complete = list(self._collect_params_with_prefix())
        names, last = list(self.features._children), self.feature_info[-1]
        end = names.index("pool") if last is maps[-1] else names.index(last.name) + 1
        for name in names[end:]:
            del self.features._children[name]
        self.out_channels = last.channels
        own = set(self._collect_params_with_prefix())
        self.absent = (*(name for name in complete if name not in own), *HEAD)

    def _add_pooling(self) -> None:
        if self.spec.pool == "avg":
            self.features.add(nn.GlobalAvgPool2D(prefix="pool_"), *self.after_pooling())
            self.features.add(nn.Flatten(prefix="flatten_"))
        else:
            self.features.add(nn.AvgPool2D(POOL_WINDOW, 1, prefix="pool_"))

    def _classifier(self, classes: int) -> nn.Dense:
        return nn.Dense(classes, in_units=self.out_channels, prefix="output_")

    def output_size(self, size: int) -> int:
        """Return the height (or width) of the last feature map for a ``size``; 0 if too small."""
        return max(0, self.features.output_size(size))

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

    def summary(self, *inputs: NDArray) -> None:
        """Print the layers' output shapes and numbers of parameters, hybridized or not.

        Gluon's ``summary`` refuses hybridized networks, as those of :func:`gluondense.get_model`
        are; here the layers run one by one for this call. :func:`gluondense.summary` returns costs
        as a table and needs no initialized parameters.

        Parameters
        ----------
        *inputs
            The images.

        Raises
        ------
        RuntimeError
            If the parameters are not initialized.
        """
        if any(parameter._data is None for parameter in self.collect_params().values()):
            raise RuntimeError(
                f"{self.model_name or type(self).__name__} has parameters without values: call "
                "net.initialize() first, or gluondense.summary(net, input_shape), which needs none."
            )
        with imperative(self), inputs[0].context:
            super().summary(*inputs)

    def forward(self, x: Tensor, *args: Any) -> Any:
        """Check the shape of an NDArray, then run the graph."""
        if isinstance(x, NDArray):
            self.check_image_shape(x.shape)
        return super().forward(x, *args)

    @property
    def is_headless(self) -> bool:
        """Whether the network returns pooled features, as ``classes`` is 0."""
        return not (self.features_only or self.spec.classes)

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
        """Return the logits, the pooled features or the feature maps."""
        if self.features_only:
            return self._feature_maps(x)
        x = self.features(x)
        if self.is_headless:
            return x
        return self.output(x) if self.spec.pool == "avg" else mean_max_logits(F, x, self.output)

    def _feature_maps(self, x: Tensor) -> list[Tensor]:
        selected = [info.name for info in self.feature_info]
        maps = []
        for name, block in self.features._children.items():
            if name == "pool":
                break
            end = name
            if name == selected[0] == "stem":
                unpooled, x = block.before_and_after_pool(x)
                maps.append(unpooled)
                continue
            x = block(x)
            if name in selected:
                maps.append(x)
        if end != selected[-1]:
            maps[-1] = x  # after the final BN-ReLU
        return maps

    @property
    def feature_outputs(self) -> list[str]:
        """Names of the maps of ``feature_info`` in the network's symbol, without its prefix.

        GluonCV's ``get_ssd(name, features=…)`` and its ``FeatureExpander`` take these names.
        """
        with mx.name.NameManager(), self.name_scope():
            maps = self._feature_maps(mx.sym.var("data"))
        return [each.list_outputs()[0][len(self.prefix) :] for each in maps]

    def reset_output(self, classes: int, ctx: Any = None) -> None:
        """Replace ``output``, or add it, by a new classifier for a number of classes.

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
        self.absent = ()
        self.spec, self.classes = dataclasses.replace(self.spec, classes=classes), None
        weight = self.features[0][0].weight
        if ctx is None and weight._data is not None:
            ctx = weight.list_ctx()
        if ctx is not None:
            self.output.initialize(HeFanOut(), ctx=ctx)
