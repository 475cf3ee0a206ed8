"""DPN (Chen et al., 2017, "Dual Path Networks")."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from mxnet.gluon import nn

from ..blocks import DualPathStage
from ..errors import check, check_counts, is_count
from .network import Network
from .spec import NetworkSpec


@dataclasses.dataclass(frozen=True)
class DPNSpec(NetworkSpec):
    """A DPN; the defaults are DPN-92's.

    Parameters
    ----------
    num_blocks
        k_sec, number of blocks of each stage.
    bottleneck_width
        k_R, width of the first stage's bottlenecks; doubled with each stage.
    residual_width
        bw, width of the first stage's residual path; doubled with each stage.
    increments
        inc_sec, maps that each block of a stage adds to the dense path.
    groups
        G of the 3x3 convolutions.
    eps
        1e-3, the default of MXNet's operator, which the authors' symbols left as it is.
    """

    eps: float = 1e-3
    num_blocks: tuple[int, ...] = (3, 4, 20, 3)
    bottleneck_width: int = 96
    residual_width: int = 256
    increments: tuple[int, ...] = (16, 32, 24, 128)
    groups: int = 32

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        for name in ("num_blocks", "increments"):
            check_counts(name, getattr(self, name))
        for name in ("bottleneck_width", "residual_width", "groups"):
            value = getattr(self, name)
            check(name, value, "a positive integer", is_count(value))
        rule = f"as long as num_blocks (={self.num_blocks})"
        check("increments", self.increments, rule, len(self.increments) == len(self.num_blocks))
        rule = f"divisible by groups (={self.groups})"
        width = self.bottleneck_width
        check("bottleneck_width", width, rule, width % self.groups == 0)


class DPN(Network):
    """Stem, four stages of dual-path blocks, final BN-ReLU.

    Deviations from the authors' symbols: pooling is global, not 7x7. DPN-68b's two 1x1 convolutions
    behind one BN-ReLU are one convolution here, whose filters are theirs one above the other: the
    same function and the same number of parameters, so 68 and 68b differ in their published weights
    only.

    References
    ----------
    Paper, section 4, Table 1; cypw/DPNs, ``settings/symbol_dpn*.py``.
    """

    spec: DPNSpec

    def stages(self, in_channels: int) -> Iterator[nn.HybridBlock]:
        """Yield the stages; the widths double and, from the second on, the maps halve."""
        spec = self.spec
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

SPECS = {
    "dpn68": _DPN68,
    "dpn68b": _DPN68,
    "dpn92": DPNSpec(),
    "dpn98": DPNSpec(
        num_init_features=96,
        num_blocks=(3, 6, 20, 3),
        bottleneck_width=160,
        increments=(16, 32, 32, 128),
        groups=40,
    ),
    "dpn107": DPNSpec(
        num_init_features=128,
        num_blocks=(4, 8, 20, 3),
        bottleneck_width=200,
        increments=(20, 64, 64, 128),
        groups=50,
    ),
    "dpn131": DPNSpec(
        num_init_features=128,
        num_blocks=(4, 8, 28, 3),
        bottleneck_width=160,
        increments=(16, 32, 32, 128),
        groups=40,
    ),
}
# Seed 001's listing has neither the authors' final BN-ReLU nor their eps.
SPECS.update(
    {
        f"{name}_listing": dataclasses.replace(SPECS[name], final_norm=False, eps=1e-5)
        for name in ("dpn92", "dpn98", "dpn107", "dpn131")
    }
)
