# SPDX-License-Identifier: Apache-2.0
"""Blocks of ResNet and CSPResNe(X)t (Wang et al., "CSPNet", section 3.1, Fig. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Callable

from mxnet.gluon import nn

from .attention import SqueezeExcite
from .base import Chain, ConvNormAct, Tensor, activation
from .csp import CSPStage
from .dropout import drop_path_layer


class ResidualBlock(nn.HybridBlock):
    """Conv1x1-Conv3x3-Conv1x1 with BN and ReLU, added to the input before the last ReLU.

    Parameters
    ----------
    channels
        Width of input and output.
    bottleneck_ratio
        Width of the 3x3 convolution in units of ``channels``, rounded.
    groups
        G, groups of the 3x3 convolution: 1 for ResNet, 32 for ResNeXt.
    attention
        ``"se"`` applies squeeze-and-excitation to the bottleneck's output.
    drop_path
        Probability that an image skips the bottleneck in training.
    **unit
        ``slope``, ``eps``, ``dropout`` and ``dropout_after`` of :class:`ConvNormAct`.

    Inputs / Outputs
        ``(N, channels, H, W)`` for both.

    References
    ----------
    He et al., "Deep Residual Learning", Fig. 5; Xie et al., "Aggregated Residual Transformations",
    Fig. 3c; Hu et al., "Squeeze-and-Excitation Networks", Fig. 3.
    """

    def __init__(
        self,
        channels: int,
        bottleneck_ratio: float = 0.25,
        groups: int = 1,
        attention: str | None = None,
        drop_path: float = 0.0,
        prefix: str | None = None,
        **unit: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        self.out_channels = channels
        width = round(channels * bottleneck_ratio)
        with self.name_scope():
            self.conv1 = ConvNormAct(channels, width, prefix="conv1_", **unit)
            self.conv2 = ConvNormAct(width, width, 3, groups=groups, prefix="conv2_", **unit)
            self.conv3 = ConvNormAct(width, channels, act=False, prefix="conv3_", **unit)
            self.attention = None
            if attention == "se":
                self.attention = SqueezeExcite(channels, prefix="attention_")
            self.drop_path = drop_path_layer(drop_path)
            self.relu = activation("relu", "relu_", unit.get("slope", 0.0))

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Add the bottleneck's output to the input."""
        out = self.conv3(self.conv2(self.conv1(x)))
        if self.attention is not None:
            out = self.attention(out)
        if self.drop_path is not None:
            out = self.drop_path(out)
        return self.relu(x + out)


class ResidualStage(Chain):
    """A sequence of residual blocks of equal width.

    Parameters
    ----------
    in_channels
        Width of input and output.
    num_blocks
        Number of blocks.
    block_class
        The class of the blocks.
    drop_path
        Probability of each block; empty for none.
    **block
        The other parameters of the blocks.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` for both.
    """

    def __init__(
        self,
        in_channels: int,
        num_blocks: int,
        block_class: Callable[..., nn.HybridBlock] = ResidualBlock,
        drop_path: Sequence[float] = (),
        prefix: str | None = None,
        **block: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        self.out_channels = in_channels
        with self.name_scope():
            for index, rate in enumerate(drop_path or [0.0] * num_blocks, start=1):
                place: dict[str, Any] = {"drop_path": rate, "prefix": f"block{index}_"}
                self.add(block_class(in_channels, **place, **block))


class CSPResidualStage(Chain):
    """A stage of CSPResNet: downsample, expand, run residual blocks on part of the channels, fuse.

    ``down`` is a 3x3 convolution with ``strides``, omitted if they are 1; ``expand`` is a 1x1
    convolution to x0; ``csp`` is the :class:`CSPStage`, whose T keeps the width; and
    ``transition`` is U.

    Parameters
    ----------
    in_channels, channels
        Width of the input and of the output.
    num_blocks
        Number of residual blocks.
    strides
        1 or 2.
    expand_ratio
        c, width of x0, in units of ``channels``, rounded.
    partial_ratio
        gamma in (0, 1): floor(gamma c) channels bypass the blocks.
    bottleneck_ratio
        As in :class:`ResidualBlock`.
    attention
        ``"se"`` in each residual block, or ``"path"`` for the two parts of the stage.
    groups
        G, groups of the 3x3 convolutions, including ``down``.
    block_class
        The class of the residual blocks.
    widen_down
        Whether ``down`` has the width of the output; else that of the input.
    expand_act
        Whether ``expand`` ends with a ReLU.
    drop_path
        Probability of each residual block; empty for none.
    **unit
        ``slope``, ``eps``, ``dropout`` and ``dropout_after`` of :class:`ConvNormAct`.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, channels, H / strides, W / strides)``.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_blocks: int,
        strides: int = 1,
        expand_ratio: float = 1.0,
        partial_ratio: float = 0.5,
        bottleneck_ratio: float = 0.25,
        attention: str | None = None,
        groups: int = 1,
        block_class: Callable[..., nn.HybridBlock] = ResidualBlock,
        widen_down: bool = False,
        expand_act: bool = False,
        drop_path: Sequence[float] = (),
        prefix: str | None = None,
        **unit: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        self.strides, self.out_channels = strides, channels
        width = round(channels * expand_ratio)
        se, path = ("se" if attention == "se" else None), ("path" if attention == "path" else None)
        block: dict[str, Any] = {
            "bottleneck_ratio": bottleneck_ratio,
            "groups": groups,
            "attention": se,
            **unit,
        }
        block.update(drop_path=drop_path, block_class=block_class)
        blocks: Any = partial(ResidualStage, num_blocks=num_blocks, **block)

        def first_transition(in_channels: int, prefix: str) -> ConvNormAct:
            return ConvNormAct(in_channels, in_channels, prefix=prefix, **unit)

        with self.name_scope():
            if strides != 1:
                down: dict[str, Any] = {"strides": strides, "groups": groups, **unit}
                down_channels = channels if widen_down else in_channels
                self.add(ConvNormAct(in_channels, down_channels, 3, prefix="down_", **down))
                in_channels = down_channels
            self.add(
                ConvNormAct(in_channels, width, act=expand_act, prefix="expand_", **unit),
                CSPStage(width, blocks, first_transition, partial_ratio, path, prefix="csp_"),
                ConvNormAct(width, channels, prefix="transition_", **unit),
            )

    def output_size(self, size: int) -> int:
        """Return the height (or width) of the output for an input of ``size``."""
        return (size - 1) // self.strides + 1
