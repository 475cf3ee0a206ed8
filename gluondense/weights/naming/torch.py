# SPDX-License-Identifier: Apache-2.0
"""Naming schemes of PyTorch's files."""

from __future__ import annotations

from dataclasses import replace

from ...data.preprocessing import CIFAR, CSP, DPN, RDNET
from .scheme import TORCH, NamingScheme, Rule, Rules, for_dpn68b


def _torchvision(*rules: Rule) -> Rules:
    return (
        ("features.stem.conv{i}", "features.conv{i-1}"),
        ("features.stem.norm{i}", "features.norm{i-1}"),
        ("features.stem.{unit}", "features.{unit}0"),
        *rules,
        ("features.transition{i}.{unit}", "features.transition{i}.{unit}"),
        ("features.norm", "features.norm5"),
        ("output", "classifier"),
    )


TORCHVISION = NamingScheme(
    "torchvision",
    "torchvision, timm",
    _torchvision(
        ("features.stage{i}.layer{j}.{unit}", "features.denseblock{i}.denselayer{j}.{unit}")
    ),
    TORCH,
    # Before torch 0.4 module names had dots; torchvision's files still have them.
    aliases=((r"\.(norm|conv)\.([12])\.", r".\1\2."),),
)
CSP_LISTING = NamingScheme(
    "csp-listing",
    "Knight825/models-pytorch",
    _torchvision(
        ("features.stage{i}.block.layer{j}.{unit}", "features.denseblock{i}.denselayer{j}.{unit}"),
        ("features.stage{i}.transition.{unit}", "features.denseblock{i}.transition.{unit}"),
    ),
    TORCH,
)
VEIT_DENSENET = NamingScheme(
    "veit-densenet",
    "andreasveit/densenet-pytorch: CIFAR DenseNet",
    (
        ("features.stem.conv", "conv1"),
        ("features.stage{i}.layer{j}.{unit}", "block{i}.layer.{j-1}.{unit}"),
        ("features.transition{i}.{unit}", "trans{i}.{unit}1"),
        ("features.norm", "bn1"),
        ("output", "fc"),
    ),
    TORCH,
    {"norm": "bn", "norm1": "bn1", "norm2": "bn2"},
    preprocessing=CIFAR,
    classes=10,
)

_DPN_CONVOLUTIONS = {"a": "c1x1_a", "b": "c3x3_b", "c": "c1x1_c"}

TIMM_DPN = NamingScheme(
    "timm-dpn",
    "timm",
    (
        ("features.stem.{unit}", "features.conv1_1.{unit}"),
        ("features.stage1.block{j}.projection.{unit}", "features.conv2_{j}.c1x1_w_s1.{unit}"),
        ("features.stage{i}.block{j}.projection.{unit}", "features.conv{i+1}_{j}.c1x1_w_s2.{unit}"),
        ("features.stage{i}.block{j}.conv_{conv}.{unit}", "features.conv{i+1}_{j}.{conv}.{unit}"),
        ("features.norm", "features.conv5_bn_ac.bn"),
        ("output", "classifier"),
    ),
    TORCH,
    {"norm": "bn", **_DPN_CONVOLUTIONS},
    conv_output=True,
    eps=1e-3,
    preprocessing=DPN,
)
TIMM_DPN_B = for_dpn68b(
    # The authors' weights have another preprocessing than timm's own.
    replace(TIMM_DPN, preprocessing=None),
    "timm, DPN-48b and 68b: two 1x1 convolutions after one BN-ReLU",
    "features.conv{i+1}_{j}.c1x1_c.bn",
    "features.conv{i+1}_{j}.c1x1_c1",
    "features.conv{i+1}_{j}.c1x1_c2",
    models=("dpn48b", "dpn68b"),
)
OYAM_DPN = NamingScheme(
    "oyam-dpn",
    "oyam/pytorch-DPNs",
    (
        ("features.stem.conv", "features.conv1.0"),
        ("features.stem.norm", "features.conv1.1"),
        ("features.stage{i}.block{j}.projection.{unit}", "features.conv{i+1}_{j}.c1x1_w.{unit}"),
        (
            "features.stage{i}.block{j}.conv_{conv}.{unit}",
            "features.conv{i+1}_{j}.layers.{conv}.{unit}",
        ),
        ("output", "classifier"),
    ),
    TORCH,
    _DPN_CONVOLUTIONS,
    preprocessing=None,
)
TIMM_CSP = NamingScheme(
    "timm-csp",
    "timm: CSPResNet, CSPDarknet, Darknet",
    (
        ("features.stem.conv{i}", "stem.conv{i}.conv"),
        ("features.stem.norm{i}", "stem.conv{i}.bn"),
        ("features.stem.{unit}", "stem.conv1.{unit}"),
        (
            "features.stage{i}.csp.block.block{j}.{conv}.{unit}",
            "stages.{i-1}.blocks.{j-1}.{conv}.{unit}",
        ),
        (
            "features.stage{i}.blocks.block{j}.{conv}.{unit}",
            "stages.{i-1}.blocks.{j-1}.{conv}.{unit}",
        ),
        ("features.stage{i}.down.{unit}", "stages.{i-1}.conv_down.{unit}"),
        ("features.stage{i}.expand.{unit}", "stages.{i-1}.conv_exp.{unit}"),
        ("features.stage{i}.csp.transition.{unit}", "stages.{i-1}.conv_transition_b.{unit}"),
        ("features.stage{i}.transition.{unit}", "stages.{i-1}.conv_transition.{unit}"),
        ("output", "head.fc"),
    ),
    TORCH,
    {"norm": "bn"},
    preprocessing=CSP,
)
PELEE = NamingScheme(
    "pelee",
    "Robert-JunWang/PeleeNet",
    (
        ("features.stem.{unit}", "features.stemblock.stem1.{unit}"),
        ("features.stem.pool.conv1.{unit}", "features.stemblock.stem2a.{unit}"),
        ("features.stem.pool.conv2.{unit}", "features.stemblock.stem2b.{unit}"),
        ("features.stem.pool.fuse.{unit}", "features.stemblock.stem3.{unit}"),
        (
            "features.stage{i}.layer{j}.{branch}.{conv}.{unit}",
            "features.denseblock{i}.denselayer{j}.{branch}{conv}.{unit}",
        ),
        ("features.transition{i}.conv.{unit}", "features.transition{i}.{unit}"),
        ("output", "classifier"),
    ),
    TORCH,
    {"conv1": "a", "conv2": "b", "conv3": "c"},
)

_MIXER = ("features.stage{s}.block{i}.layer{j}", "dense_stages.{i-1}.2.dense_block{j-1}")
_FIRST_MIXER = ("features.stage1.block1.layer{j}", "dense_stages.0.0.dense_block{j-1}")

TIMM_RDNET = NamingScheme(
    "timm-rdnet",
    "timm: RDNet",
    (
        ("features.stem.conv", "stem.0"),
        ("features.stem.norm", "stem.1"),
        # The first block has no transition.
        *(
            rule
            for ours, theirs in (_FIRST_MIXER, _MIXER)
            for rule in (
                (f"{ours}.scale", theirs),
                (f"{ours}.attention.fc", f"{theirs}.layers.layers.5.fc"),
                (f"{ours}.{{unit}}", f"{theirs}.layers.layers.{{unit}}"),
            )
        ),
        ("features.stage{s}.block{i}.norm", "dense_stages.{i-1}.0"),
        ("features.stage{s}.block{i}.conv", "dense_stages.{i-1}.1"),
        ("features.norm", "head.norm"),
        ("output", "head.fc"),
    ),
    {**TORCH, "factor": "gamma"},
    {"conv1": "0", "norm": "1", "conv2": "2", "conv3": "4"},
    # The authors' files.
    aliases=((r"^stem\.stem\.", "stem."),),
    eps=1e-6,
    preprocessing=RDNET,
)

TORCH_SCHEMES = (
    TORCHVISION,
    CSP_LISTING,
    TIMM_DPN_B,
    TIMM_DPN,
    TIMM_CSP,
    TIMM_RDNET,
    OYAM_DPN,
    VEIT_DENSENET,
    PELEE,
)
