"""Naming schemes of PyTorch's files."""

from __future__ import annotations

import dataclasses

from ...data.preprocessing import CSP, DPN
from .scheme import TORCH, NamingScheme, Rule, Rules, norm_as_bn


def _torch_stem(*rules: Rule) -> Rules:
    return (
        ("features.stem.{unit}", "features.{unit}0"),
        *rules,
        ("features.transition{i}.{unit}", "features.transition{i}.{unit}"),
        ("features.norm", "features.norm5"),
        ("output", "classifier"),
    )


TORCHVISION = NamingScheme(
    "torchvision",
    "torchvision, timm, seed 000",
    _torch_stem(
        ("features.stage{i}.layer{j}.{unit}", "features.denseblock{i}.denselayer{j}.{unit}")
    ),
    TORCH,
    # Before torch 0.4 module names had dots; torchvision's files still have them.
    aliases=((r"\.(norm|conv)\.([12])\.", r".\1\2."),),
)
CSP_LISTING = NamingScheme(
    "csp-listing",
    "seed 003 (Knight825/models-pytorch)",
    _torch_stem(
        ("features.stage{i}.block.layer{j}.{unit}", "features.denseblock{i}.denselayer{j}.{unit}"),
        ("features.stage{i}.transition.{unit}", "features.denseblock{i}.transition.{unit}"),
    ),
    TORCH,
)

_TIMM_DPN_UNITS = {"conv_a": "c1x1_a", "conv_b": "c3x3_b", "conv_c": "c1x1_c"}


def _timm_dpn(*rules: Rule) -> Rules:
    def projection(i: int, j: int, unit: str) -> str:
        return f"features.conv{i + 1}_{j}.c1x1_w_s{1 if i == 1 else 2}.{norm_as_bn(unit)}"

    def convolution(i: int, j: int, conv: str, unit: str) -> str:
        return f"features.conv{i + 1}_{j}.{_TIMM_DPN_UNITS['conv_' + conv]}.{norm_as_bn(unit)}"

    return (
        ("features.stem.{unit}", lambda unit: f"features.conv1_1.{norm_as_bn(unit)}"),
        ("features.stage{i}.block{j}.projection.{unit}", projection),
        *rules,
        ("features.stage{i}.block{j}.conv_{conv}.{unit}", convolution),
        ("features.norm", "features.conv5_bn_ac.bn"),
        ("output", "classifier"),
    )


TIMM_DPN = NamingScheme(
    "timm-dpn", "timm", _timm_dpn(), TORCH, conv_output=True, eps=1e-3, preprocessing=DPN
)
TIMM_DPN_B = dataclasses.replace(
    TIMM_DPN,
    name="timm-dpn-b",
    model="dpn68b",
    writer="timm, DPN-68b: two 1x1 convolutions behind one BN-ReLU",
    rules=_timm_dpn(
        (
            "features.stage{i}.block{j}.conv_c.conv",
            lambda i, j: tuple(f"features.conv{i + 1}_{j}.c1x1_c{part}" for part in (1, 2)),
        )
    ),
)


def _oyam_stem(unit: str) -> str:
    return f"features.conv1.{('conv', 'norm').index(unit)}"


def _oyam_convolution(i: int, j: int, conv: str, unit: str) -> str:
    return f"features.conv{i + 1}_{j}.layers.{_TIMM_DPN_UNITS['conv_' + conv]}.{unit}"


OYAM_DPN = NamingScheme(
    "oyam-dpn",
    "seed 001 (oyam/pytorch-DPNs)",
    (
        ("features.stem.{unit}", _oyam_stem),
        (
            "features.stage{i}.block{j}.projection.{unit}",
            lambda i, j, unit: f"features.conv{i + 1}_{j}.c1x1_w.{unit}",
        ),
        ("features.stage{i}.block{j}.conv_{conv}.{unit}", _oyam_convolution),
        ("output", "classifier"),
    ),
    TORCH,
    preprocessing=None,
)


def _timm_csp_part(ours: str, theirs: str) -> Rule:
    def part(i: int, unit: str) -> str:
        return f"stages.{i - 1}.{theirs}.{norm_as_bn(unit)}"

    return f"features.stage{{i}}.{ours}.{{unit}}", part


TIMM_CSP = NamingScheme(
    "timm-csp",
    "timm: CSPResNet",
    (
        ("features.stem.{unit}", lambda unit: f"stem.conv1.{norm_as_bn(unit)}"),
        (
            "features.stage{i}.csp.block.block{j}.{conv}.{unit}",
            lambda i, j, conv, unit: f"stages.{i - 1}.blocks.{j - 1}.{conv}.{norm_as_bn(unit)}",
        ),
        _timm_csp_part("down", "conv_down"),
        _timm_csp_part("expand", "conv_exp"),
        _timm_csp_part("csp.transition", "conv_transition_b"),
        _timm_csp_part("transition", "conv_transition"),
        ("output", "head.fc"),
    ),
    TORCH,
    preprocessing=CSP,
)

TORCH_SCHEMES = (TORCHVISION, CSP_LISTING, TIMM_DPN_B, TIMM_DPN, TIMM_CSP, OYAM_DPN)
