# SPDX-License-Identifier: Apache-2.0
"""The base network of CenterNet: a backbone and deconvolutions to stride 4."""

from __future__ import annotations

from typing import Any

import mxnet as mx
from mxnet.gluon import nn

from ..blocks.base import Chain, ConvNormAct, Tensor, activation
from ..blocks.norm import batch_norm
from ..models.network import Network

FILTERS = (256, 128, 64)


class Deconvolutions(nn.HybridBlock):
    """A backbone of stride 32 and three times a 3x3 unit and a 4x4 deconvolution of stride 2.

    Deconvolutions begin as bilinear upsampling, as in GluonCV's ``DeconvResnet``, which has biases
    in the 3x3 convolutions and draws values between the channels.

    Parameters
    ----------
    backbone
        Returns one map, of stride 32.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, 64, H / 4, W / 4)``; H and W are divisible by 32.

    References
    ----------
    Zhou et al., "Objects as Points", section 5; Xiao et al., "Simple Baselines for Human Pose
    Estimation", section 2.
    """

    def __init__(self, backbone: Network, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self.backbone = backbone
        channels, eps = backbone.out_channels, backbone.spec.eps
        with self.name_scope():
            self.deconv = Chain(prefix="deconv_")
            with self.deconv.name_scope():
                for index, width in enumerate(FILTERS, start=1):
                    self.deconv.add(
                        ConvNormAct(channels, width, 3, eps=eps, prefix=f"conv{index}_"),
                        nn.Conv2DTranspose(
                            width,
                            *(4, 2, 1),
                            in_channels=width,
                            use_bias=False,
                            weight_initializer=BilinearUpsampling(),
                            prefix=f"up{index}_",
                        ),
                        batch_norm(width, eps, f"norm{index}_"),
                        activation("relu", f"relu{index}_"),
                    )
                    channels = width
        self.out_channels = channels

    def hybrid_forward(self, F: Any, x: Tensor) -> Tensor:
        """Upsample the backbone's map."""
        return self.deconv(self.backbone(x)[0])


@mx.init.register
class BilinearUpsampling(mx.init.Initializer):
    """Weights of a 4x4 deconvolution that upsamples each channel bilinearly."""

    def _init_weight(self, name: str, arr: Any) -> None:
        line = mx.nd.array([1, 3, 3, 1], arr.context) / 4
        square = line.reshape((4, 1)) * line.reshape((1, 4))
        same = mx.nd.eye(*arr.shape[:2], ctx=arr.context).expand_dims(2).expand_dims(3)
        arr[:] = same * square.expand_dims(0).expand_dims(0)
