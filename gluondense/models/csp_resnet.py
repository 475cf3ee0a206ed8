"""CSPResNet and CSPResNeXt (Wang et al., 2019, "CSPNet: A New Backbone …", section 3.1, Fig. 5)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from mxnet.gluon import nn

from ..blocks import CSPResidualStage
from ..errors import check, check_counts, is_count, is_number
from .network import Network
from .spec import NetworkSpec


@dataclasses.dataclass(frozen=True)
class CSPResNetSpec(NetworkSpec):
    """A CSPResNet or CSPResNeXt; the defaults are CSPResNet-50's.

    Parameters
    ----------
    num_blocks
        Number of residual blocks of each stage.
    widths
        Width of each stage's output.
    expand_ratio
        c, width of x0, which is cut in two, in units of the stage's width.
    partial_ratio
        gamma in (0, 1), the part of the channels that bypasses the residual blocks.
    bottleneck_ratio
        Width of a block's 3x3 convolution in units of c - floor(gamma c), its input's.
    groups
        G of the 3x3 convolutions; 1 is ResNet's, 32 ResNeXt's.
    slope
        In [0, 1): of the negative half of each ReLU. 0.01 is timm's, darknet's is 0.1.
    final_norm
        False, as each convolution already has BN-ReLU behind it.
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
        """Check the fields."""
        super().__post_init__()
        check_counts("num_blocks", self.num_blocks)
        check_counts("widths", self.widths)
        rule = f"as long as num_blocks (={self.num_blocks})"
        check("widths", self.widths, rule, len(self.widths) == len(self.num_blocks))
        for name in ("expand_ratio", "bottleneck_ratio"):
            ratio = getattr(self, name)
            holds = is_number(ratio) and 0 < ratio < math.inf
            check(name, ratio, "a positive number", holds)
        gamma = self.partial_ratio
        check("partial_ratio", gamma, "in (0, 1)", is_number(gamma) and 0 < gamma < 1)
        check("groups", self.groups, "a positive integer", is_count(self.groups))
        slope = self.slope
        check("slope", slope, "in [0, 1)", is_number(slope) and 0 <= slope < 1)

    @property
    def stem_options(self) -> dict[str, Any]:
        """The first stage does not begin with BN-ReLU, so that every stem ends with it."""
        return {"norm": True, "slope": self.slope}


class CSPResNet(Network):
    """Stem, then partial stages of residual blocks, each of which downsamples, expands and fuses.

    The rows give the numbers of timm's ``cspresnet50`` and ``cspresnext50``.

    Deviations from the authors' configuration files are timm's: one 1x1 convolution, which is then
    cut, stands for their two, one a part, and [x0', xT] for their [xT, x0'], which are the same
    functions; but in their first stage x0'' is half as wide as x0', and both pass a ReLU at once.
    Their stem pools 2x2, not 3x3, and their ReLU has a slope of 0.1, not 0.01.

    References
    ----------
    Paper, section 3.1, "Apply CSPNet to Other Architectures";
    WongKinYiu/CrossStagePartialNetworks, ``cfg/csresnet50.cfg`` and ``cfg/csresnext50.cfg``;
    timm, ``models/cspnet.py``.
    """

    spec: CSPResNetSpec

    def stages(self, in_channels: int) -> Iterator[nn.HybridBlock]:
        """Yield the stages; from the second on, the maps halve."""
        spec = self.spec
        for index, (num_blocks, width) in enumerate(zip(spec.num_blocks, spec.widths), start=1):
            yield CSPResidualStage(
                in_channels,
                width,
                num_blocks,
                strides=1 if index == 1 else 2,
                expand_ratio=spec.expand_ratio,
                partial_ratio=spec.partial_ratio,
                bottleneck_ratio=spec.bottleneck_ratio,
                groups=spec.groups,
                attention=spec.attention,
                slope=spec.slope,
                eps=spec.eps,
                dropout=spec.dropout,
                prefix=f"stage{index}_",
            )
            in_channels = width


SPECS = {
    "csp_resnet50": CSPResNetSpec(),
    "csp_resnext50": CSPResNetSpec(
        widths=(256, 512, 1024, 2048), expand_ratio=1.0, bottleneck_ratio=1.0, groups=32
    ),
}
