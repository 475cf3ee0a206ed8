# SPDX-License-Identifier: Apache-2.0
"""DPN (Chen et al., 2017, "Dual Path Networks")."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from mxnet.gluon import nn

from ..blocks.base import ACTIVATIONS
from ..blocks.dual_path import DualPathStage
from ..errors import check, check_choice, check_count, check_counts
from .network import Network
from .spec import NetworkSpec


@dataclasses.dataclass(frozen=True)
class DPNSpec(NetworkSpec):
    """A DPN; the defaults are those of DPN-92.

    Parameters
    ----------
    num_blocks
        k_sec, number of blocks of each stage.
    bottleneck_width
        k_R, width of the bottlenecks of the first stage. It doubles with each stage.
    residual_width
        bw, width of the residual path of the first stage. It doubles with each stage.
    increments
        inc_sec, number of channels that each block of a stage adds to the dense path.
    groups
        G, groups of the 3x3 convolutions.
    act
        Activation of the stem and after the last stage, a key of ``gluondense.blocks.ACTIVATIONS``;
        the blocks have ReLU. timm's DPN-48b has ``"silu"``.
    eps
        1e-3, the default of MXNet's operator, which the authors' symbols use.
    """

    eps: float = 1e-3
    num_blocks: tuple[int, ...] = (3, 4, 20, 3)
    bottleneck_width: int = 96
    residual_width: int = 256
    increments: tuple[int, ...] = (16, 32, 24, 128)
    groups: int = 32
    act: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_blocks", "increments"):
            check_counts(name, getattr(self, name))
        for name in ("bottleneck_width", "residual_width", "groups"):
            check_count(name, getattr(self, name))
        rule = f"as long as num_blocks (={self.num_blocks})"
        check("increments", self.increments, rule, len(self.increments) == len(self.num_blocks))
        rule = f"divisible by groups (={self.groups})"
        width = self.bottleneck_width
        check("bottleneck_width", width, rule, width % self.groups == 0)
        check_choice("act", self.act, ACTIVATIONS)

    @property
    def stem_options(self) -> dict[str, Any]:
        """The stem ends with the network's activation."""
        return {"act": self.act}

    @property
    def final_act(self) -> str:
        """The activation after the last batch normalization."""
        return self.act


class DPN(Network):
    """Stem, four stages of dual-path blocks, final BN-ReLU.

    Deviations from the authors' symbols: pooling is global, not 7x7. Where DPN-68b has two 1x1
    convolutions after one BN-ReLU, this has one convolution with their stacked filters. It is the
    same function with the same number of parameters, so 68 and 68b differ only in their published
    weights. ``dpn48b`` is timm's, with SiLU in the stem and after the last stage only.

    References
    ----------
    Paper, section 4, Table 1; cypw/DPNs, ``settings/symbol_dpn*.py``; timm, ``models/dpn.py``.
    """

    spec: DPNSpec

    def stages(self, in_channels: int) -> Iterator[nn.HybridBlock]:
        """Yield the stages; widths double, and sizes halve from the second stage on."""
        spec = self.spec
        rates = spec.drop_path_rates(spec.num_blocks)
        for index, (blocks, increment) in enumerate(zip(spec.num_blocks, spec.increments)):
            stage = DualPathStage(
                in_channels,
                blocks,
                strides=1 if index == 0 else 2,
                bottleneck_width=spec.bottleneck_width * 2**index,
                residual_width=spec.residual_width * 2**index,
                increment=increment,
                groups=spec.groups,
                dropout=spec.dropout,
                dropout_after=spec.dropout_after,
                drop_path=rates[index],
                eps=spec.eps,
                attention=spec.attention,
                prefix=f"stage{index + 1}_",
            )
            yield stage
            in_channels = stage.out_channels


_DPN68 = DPNSpec(
    stem="imagenet3",
    num_init_features=10,
    num_blocks=(3, 4, 12, 3),
    bottleneck_width=128,
    residual_width=64,
    increments=(16, 32, 32, 64),
)
_FIELDS = ("num_init_features", "num_blocks", "bottleneck_width", "increments", "groups")
_ROWS: dict[int, tuple[Any, ...]] = {  # depth: _FIELDS
    92: (64, (3, 4, 20, 3), 96, (16, 32, 24, 128), 32),
    98: (96, (3, 6, 20, 3), 160, (16, 32, 32, 128), 40),
    107: (128, (4, 8, 20, 3), 200, (20, 64, 64, 128), 50),
    131: (128, (4, 8, 28, 3), 160, (16, 32, 32, 128), 40),
}

SPECS = {
    "dpn48b": dataclasses.replace(_DPN68, num_blocks=(3, 4, 6, 3), act="silu"),
    "dpn68": _DPN68,
    "dpn68b": _DPN68,
    **{f"dpn{depth}": DPNSpec(**dict(zip(_FIELDS, row))) for depth, row in _ROWS.items()},
}
# Seed 001's listing lacks the final BN-ReLU and has another eps than the authors.
SPECS.update(
    {
        f"{name}_listing": dataclasses.replace(SPECS[name], final_norm=False, eps=1e-5)
        for name in ("dpn92", "dpn98", "dpn107", "dpn131")
    }
)
