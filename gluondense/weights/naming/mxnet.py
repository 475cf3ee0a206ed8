"""Naming schemes of MXNet's files."""

from __future__ import annotations

import dataclasses

from ...data.preprocessing import DPN
from .scheme import GLUON, MODULE, NamingScheme, Rule, Rules, Target, norm_as_bn


def _split_conv_c(norm: Target, convolutions: Target) -> Rules:
    """Return the rules of DPN-68b, which has two convolutions where ours has one."""
    conv_c = "features.stage{i}.block{j}.conv_c"
    return (f"{conv_c}.norm", norm), (f"{conv_c}.conv", convolutions)


def _cypw_dpn(*rules: Rule) -> Rules:
    ends = {"norm": "__bn__bn", "conv": "__conv"}

    def projection(i: int, j: int, unit: str) -> str:
        return f"conv{i + 1}_x__{j}_c1x1-w(s/{1 if i == 1 else 2}){ends[unit]}"

    def convolution(i: int, j: int, conv: str, unit: str) -> str:
        return f"conv{i + 1}_x__{j}_c{'3x3' if conv == 'b' else '1x1'}-{conv}{ends[unit]}"

    return (
        ("features.stem.conv", "conv1_x_1__conv"),
        ("features.stem.norm", "conv1_x_1__relu-sp__bn"),
        ("features.stage{i}.block{j}.projection.{unit}", projection),
        *rules,
        ("features.stage{i}.block{j}.conv_{conv}.{unit}", convolution),
        ("features.norm", "conv5_x_x__relu-sp__bn"),
        ("output", "fc6"),
    )


CYPW_DPN = NamingScheme(
    "cypw-dpn",
    "the authors' Module checkpoints (cypw/DPNs)",
    _cypw_dpn(),
    MODULE,
    separator="_",
    aliases=(("^fc6-1k_", "fc6_"),),
    eps=1e-3,
    preprocessing=DPN,
)
CYPW_DPN_B = dataclasses.replace(
    CYPW_DPN,
    name="cypw-dpn-b",
    writer="the authors' Module checkpoints of DPN-68b",
    rules=_cypw_dpn(
        *_split_conv_c(
            lambda i, j: f"conv{i + 1}_x__{j}_c1x1-c__bn",
            lambda i, j: tuple(f"conv{i + 1}_x__{j}_c1x1-c{part}__conv" for part in (1, 2)),
        )
    ),
)

_ZOO_UNITS = {"norm1": 0, "conv1": 2, "norm2": 3, "conv2": 5}
_ZOO_WORDS = {"norm": "batchnorm", "conv": "conv"}


def _zoo_export_layer(i: int, j: int, unit: str) -> str:
    return f"stage{i}_{_ZOO_WORDS[unit[:-1]]}{2 * (j - 1) + int(unit[-1]) - 1}"


def _sequential(prefix: str, layer: Target, output: str) -> Rules:
    """Return the rules of networks whose stages are the items of one Sequential."""
    return (
        ("features.stem.{unit}", lambda unit: f"{prefix}{('conv', 'norm').index(unit)}"),
        ("features.stage{i}.layer{j}.{unit}", layer),
        (
            "features.transition{i}.{unit}",
            lambda i, unit: f"{prefix}{2 * i + 3}.{0 if unit == 'norm' else 2}",
        ),
        ("features.norm", f"{prefix}11"),
        ("output", output),
    )


MXNET_ZOO = NamingScheme(
    "mxnet-zoo",
    "mxnet.gluon.model_zoo, gluoncv: save_parameters",
    _sequential(
        "features.",
        lambda i, j, unit: f"features.{2 * i + 2}.{j - 1}.1.{_ZOO_UNITS[unit]}",
        "output",
    ),
    GLUON,
)
MXNET_ZOO_EXPORT = NamingScheme(
    "mxnet-zoo-export",
    "mxnet.gluon.model_zoo, gluoncv: export",
    (
        ("features.stem.{unit}", lambda unit: f"{_ZOO_WORDS[unit]}0"),
        ("features.stage{i}.layer{j}.{unit}", _zoo_export_layer),
        ("features.transition{i}.{unit}", lambda i, unit: f"{_ZOO_WORDS[unit]}{i}"),
        ("features.norm", "batchnorm4"),
        ("output", "dense0"),
    ),
    GLUON,
    separator="_",
    prefixed=True,
)


def _gluoncv2(stages: int, simple: bool = False) -> Rules:
    """In gluoncv2 each stage but the first begins with the transition, which shifts its layers."""

    def layer(i: int, j: int, unit: str) -> str:
        part = "bn" if unit.startswith("norm") else "conv"
        return f"features.{i}.{j - (i == 1)}.conv{'' if simple else unit[-1]}.{part}"

    def transition(i: int, unit: str) -> str:
        return f"features.{i + 1}.0.conv.{norm_as_bn(unit)}"

    stem: Rule = ("features.stem.conv", "features.0")
    if stages == 4:
        stem = ("features.stem.{unit}", lambda unit: f"features.0.{norm_as_bn(unit)}")
    return (
        stem,
        ("features.stage{i}.layer{j}.{unit}", layer),
        ("features.transition{i}.{unit}", transition),
        ("features.norm", f"features.{stages + 1}.bn"),
        ("output", "output.1"),
    )


def _gluoncv2_dpn(*rules: Rule) -> Rules:
    def projection(i: int, j: int, unit: str) -> str:
        return f"features.{i}.{j - 1}.conv_proj.{norm_as_bn(unit)}"

    def convolution(i: int, j: int, conv: str, unit: str) -> str:
        return f"features.{i}.{j - 1}.conv{'abc'.index(conv) + 1}.{norm_as_bn(unit)}"

    return (
        ("features.stem.{unit}", lambda unit: f"features.0.{norm_as_bn(unit)}"),
        ("features.stage{i}.block{j}.projection.{unit}", projection),
        *rules,
        ("features.stage{i}.block{j}.conv_{conv}.{unit}", convolution),
        ("features.norm", "features.5.activ.bn"),
        ("output", "output.1"),
    )


GLUONCV2 = NamingScheme("gluoncv2", "gluoncv2: DenseNet", _gluoncv2(4), GLUON)
GLUONCV2_DPN = NamingScheme(
    "gluoncv2-dpn", "gluoncv2: DPN", _gluoncv2_dpn(), GLUON, conv_output=True, eps=1e-3
)

D2L = NamingScheme(
    "d2l",
    "seed 002 (d2l.ai): save_parameters",
    _sequential(
        "", lambda i, j, unit: f"{2 * i + 2}.net.{j - 1}.{0 if unit == 'norm1' else 2}", "14"
    ),
    GLUON,
    preprocessing=None,
)

MXNET_SCHEMES = (
    NamingScheme(
        "gluondense",
        "gluondense: save_parameters",
        (("{path}", "{path}"),),
        GLUON,
        eps=None,
        preprocessing=None,
    ),
    NamingScheme(
        "gluondense-export",
        "gluondense: export",
        (("features.{path}", lambda path: path.replace(".", "_")), ("output", "output")),
        GLUON,
        separator="_",
        prefixed=True,
        eps=None,
        preprocessing=None,
    ),
    GLUONCV2,
    dataclasses.replace(
        GLUONCV2,
        name="gluoncv2-cifar",
        writer="gluoncv2: CIFAR DenseNet without bottleneck",
        rules=_gluoncv2(3, simple=True),
        preprocessing=None,
    ),
    dataclasses.replace(
        GLUONCV2,
        name="gluoncv2-cifar-bc",
        writer="gluoncv2: CIFAR DenseNet-BC",
        rules=_gluoncv2(3),
        preprocessing=None,
    ),
    GLUONCV2_DPN,
    dataclasses.replace(
        GLUONCV2_DPN,
        name="gluoncv2-dpn-b",
        writer="gluoncv2: DPN-68b",
        rules=_gluoncv2_dpn(
            *_split_conv_c(
                lambda i, j: f"features.{i}.{j - 1}.preactiv.bn",
                lambda i, j: tuple(f"features.{i}.{j - 1}.conv3{part}" for part in "ab"),
            )
        ),
    ),
    CYPW_DPN,
    CYPW_DPN_B,
    MXNET_ZOO,
    MXNET_ZOO_EXPORT,
    D2L,
)
