# SPDX-License-Identifier: Apache-2.0
"""The layers before the first stage."""

from __future__ import annotations

import dataclasses

from mxnet.gluon import nn

from .base import Chain, Tensor, activation
from .norm import ChannelNorm, batch_norm
from .pelee import TwoWayPool
from .pooling import MaxBlurPool


@dataclasses.dataclass(frozen=True)
class StemSpec:
    """A row of ``STEMS``: a convolution, BN-ReLU if ``norm``, and a pooling of stride 2.

    ``pool`` is ``"max"`` (3x3 max-pooling), ``"two_way"`` (:class:`TwoWayPool`) or None.

    With ``convs`` > 1, BN-ReLU-Conv3x3 of stride 1 follow; all convolutions but the last have half
    of the stem's width.
    """

    kernel: int
    strides: int
    padding: int
    norm: bool
    pool: str | None
    convs: int = 1


STEMS = {
    "imagenet": StemSpec(kernel=7, strides=2, padding=3, norm=True, pool="max"),
    "imagenet3": StemSpec(kernel=3, strides=2, padding=1, norm=True, pool="max"),  # DPN-68
    # timm's "deep" stem: He et al., "Bag of Tricks for Image Classification", Fig. 2b (ResNet-C).
    "deep": StemSpec(kernel=3, strides=2, padding=1, norm=True, pool="max", convs=3),
    "darknet": StemSpec(kernel=3, strides=1, padding=1, norm=True, pool=None),
    "pelee": StemSpec(kernel=3, strides=2, padding=1, norm=True, pool="two_way"),
    "cifar": StemSpec(kernel=3, strides=1, padding=1, norm=False, pool=None),
    "patch4": StemSpec(kernel=4, strides=4, padding=0, norm=False, pool=None),  # RDNet
    "half": StemSpec(kernel=3, strides=2, padding=1, norm=False, pool=None),
    # Seed 002 has padding 1 (d2l and the papers have 3): 96 pixels become 46, not 48.
    "tutorial": StemSpec(kernel=7, strides=2, padding=1, norm=True, pool="max"),
}


class Stem(Chain):
    """The first convolutions, and BN-ReLU and pooling according to a row of :data:`STEMS`.

    The CIFAR networks have no BN-ReLU here because their first dense layer begins with one.

    Parameters
    ----------
    in_channels, channels
        Width of the image and of the output.
    kind
        A key of :data:`STEMS`.
    norm
        True adds BN-ReLU to any kind, for networks whose next block does not begin with one;
        ``"layer"`` ends any kind with layer normalization and no ReLU.
    act, slope
        As in ``activation`` of ``blocks.base``.
    blur_pool
        True replaces the max-pooling of stride 2 by :class:`MaxBlurPool`.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, channels, H / s, W / s)`` with s = 1, 2 or 4.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kind: str = "imagenet",
        use_bias: bool = False,
        eps: float = 1e-5,
        norm: bool | str = False,
        slope: float = 0.0,
        act: str = "relu",
        blur_pool: bool = False,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        self.spec = spec = STEMS[kind]
        # Size of the map that is pooled: 2x2 windows are without padding.
        self._least = 2 if blur_pool or spec.pool == "two_way" else 1
        self.out_channels = channels
        self.strides = spec.strides * (2 if spec.pool else 1)
        geometry = spec.kernel, spec.strides, spec.padding
        with self.name_scope():
            for index in range(1, spec.convs + 1):
                # The first one has no number, so that every stem begins with "conv".
                suffix, last = "" if index == 1 else str(index), index == spec.convs
                width = channels if last else max(1, channels // 2)
                conv = {"use_bias": use_bias, "in_channels": in_channels}
                self.add(nn.Conv2D(width, *geometry, prefix=f"conv{suffix}_", **conv))
                if last and norm == "layer":
                    self.add(ChannelNorm(width, eps, f"norm{suffix}_"))
                elif norm or spec.norm or not last:
                    self.add(batch_norm(width, eps, f"norm{suffix}_"))
                    self.add(activation(act, f"relu{suffix}_", slope))
                in_channels, geometry = width, (3, 1, 1)
            if spec.pool == "two_way":
                self.add(TwoWayPool(channels, slope=slope, eps=eps, prefix="pool_"))
            elif spec.pool:
                pool = nn.MaxPool2D(3, 2, padding=1, prefix="pool_")
                self.add(MaxBlurPool(prefix="pool_") if blur_pool else pool)

    def before_and_after_pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the feature map before the pooling and the output; equal without a pooling."""
        *layers, last = self._children.values()
        for layer in layers:
            x = layer(x)
        return (x, last(x)) if self.spec.pool else (last(x),) * 2

    def output_size(self, size: int) -> int:
        """Return the height (or width) of the output for an input of ``size``; < 1 if too small."""
        size = (size + 2 * self.spec.padding - self.spec.kernel) // self.spec.strides + 1
        if not self.spec.pool:
            return size
        return (size - 1) // 2 + 1 if size >= self._least else 0
