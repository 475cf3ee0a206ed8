# SPDX-License-Identifier: Apache-2.0
"""CSP-DenseNet (Wang et al., 2019, "CSPNet: A New Backbone that can Enhance Learning Capability").

The widths of the two transitions of CSPDenseNet are not published, so gluondense defines them. With
c input channels of a stage of L layers, c' = floor(gamma c) that bypass it, and c'' = c - c':

========= ============================== ================================= =======================
fusion    T, on [x0'', x1 … xL]          then                              U, on [x0', xT]
========= ============================== ================================= =======================
"both"    to (c'' + L k) // 2            concatenate                       to floor(theta (c + L k))
"first"   –                              concatenate                       to floor(theta (c + L k))
"last"    to floor(theta (c + L k)) - c' concatenate                       –
========= ============================== ================================= =======================

So every stage has the same input width as in DenseNet. 2x2 average pooling follows. The last stage
has neither U nor pooling; its T, if it has one, is that of "both". The paper's ImageNet results are
those of other, unpublished networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from mxnet.gluon import nn

from ..blocks.csp import CSPStage
from ..blocks.dense import DenseBlock, Transition
from ..errors import check_choice, check_flag, check_range
from .network import Network
from .spec import DenseSpec

FUSIONS = ("both", "first", "last")
WIDTHS = ("densenet", "halved")


@dataclasses.dataclass(frozen=True)
class CSPDenseNetSpec(DenseSpec):
    """A CSP-DenseNet; the defaults are those of CSP-DenseNet-121.

    Parameters
    ----------
    fusion
        Where the two parts of a stage meet: ``"both"`` (Fig. 3b), ``"first"`` (3c) or ``"last"``
        (3d).
    partial_ratio
        gamma in (0, 1), the ratio of channels that bypass the dense layers.
    transition_widths
        ``"densenet"`` for the table of this module; ``"halved"`` for the listing, in which
        each transition halves the width of its input.
    keep_input
        Whether x0'' is an input of T, as in eq. 3; False in the listing.
    downsample
        Whether a stage of ``fusion="last"`` ends with pooling; False in the listing.
    """

    fusion: str = "last"
    partial_ratio: float = 0.5
    transition_widths: str = "densenet"
    keep_input: bool = True
    downsample: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("fusion", self.fusion, FUSIONS)
        check_range("partial_ratio", self.partial_ratio, 0, 1, closed="neither")
        check_choice("transition_widths", self.transition_widths, WIDTHS)
        for name in ("keep_input", "downsample"):
            check_flag(name, getattr(self, name))


class CSPDenseNet(Network):
    """Stem, cross-stage partial dense blocks with transitions between them, final BN-ReLU.

    References
    ----------
    Paper, section 3.1, eq. 3 and 7, Fig. 3; Knight825/models-pytorch, "the listing", for the
    ``_listing`` rows.
    """

    spec: CSPDenseNetSpec

    def stages(self, in_channels: int) -> Iterator[nn.HybridBlock]:
        """Yield partial dense blocks with T, and U and pooling between them."""
        spec, channels = self.spec, in_channels
        rates = spec.drop_path_rates(spec.block_config)
        for index, num_layers in enumerate(spec.block_config, start=1):
            last = index == len(spec.block_config)
            stage = self._stage(channels, rates[index - 1], last, f"stage{index}_")
            yield stage
            if last:
                return
            transition = self._transition(channels, num_layers, stage, f"transition{index}_")
            yield transition
            channels = transition.out_channels

    def _densenet_width(self, channels: int, num_layers: int) -> int:
        return int(self.spec.compression * (channels + num_layers * self.spec.growth_rate))

    def _stage(
        self, channels: int, drop_path: Sequence[float], last: bool, prefix: str
    ) -> CSPStage:
        spec, num_layers = self.spec, len(drop_path)
        densenet_width = spec.fusion == "last" and spec.transition_widths == "densenet" and not last
        bypass = int(spec.partial_ratio * channels)

        def first_transition(in_channels: int, prefix: str) -> Transition:
            width = in_channels // 2
            if densenet_width:
                width = self._densenet_width(channels, num_layers) - bypass
            return Transition(in_channels, width, pool=False, prefix=prefix, **spec.conv)

        block: Any = partial(
            DenseBlock,
            num_layers=num_layers,
            growth_rate=spec.growth_rate,
            bn_size=spec.bn_size,
            # The two paths of a CSP stage are weighted at its end, where they are concatenated.
            attention="se" if spec.attention == "se" else None,
            keep_input=spec.keep_input,
            drop_path=drop_path,
            **spec.conv,
        )
        transition = None if spec.fusion == "first" else first_transition
        path = "path" if spec.attention == "path" else None
        return CSPStage(channels, block, transition, spec.partial_ratio, path, prefix=prefix)

    def _transition(
        self, channels: int, num_layers: int, stage: CSPStage, prefix: str
    ) -> Transition:
        spec = self.spec
        width: int | None = self._densenet_width(channels, num_layers)
        if spec.transition_widths == "halved":
            width = int(spec.compression * stage.out_channels)
        pool = True
        if spec.fusion == "last":
            width, pool = None, spec.downsample
        return Transition(stage.out_channels, width, pool=pool, prefix=prefix, **spec.conv)


_DENSENETS = {  # depth: num_init_features, growth_rate, block_config
    121: (64, 32, (6, 12, 24, 16)),
    161: (96, 48, (6, 12, 36, 24)),
    169: (64, 32, (6, 12, 32, 32)),
    201: (64, 32, (6, 12, 48, 32)),
    264: (64, 32, (6, 12, 64, 48)),
}

SPECS = {
    f"csp_densenet{depth}": CSPDenseNetSpec(
        num_init_features=init, growth_rate=k, block_config=config
    )
    for depth, (init, k, config) in _DENSENETS.items()
}
SPECS.update(
    {
        f"csp_densenet{depth}_listing": dataclasses.replace(
            SPECS[f"csp_densenet{depth}"],
            transition_widths="halved",
            keep_input=False,
            downsample=False,
        )
        for depth in (121, 161, 169, 201)
    }
)
# DenseNet-BC for small images, see `densenet`, with the stages of CSPNet.
SPECS.update(
    {
        f"csp_densenet{depth}_k12_bc_{data}": CSPDenseNetSpec(
            stem="cifar",
            num_init_features=24,
            growth_rate=12,
            block_config=((depth - 4) // 6,) * 3,
            classes=classes,
        )
        for depth in (40, 100)
        for data, classes in (("cifar10", 10), ("cifar100", 100), ("svhn", 10))
    }
)
