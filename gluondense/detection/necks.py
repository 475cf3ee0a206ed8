# SPDX-License-Identifier: Apache-2.0
"""Necks of YOLOv3 detectors: they fuse the backbone's maps and end with a head for each scale.

==== ===============================================================================================
FPN  a scale reads its map and the head of the next coarser scale: YOLOv3's own neck
GFM  a scale reads all three scales (global fusion, CSPNet, Fig. 6b)
EFM  a scale reads its map, the next finer and the next coarser one (exact fusion, Fig. 6c)
==== ===============================================================================================

CSPNet's section 3.2 says which maps a scale gathers and that Maxout compresses them; neither
configuration nor weights were published. The widths here, and that each map is resampled to the
width of its scale, are this project's:

- lateral: L_s = Maxout2(unit1x1(C_s -> 2 w_s)); L_64 = Maxout2(unit3x3/2(C_32 -> 2 w_64));
- fusion: F_s = [R(L_t) for the strides t that s gathers], each R(L_t) of w_s channels, with
  R(L_t) = L_s for t = s, space_to_depth(unit1x1(L_t)) for finer and upsample(unit1x1(L_t)) for
  coarser maps;
- head: 1x1 -> w_s, 3x3 -> 2 w_s, SAM, 1x1 -> w_s, 3x3 -> 2 w_s.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mxnet.gluon import nn

from ..blocks.base import Chain, Tensor
from .blocks import SPP, Maxout, SpaceToDepth, SpatialAttention, Upsample, conv_unit
from .spec import STRIDES, DetectorSpec

# Stride -> width of a map in the neck before the factor `width`.
WIDTHS = {4: 64, 8: 128, 16: 256, 32: 512, 64: 256}
WIDTH_STEP = 16  # GFM moves 4 x 4 pixels to channels: a sixteenth of a width is an integer


def width_at(stride: int, factor: float) -> int:
    """Return the width of the neck at a stride, rounded to a multiple of 16.

    Examples
    --------
    >>> width_at(8, 1.0), width_at(32, 0.3)
    (128, 160)
    """
    return WIDTH_STEP * max(1, round(WIDTHS[stride] * factor / WIDTH_STEP))


class Head(nn.HybridBlock):
    """Pairs of a 1x1 and a 3x3 unit; the second output, before the last 3x3, is for other scales.

    Parameters
    ----------
    in_channels
        Width of the input.
    width
        Width of the 1x1 units; the 3x3 units have twice as much.
    depth
        Number of pairs.
    attention
        ``"sam"`` for spatial attention after the 3x3 unit before the last pair, or None.

    Inputs / Outputs
        ``(N, in_channels, H, W)`` to ``(N, 2 width, H, W)`` and ``(N, width, H, W)``.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        depth: int,
        attention: str | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prefix=prefix)
        self.out_channels = 2 * width
        with self.name_scope():
            self.body = Chain(prefix="body_")
            with self.body.name_scope():
                for index in range(1, depth):
                    self.body.add(
                        conv_unit(in_channels, width, prefix=f"reduce{index}_"),
                        conv_unit(width, 2 * width, 3, prefix=f"expand{index}_"),
                    )
                    in_channels = 2 * width
                if attention == "sam":
                    self.body.add(SpatialAttention(in_channels, prefix="attention_"))
                self.body.add(conv_unit(in_channels, width, prefix=f"reduce{depth}_"))
            self.expand = conv_unit(width, 2 * width, 3, prefix=f"expand{depth}_")

    def hybrid_forward(self, F: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the predictions and those for other scales."""
        route = self.body(x)
        return self.expand(route), route


class Neck(nn.HybridBlock):
    """The base class of the necks.

    Parameters
    ----------
    channels
        Stride of each of the backbone's maps -> its width.
    spec
        The detector.

    Attributes
    ----------
    strides
        Strides of the backbone's maps that the neck reads, finest first.
    out_channels
        Width of the output of each scale, coarsest first.

    Inputs / Outputs
        A map for each of ``strides`` to a map ``(N, out_channels, H / s, W / s)`` for each stride s
        of 32, 16 and 8, coarsest first.
    """

    strides: tuple[int, ...] = STRIDES

    def __init__(
        self, channels: Mapping[int, int], spec: DetectorSpec, prefix: str | None = None
    ) -> None:
        super().__init__(prefix=prefix)
        self.widths = {stride: width_at(stride, spec.width) for stride in WIDTHS}
        self.spp: nn.HybridBlock | None = None
        with self.name_scope():
            if spec.spp:
                self.spp = SPP(channels[STRIDES[-1]], prefix="spp_")
            gathered = self.add_fusion(channels)
            self.head = Chain(prefix="head_")
            with self.head.name_scope():
                for stride in STRIDES[::-1]:
                    sizes = gathered[stride], self.widths[stride], spec.head_depth
                    self.head.add(Head(*sizes, spec.attention, prefix=f"stride{stride}_"))
        self.out_channels = [head.out_channels for head in self.head]

    def add_fusion(self, channels: Mapping[int, int]) -> dict[int, int]:
        """Add the blocks before the heads; return the width of each head's input."""
        raise NotImplementedError(f"{type(self).__name__} must implement add_fusion().")

    def fuse(self, F: Any, maps: dict[int, Tensor]) -> list[Tensor]:
        """Return the outputs of the heads, coarsest first."""
        raise NotImplementedError(f"{type(self).__name__} must implement fuse().")

    def hybrid_forward(self, F: Any, *maps: Tensor) -> list[Tensor]:
        """Fuse the maps and run the heads."""
        of = dict(zip(self.strides, maps))
        if self.spp is not None:
            of[STRIDES[-1]] = self.spp(of[STRIDES[-1]])
        return self.fuse(F, of)


class FPN(Neck):
    """YOLOv3's neck: the head of a scale passes its features on to the next finer scale.

    F_s = [upsample2(unit1x1(route of the head at 2 s -> w_s)), C_s] and F_32 = C_32. Without
    attention and with ``head_depth=3`` it is GluonCV's, weight for weight.

    References
    ----------
    Redmon and Farhadi, "YOLOv3", section 2.3; GluonCV, ``YOLOV3``.
    """

    def add_fusion(self, channels: Mapping[int, int]) -> dict[int, int]:
        """Add a unit and an upsampling for each scale but the coarsest."""
        self.resample = Chain(prefix="resample_")
        gathered = {STRIDES[-1]: channels[STRIDES[-1]]}
        with self.resample.name_scope():
            for stride in STRIDES[-2::-1]:
                self.resample.add(resample(2 * stride, stride, self.widths))
                gathered[stride] = self.widths[stride] + channels[stride]
        return gathered

    def fuse(self, F: Any, maps: dict[int, Tensor]) -> list[Tensor]:
        """Run the heads from the coarsest scale."""
        outputs = []
        x = maps[STRIDES[-1]]
        for head, up, stride in zip(self.head, [*self.resample, None], STRIDES[::-1]):
            output, route = head(x)
            outputs.append(output)
            if up is not None:
                x = F.concat(up(route), maps[stride // 2], dim=1)
        return outputs


class Gather(Neck):
    """A neck whose scales read lateral maps of fixed strides.

    Attributes
    ----------
    sources
        Stride of each scale -> strides of the maps that it gathers, finest first.
    """

    sources: Mapping[int, tuple[int, ...]]

    def add_fusion(self, channels: Mapping[int, int]) -> dict[int, int]:
        """Add the lateral units, and what resamples their outputs."""
        self.lateral, self.resample = Chain(prefix="lateral_"), Chain(prefix="resample_")
        with self.lateral.name_scope():
            for stride in self._gathered():
                self.lateral.add(lateral(stride, channels, self.widths))
        with self.resample.name_scope():
            for target, sources in self.sources.items():
                self.resample.add(
                    *[resample(each, target, self.widths) for each in sources if each != target]
                )
        return {s: len(sources) * self.widths[s] for s, sources in self.sources.items()}

    def _gathered(self) -> list[int]:
        """Return the strides of the lateral maps."""
        return sorted({stride for sources in self.sources.values() for stride in sources})

    def fuse(self, F: Any, maps: dict[int, Tensor]) -> list[Tensor]:
        """Gather the maps of each scale and run its head."""
        laterals = {
            stride: block(maps[min(stride, STRIDES[-1])])
            for stride, block in zip(self._gathered(), self.lateral)
        }
        resampling = iter(self.resample)
        fused = {}
        for target, sources in self.sources.items():
            parts = [
                laterals[each] if each == target else next(resampling)(laterals[each])
                for each in sources
            ]
            if sources[-1] > STRIDES[-1]:  # stride 64 has rounded up, if H / 32 or W / 32 is odd
                parts[-1] = F.slice_like(parts[-1], laterals[target], axes=(2, 3))
            fused[target] = F.concat(*parts, dim=1)
        return [head(fused[stride])[0] for head, stride in zip(self.head, STRIDES[::-1])]


class GFM(Gather):
    """Global fusion: every scale reads all three scales. See :class:`Neck`."""

    sources = MappingProxyType(dict.fromkeys(STRIDES, STRIDES))


class EFM(Gather):
    """Exact fusion: a scale reads its map, the next finer and the next coarser one.

    The finest map has stride 4, the coarsest, 64, is made from the backbone's last. See
    :class:`Neck`.
    """

    strides = (4, *STRIDES)
    sources = MappingProxyType({stride: (stride // 2, stride, 2 * stride) for stride in STRIDES})


NECKS: dict[str, type[Neck]] = {"fpn": FPN, "gfm": GFM, "efm": EFM}


def lateral(stride: int, channels: Mapping[int, int], widths: Mapping[int, int]) -> Chain:
    """Return a unit to twice the width, and Maxout; that of stride 64 subsamples C_32."""
    coarsest, width = STRIDES[-1], 2 * widths[stride]
    kernel, strides = (3, 2) if stride > coarsest else (1, 1)
    chain = Chain(prefix=f"stride{stride}_")
    with chain.name_scope():
        unit = conv_unit(channels[min(stride, coarsest)], width, kernel, strides, prefix="unit_")
        chain.add(unit, Maxout(width, prefix="maxout_"))
    return chain


def resample(source: int, target: int, widths: Mapping[int, int]) -> Chain:
    """Return a 1x1 unit, and what moves a map of the neck from one stride to another's width."""
    width = widths[target]
    chain = Chain(prefix=f"from{source}to{target}_")
    with chain.name_scope():
        if source > target:
            unit = conv_unit(widths[source], width, prefix="unit_")
            chain.add(unit, Upsample(source // target, prefix="upsample_"))
        else:
            block = target // source
            unit = conv_unit(widths[source], width // block**2, prefix="unit_")
            chain.add(unit, SpaceToDepth(block, prefix="depth_"))
    return chain
