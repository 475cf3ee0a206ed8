# SPDX-License-Identifier: Apache-2.0
"""Darknet (Redmon and Farhadi, 2018, "YOLOv3") and CSPDarknet (Wang et al., 2019, "CSPNet")."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from mxnet.gluon import nn

from ..blocks.darknet import DarknetBlock, DarknetStage
from ..blocks.residual import CSPResidualStage
from ..errors import check, check_counts, check_range, is_number
from .network import Network
from .spec import NetworkSpec


@dataclasses.dataclass(frozen=True)
class DarknetSpec(NetworkSpec):
    """A Darknet or CSPDarknet; the defaults are those of Darknet-53.

    Parameters
    ----------
    num_blocks, widths
        Number of residual blocks and width of each stage.
    bottleneck_ratios
        Width of the 1x1 convolutions of each stage's blocks in units of their input's width.
    partial_ratio
        gamma in [0, 1), the ratio of channels that bypass the blocks; 0 for Darknet.
    expand_ratios
        With gamma > 0: c, width of x0 before the split, in units of each stage's width.
    slope
        Negative slope of each ReLU, in [0, 1). timm has 0.01, darknet 0.1.
    stem, num_init_features, final_norm
        A 3x3 convolution to 32 channels; no BN-ReLU at the end, because one follows each
        convolution.
    """

    stem: str = "darknet"
    num_init_features: int = 32
    final_norm: bool = False
    num_blocks: tuple[int, ...] = (1, 2, 8, 8, 4)
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    bottleneck_ratios: tuple[float, ...] = (0.5, 0.5, 0.5, 0.5, 0.5)
    partial_ratio: float = 0.0
    expand_ratios: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)
    slope: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts("num_blocks", self.num_blocks)
        check_counts("widths", self.widths)
        for name in ("bottleneck_ratios", "expand_ratios"):
            ratios = getattr(self, name)
            positive = isinstance(ratios, tuple) and all(is_number(r) and r > 0 for r in ratios)
            check(name, ratios, "a tuple of positive numbers", positive)
        rule = f"as long as num_blocks (={self.num_blocks})"
        for name in ("widths", "bottleneck_ratios", "expand_ratios"):
            value = getattr(self, name)
            check(name, value, rule, len(value) == len(self.num_blocks))
        check_range("partial_ratio", self.partial_ratio, 0, 1, closed="left")
        check_range("slope", self.slope, 0, 1, closed="left")
        rule = "None or 'se' without a partial_ratio, because there is one path"
        check("attention", self.attention, rule, self.attention != "path" or self.partial_ratio > 0)

    @property
    def stem_options(self) -> dict[str, Any]:
        """Every stem ends with BN-ReLU, because the first stage does not begin with it."""
        return {"norm": True, "slope": self.slope}


class Darknet(Network):
    """Stem and stages of residual blocks, each of which begins with a 3x3 convolution of stride 2.

    The rows are equivalent to timm's ``darknet53`` and ``cspdarknet53``.

    Deviations from the authors' configuration files are those of timm: one 1x1 convolution and a
    split replace their two convolutions, one per part, and [x0', xT] their [xT, x0'], which is
    equivalent; and the ReLU has a slope of 0.01 instead of 0.1.

    References
    ----------
    YOLOv3, Table 1; CSPNet, section 3.1, Fig. 5; WongKinYiu/CrossStagePartialNetworks,
    ``cfg/csdarknet53.cfg``; timm, ``models/cspnet.py``.
    """

    spec: DarknetSpec

    def stages(self, in_channels: int) -> Iterator[nn.HybridBlock]:
        """Yield the stages; each halves the size."""
        spec = self.spec
        unit = {name: getattr(spec, name) for name in ("slope", "eps", "dropout", "dropout_after")}
        csp: dict[str, Any] = {"widen_down": True, "expand_act": True, "block_class": DarknetBlock}
        rates = spec.drop_path_rates(spec.num_blocks)
        rows = zip(spec.widths, spec.num_blocks, spec.bottleneck_ratios, spec.expand_ratios, rates)
        for index, (width, num_blocks, bottleneck, expand, drop_path) in enumerate(rows, start=1):
            options = {"bottleneck_ratio": bottleneck, "attention": spec.attention, **unit}
            options.update(drop_path=drop_path, prefix=f"stage{index}_")
            if spec.partial_ratio:
                csp.update(strides=2, expand_ratio=expand, partial_ratio=spec.partial_ratio)
                yield CSPResidualStage(in_channels, width, num_blocks, **csp, **options)
            else:
                yield DarknetStage(in_channels, width, num_blocks, **options)
            in_channels = width


SPECS = {
    "darknet53": DarknetSpec(),
    "csp_darknet53": DarknetSpec(
        partial_ratio=0.5,
        bottleneck_ratios=(0.5, 1.0, 1.0, 1.0, 1.0),
        expand_ratios=(2.0, 1.0, 1.0, 1.0, 1.0),
    ),
}
