# SPDX-License-Identifier: Apache-2.0
"""CSPResNet and CSPResNeXt (Wang et al., 2019, "CSPNet: A New Backbone …", section 3.1, Fig. 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from mxnet.gluon import nn

from ..blocks.residual import CSPResidualStage
from ..errors import check, check_count, check_counts, check_range
from .network import Network
from .spec import NetworkSpec

# The fields of a spec that every stage gets.
STAGE_FIELDS = (
    *("expand_ratio", "partial_ratio", "bottleneck_ratio", "groups"),
    *("attention", "slope", "eps", "dropout", "dropout_after"),
)


@dataclasses.dataclass(frozen=True)
class CSPResNetSpec(NetworkSpec):
    """A CSPResNet or CSPResNeXt; the defaults are those of CSPResNet-50.

    Parameters
    ----------
    num_blocks
        Number of residual blocks of each stage.
    widths
        Width of the output of each stage.
    expand_ratio
        c, width of x0 before the split, in units of the stage's width.
    partial_ratio
        gamma in (0, 1), the ratio of channels that bypass the residual blocks.
    bottleneck_ratio
        Width of a block's 3x3 convolution in units of its input's width c - floor(gamma c).
    groups
        G, groups of the 3x3 convolutions: 1 for ResNet, 32 for ResNeXt.
    slope
        Negative slope of each ReLU, in [0, 1). timm has 0.01, darknet 0.1.
    final_norm
        False, because BN-ReLU already follows each convolution.
    """

    final_norm: bool = False
    num_blocks: tuple[int, ...] = (3, 3, 5, 2)
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    expand_ratio: float = 2.0
    partial_ratio: float = 0.5
    bottleneck_ratio: float = 0.5
    groups: int = 1
    slope: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts("num_blocks", self.num_blocks)
        check_counts("widths", self.widths)
        rule = f"as long as num_blocks (={self.num_blocks})"
        check("widths", self.widths, rule, len(self.widths) == len(self.num_blocks))
        for name in ("expand_ratio", "bottleneck_ratio"):
            check_range(name, getattr(self, name), 0, closed="neither")
        check_range("partial_ratio", self.partial_ratio, 0, 1, closed="neither")
        check_count("groups", self.groups)
        check_range("slope", self.slope, 0, 1, closed="left")

    @property
    def stem_options(self) -> dict[str, Any]:
        """Every stem ends with BN-ReLU, because the first stage does not begin with it."""
        return {"norm": True, "slope": self.slope}


class CSPResNet(Network):
    """Stem and partial stages of residual blocks, each of which downsamples, expands and fuses.

    The rows are equivalent to timm's ``cspresnet50``, ``50d`` and ``50w``, and ``cspresnext50``.

    Deviations from the authors' configuration files are those of timm. Two are equivalent: one 1x1
    convolution and a split replace their two convolutions, one per part, and [x0', xT] replaces
    their [xT, x0']. Three are not: in their first stage x0'' is half as wide as x0' and both parts
    pass a ReLU, their stem pools 2x2 instead of 3x3, and their ReLU has a slope of 0.1 instead of
    0.01.

    References
    ----------
    Paper, section 3.1, "Apply CSPNet to Other Architectures";
    WongKinYiu/CrossStagePartialNetworks, ``cfg/csresnet50.cfg`` and ``cfg/csresnext50.cfg``;
    timm, ``models/cspnet.py``.
    """

    spec: CSPResNetSpec

    def stages(self, in_channels: int) -> Iterator[nn.HybridBlock]:
        """Yield the stages; sizes halve from the second stage on."""
        spec, options = self.spec, {name: getattr(self.spec, name) for name in STAGE_FIELDS}
        rates = spec.drop_path_rates(spec.num_blocks)
        for index, (num_blocks, width) in enumerate(zip(spec.num_blocks, spec.widths), start=1):
            place: dict[str, Any] = {"strides": 1 if index == 1 else 2, "prefix": f"stage{index}_"}
            place["drop_path"] = rates[index - 1]
            yield CSPResidualStage(in_channels, width, num_blocks, **place, **options)
            in_channels = width


SPECS = {
    "csp_resnet50": CSPResNetSpec(),
    "csp_resnext50": CSPResNetSpec(
        widths=(256, 512, 1024, 2048), expand_ratio=1.0, bottleneck_ratio=1.0, groups=32
    ),
    "csp_resnet50d": CSPResNetSpec(stem="deep"),
    "csp_resnet50w": CSPResNetSpec(
        stem="deep", widths=(256, 512, 1024, 2048), expand_ratio=1.0, bottleneck_ratio=0.25
    ),
}
