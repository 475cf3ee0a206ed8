# SPDX-License-Identifier: Apache-2.0
"""Building blocks of the networks; each takes ``in_channels`` and has ``out_channels``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .attention import ATTENTION, EffectiveSqueezeExcite, PathWeights, SqueezeExcite
    from .base import ACTIVATIONS, Chain, ConvNormAct, NormActConv, SiLU, Tensor, norm_act_conv
    from .csp import CSPStage
    from .darknet import DarknetBlock, DarknetStage
    from .dense import DenseBlock, DenseLayer, Transition
    from .dual_path import DualPathBlock, DualPathStage
    from .head import POOL_WINDOW, POOLS, mean_max_logits
    from .initializer import HeFanOut
    from .mixer import FeatureMixer, MixingBlock
    from .norm import ChannelNorm, norm_scope
    from .pelee import PeleeTransition, TwoWayBlock, TwoWayLayer, TwoWayPool
    from .pooling import MaxBlurPool
    from .residual import CSPResidualStage, ResidualBlock, ResidualStage
    from .stem import STEMS, Stem, StemSpec
else:
    __getattr__, __dir__ = attach(__name__)

__all__ = [
    "ACTIVATIONS",
    "ATTENTION",
    "POOLS",
    "STEMS",
    "POOL_WINDOW",
    "CSPResidualStage",
    "CSPStage",
    "Chain",
    "ChannelNorm",
    "ConvNormAct",
    "DarknetBlock",
    "DarknetStage",
    "DenseBlock",
    "DenseLayer",
    "DualPathBlock",
    "DualPathStage",
    "EffectiveSqueezeExcite",
    "FeatureMixer",
    "HeFanOut",
    "MaxBlurPool",
    "MixingBlock",
    "NormActConv",
    "PathWeights",
    "PeleeTransition",
    "ResidualBlock",
    "ResidualStage",
    "SiLU",
    "SqueezeExcite",
    "Stem",
    "StemSpec",
    "Tensor",
    "Transition",
    "TwoWayBlock",
    "TwoWayLayer",
    "TwoWayPool",
    "mean_max_logits",
    "norm_act_conv",
    "norm_scope",
]
