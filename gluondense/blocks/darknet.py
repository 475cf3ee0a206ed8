# SPDX-License-Identifier: Apache-2.0
"""Blocks of Darknet (Redmon and Farhadi, "YOLOv3: An Incremental Improvement", section 2.4)."""

from __future__ import annotations

from typing import Any

from .attention import SqueezeExcite
from .base import Chain, ConvNormAct, Tensor
from .dropout import drop_path_layer
from .residual import ResidualStage

# The options of a stage that are those of ConvNormAct.
UNIT = ("slope", "eps", "dropout", "dropout_after")


class DarknetBlock(Chain):
    """Conv1x1-Conv3x3 with BN and ReLU, added to the input behind the last ReLU.

    Parameters
    ----------
    channels
        Width of input and output.
    bottleneck_ratio
        Width of the 1x1 convolution in units of ``channels``, rounded.
    groups, attention, drop_path, **unit
        As in :class:`ResidualBlock`.

    Inputs / Outputs
        ``(N, channels, H, W)`` for both.

    References
    ----------
    Redmon and Farhadi, "YOLOv3", Table 1.
    """

    def __init__(
        self,
        channels: int,
        bottleneck_ratio: float = 0.5,
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
            self.add(
                ConvNormAct(channels, width, prefix="conv1_", **unit),
                ConvNormAct(width, channels, 3, groups=groups, prefix="conv2_", **unit),
            )
            if attention == "se":
                self.add(SqueezeExcite(channels, prefix="attention_"))
            if drop_path:
                self.add(drop_path_layer(drop_path))

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Add the convolutions' output to the input."""
        return x + super().hybrid_forward(F, x)


class DarknetStage(Chain):
    """A stage of Darknet: ``down``, a 3x3 convolution of stride 2, and residual ``blocks``.

    Parameters
    ----------
    in_channels, channels
        Width of the input and of the output.
    num_blocks, **block
        As in :class:`ResidualStage`.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, channels, ceil(H / 2), ceil(W / 2))``.
    """

    strides = 2

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_blocks: int,
        prefix: str | None = None,
        **block: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        self.out_channels = channels
        unit = {key: block[key] for key in UNIT if key in block}
        place: dict[str, Any] = {"block_class": DarknetBlock, "prefix": "blocks_"}
        with self.name_scope():
            self.add(
                ConvNormAct(in_channels, channels, 3, strides=2, prefix="down_", **unit),
                ResidualStage(channels, num_blocks, **place, **block),
            )

    def output_size(self, size: int) -> int:
        """Return the height (or width) of the output for an input of ``size``."""
        return (size - 1) // 2 + 1
