# SPDX-License-Identifier: Apache-2.0
"""Naming schemes of MXNet's files."""

from __future__ import annotations

from dataclasses import replace

from ...data.preprocessing import DPN
from .scheme import MODULE, NamingScheme, Rules, for_dpn68b

CYPW_DPN = NamingScheme(
    "cypw-dpn",
    "the authors' Module checkpoints (cypw/DPNs)",
    (
        ("features.stem.conv", "conv1_x_1__conv"),
        ("features.stem.norm", "conv1_x_1__relu-sp__bn"),
        ("features.stage1.block{j}.projection.{unit}", "conv2_x__{j}_c1x1-w(s/1){unit}"),
        ("features.stage{i}.block{j}.projection.{unit}", "conv{i+1}_x__{j}_c1x1-w(s/2){unit}"),
        ("features.stage{i}.block{j}.conv_{conv}.{unit}", "conv{i+1}_x__{j}_{conv}{unit}"),
        ("features.norm", "conv5_x_x__relu-sp__bn"),
        ("output", "fc6"),
    ),
    MODULE,
    {"norm": "__bn__bn", "conv": "__conv", "a": "c1x1-a", "b": "c3x3-b", "c": "c1x1-c"},
    separator="_",
    aliases=(("^fc6-1k_", "fc6_"),),
    eps=1e-3,
    preprocessing=DPN,
)


def _sequential(prefix: str, layer: str, units: dict[str, int], output: str) -> Rules:
    """Return the rules of networks whose stages are the items of one Sequential."""
    return (
        ("features.stem.conv", f"{prefix}0"),
        ("features.stem.norm", f"{prefix}1"),
        *(
            (f"features.stage{{i}}.layer{{j}}.{unit}", f"{prefix}{layer}.{index}")
            for unit, index in units.items()
        ),
        ("features.transition{i}.norm", prefix + "{2i+3}.0"),
        ("features.transition{i}.conv", prefix + "{2i+3}.2"),
        ("features.norm", f"{prefix}11"),
        ("output", output),
    )


MXNET_ZOO = NamingScheme(
    "mxnet-zoo",
    "mxnet.gluon.model_zoo, gluoncv: save_parameters",
    _sequential(
        "features.",
        "{2i+2}.{j-1}.1",
        {"norm1": 0, "conv1": 2, "norm2": 3, "conv2": 5},
        "output",
    ),
)
MXNET_ZOO_EXPORT = NamingScheme(
    "mxnet-zoo-export",
    "mxnet.gluon.model_zoo, gluoncv: export",
    (
        ("features.stem.{unit}", "{unit}0"),
        ("features.stage{i}.layer{j}.{unit}1", "stage{i}_{unit}{2j-2}"),
        ("features.stage{i}.layer{j}.{unit}2", "stage{i}_{unit}{2j-1}"),
        ("features.transition{i}.{unit}", "{unit}{i}"),
        ("features.norm", "batchnorm4"),
        ("output", "dense0"),
    ),
    words={"norm": "batchnorm"},
    separator="_",
    prefixed=True,
)
D2L = NamingScheme(
    "d2l",
    "the d2l.ai tutorial: save_parameters",
    _sequential("", "{2i+2}.net.{j-1}", {"norm1": 0, "conv1": 2}, "14"),
    preprocessing=None,
)


def _gluoncv2(stages: int, unit: str, layer: str) -> Rules:
    """In gluoncv2 each stage but the first begins with the transition, which shifts its layers."""
    stem = (("features.stem.conv", "features.0"), ("features.stem.{unit}", "features.0.{unit}"))
    return (
        stem[stages == 4],
        ("features.stage1.layer{j}." + unit, "features.1.{j-1}." + layer),
        ("features.stage{i}.layer{j}." + unit, "features.{i}.{j}." + layer),
        ("features.transition{i}.{unit}", "features.{i+1}.0.conv.{unit}"),
        ("features.norm", f"features.{stages + 1}.bn"),
        ("output", "output.1"),
    )


GLUONCV2 = NamingScheme(
    "gluoncv2",
    "gluoncv2: DenseNet",
    _gluoncv2(4, "{unit}{k}", "conv{k}.{unit}"),
    words={"norm": "bn"},
)
GLUONCV2_CIFAR = replace(
    GLUONCV2,
    name="gluoncv2-cifar",
    writer="gluoncv2: CIFAR DenseNet without bottleneck",
    rules=_gluoncv2(3, "{unit}1", "conv.{unit}"),
    preprocessing=None,
)
GLUONCV2_DPN = NamingScheme(
    "gluoncv2-dpn",
    "gluoncv2: DPN",
    (
        ("features.stem.{unit}", "features.0.{unit}"),
        ("features.stage{i}.block{j}.projection.{unit}", "features.{i}.{j-1}.conv_proj.{unit}"),
        ("features.stage{i}.block{j}.conv_{conv}.{unit}", "features.{i}.{j-1}.conv{conv}.{unit}"),
        ("features.norm", "features.5.activ.bn"),
        ("output", "output.1"),
    ),
    words={"norm": "bn", "a": "1", "b": "2", "c": "3"},
    conv_output=True,
    eps=1e-3,
)

GLUONDENSE = NamingScheme(
    "gluondense",
    "gluondense: save_parameters",
    (("{path}", "{path}"),),
    eps=None,
    preprocessing=None,
)
GLUONDENSE_EXPORT = replace(
    GLUONDENSE,
    name="gluondense-export",
    writer="gluondense: export",
    rules=(("features.{path}", lambda path: path.replace(".", "_")), ("output", "output")),
    separator="_",
    prefixed=True,
)

MXNET_SCHEMES = (
    GLUONDENSE,
    GLUONDENSE_EXPORT,
    GLUONCV2,
    GLUONCV2_CIFAR,
    replace(
        GLUONCV2_CIFAR,
        name="gluoncv2-cifar-bc",
        writer="gluoncv2: CIFAR DenseNet-BC",
        rules=_gluoncv2(3, "{unit}{k}", "conv{k}.{unit}"),
    ),
    GLUONCV2_DPN,
    for_dpn68b(
        GLUONCV2_DPN,
        "gluoncv2: DPN-68b",
        "features.{i}.{j-1}.preactiv.bn",
        "features.{i}.{j-1}.conv3a",
        "features.{i}.{j-1}.conv3b",
    ),
    CYPW_DPN,
    for_dpn68b(
        CYPW_DPN,
        "the authors' Module checkpoints of DPN-68b",
        "conv{i+1}_x__{j}_c1x1-c__bn",
        "conv{i+1}_x__{j}_c1x1-c1__conv",
        "conv{i+1}_x__{j}_c1x1-c2__conv",
    ),
    MXNET_ZOO,
    MXNET_ZOO_EXPORT,
    D2L,
)
