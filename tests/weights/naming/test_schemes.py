"""Naming schemes, compared with the installed model zoo and with names in published files."""

from __future__ import annotations

import mxnet as mx
import pytest
from mxnet.gluon.model_zoo import vision
from support.naming import COMPLETE

import gluondense
from gluondense.weights import NAMING_SCHEMES

STEM, HEAD = "features.stem.conv.weight", "output.weight"
MEAN = "features.stage2.layer3.norm2.running_mean"
DPN_MEAN = "features.stage2.block1.projection.norm.running_var"
CONV_C = "features.stage3.block4.conv_c.conv.weight"

# Names in other libraries' files and sources for some of our parameters.
NAMES = {
    "torchvision": {
        STEM: "features.conv0.weight",
        MEAN: "features.denseblock2.denselayer3.norm2.running_mean",
        "features.transition1.norm.gamma": "features.transition1.norm.weight",
        "features.norm.beta": "features.norm5.bias",
        HEAD: "classifier.weight",
    },
    "csp-listing": {
        "features.stage3.transition.conv.weight": "features.denseblock3.transition.conv.weight",
        "features.transition3.conv.weight": "features.transition3.conv.weight",
        "features.stage1.block.layer6.conv1.weight": (
            "features.denseblock1.denselayer6.conv1.weight"
        ),
    },
    "timm-rdnet": {
        STEM: "stem.0.weight",
        "features.stem.norm.gamma": "stem.1.weight",
        "features.stage1.block1.layer2.conv1.weight": (
            "dense_stages.0.0.dense_block1.layers.layers.0.weight"
        ),
        "features.stage3.block6.layer3.scale.factor": "dense_stages.5.2.dense_block2.gamma",
        "features.stage4.block7.layer1.attention.fc.bias": (
            "dense_stages.6.2.dense_block0.layers.layers.5.fc.bias"
        ),
        "features.stage4.block7.norm.beta": "dense_stages.6.0.bias",
        "features.stage4.block7.conv.bias": "dense_stages.6.1.bias",
        "features.norm.gamma": "head.norm.weight",
        HEAD: "head.fc.weight",
    },
    "timm-dpn": {
        STEM: "features.conv1_1.conv.weight",
        DPN_MEAN: "features.conv3_1.c1x1_w_s2.bn.running_var",
        "features.stage1.block1.projection.conv.weight": "features.conv2_1.c1x1_w_s1.conv.weight",
        CONV_C: "features.conv4_4.c1x1_c.conv.weight",
        "features.norm.gamma": "features.conv5_bn_ac.bn.weight",
    },
    "timm-dpn-b": {
        CONV_C: ("features.conv4_4.c1x1_c1.weight", "features.conv4_4.c1x1_c2.weight"),
        "features.stage3.block4.conv_c.norm.beta": "features.conv4_4.c1x1_c.bn.bias",
    },
    "timm-csp": {
        STEM: "stem.conv1.conv.weight",
        "features.stage1.expand.norm.gamma": "stages.0.conv_exp.bn.weight",
        "features.stage2.down.conv.weight": "stages.1.conv_down.conv.weight",
        "features.stage3.csp.block.block2.conv3.conv.weight": (
            "stages.2.blocks.1.conv3.conv.weight"
        ),
        "features.stage4.csp.transition.norm.running_var": (
            "stages.3.conv_transition_b.bn.running_var"
        ),
        "features.stage4.transition.conv.weight": "stages.3.conv_transition.conv.weight",
        HEAD: "head.fc.weight",
    },
    "oyam-dpn": {
        "features.stem.norm.gamma": "features.conv1.1.weight",
        DPN_MEAN: "features.conv3_1.c1x1_w.norm.running_var",
        "features.stage1.block2.conv_b.conv.weight": "features.conv2_2.layers.c3x3_b.conv.weight",
    },
    "cypw-dpn": {
        "features.stem.norm.gamma": "conv1_x_1__relu-sp__bn_gamma",
        DPN_MEAN: "conv3_x__1_c1x1-w(s/2)__bn__bn_moving_var",
        "features.stage1.block1.conv_a.norm.gamma": "conv2_x__1_c1x1-a__bn__bn_gamma",
        "features.stage1.block1.conv_b.conv.weight": "conv2_x__1_c3x3-b__conv_weight",
        "features.norm.running_mean": "conv5_x_x__relu-sp__bn_moving_mean",
        HEAD: "fc6_weight",
    },
    "cypw-dpn-b": {
        CONV_C: ("conv4_x__4_c1x1-c1__conv_weight", "conv4_x__4_c1x1-c2__conv_weight"),
        "features.stage3.block4.conv_c.norm.gamma": "conv4_x__4_c1x1-c__bn_gamma",
    },
    "gluoncv2": {
        "features.stem.norm.gamma": "features.0.bn.gamma",
        "features.stage1.layer1.conv1.weight": "features.1.0.conv1.conv.weight",
        "features.stage2.layer1.norm2.gamma": "features.2.1.conv2.bn.gamma",
        "features.transition1.norm.gamma": "features.2.0.conv.bn.gamma",
        "features.norm.gamma": "features.5.bn.gamma",
        HEAD: "output.1.weight",
    },
    "gluoncv2-cifar": {
        STEM: "features.0.weight",
        "features.stage2.layer1.conv1.weight": "features.2.1.conv.conv.weight",
        "features.norm.gamma": "features.4.bn.gamma",
    },
    "gluoncv2-dpn-b": {
        CONV_C: ("features.3.3.conv3a.weight", "features.3.3.conv3b.weight"),
        "features.stage3.block4.conv_c.norm.gamma": "features.3.3.preactiv.bn.gamma",
    },
    "d2l": {
        "features.stem.conv.bias": "0.bias",
        "features.stage2.layer3.conv1.weight": "6.net.2.2.weight",
        "features.transition1.norm.gamma": "5.0.gamma",
        "features.transition3.conv.bias": "9.2.bias",
        "features.norm.running_var": "11.running_var",
        HEAD: "14.weight",
    },
    "veit-densenet": {
        STEM: "conv1.weight",
        MEAN: "block2.layer.2.bn2.running_mean",
        "features.transition1.norm.gamma": "trans1.bn1.weight",
        "features.transition2.conv.weight": "trans2.conv1.weight",
        "features.norm.beta": "bn1.bias",
        HEAD: "fc.weight",
    },
    "gluondense": {MEAN: MEAN},
    "gluondense-export": {MEAN: "stage2_layer3_norm2_running_mean", HEAD: "output_weight"},
}


@pytest.mark.parametrize(
    ("naming", "ours", "theirs"),
    [(naming, *pair) for naming, names in NAMES.items() for pair in names.items()],
)
def test_known_names(naming, ours, theirs):
    expected = (theirs,) if isinstance(theirs, str) else theirs
    assert NAMING_SCHEMES[naming].names([ours]) == {ours: expected}


def parameters(name: str, **fields) -> list[str]:
    return list(gluondense.get_model(name, **fields)._collect_params_with_prefix())


@pytest.mark.parametrize(("naming", "model"), COMPLETE)
def test_names_are_unique(naming, model):
    ours = parameters(model)
    names = NAMING_SCHEMES[naming].names(ours)
    assert list(names) == ours
    flat = [name for theirs in names.values() for name in theirs]
    assert len(set(flat)) == len(flat)


@pytest.mark.parametrize("naming", NAMING_SCHEMES)
def test_every_scheme_is_tested_with_a_network(naming):
    assert naming in {row for row, _ in COMPLETE}


def test_parameters_that_a_scheme_lacks_have_no_names():
    assert NAMING_SCHEMES["torchvision"].names(["features.stage1.block2.conv_a.conv.weight"]) == {}
    assert NAMING_SCHEMES["d2l"].names(["features.stage1.block2.conv_a.conv.weight"]) == {}


@pytest.mark.parametrize("naming", ["d2l", "gluoncv2-cifar"])
def test_a_scheme_without_bottlenecks_has_no_names_for_them(naming):
    names = NAMING_SCHEMES[naming].names(parameters("densenet100_k12_bc_cifar10"))
    assert "features.stage1.layer1.conv1.weight" in names
    assert "features.stage1.layer1.conv2.weight" not in names
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("depth", [121, 161])
def test_names_of_the_installed_model_zoo(depth):
    zoo = vision.get_model(f"densenet{depth}", prefix="some_net0_")
    ours = parameters(f"densenet{depth}")
    names = NAMING_SCHEMES["mxnet-zoo"].names(ours)
    assert [name for (name,) in names.values()] == list(zoo._collect_params_with_prefix())
    exported = NAMING_SCHEMES["mxnet-zoo-export"]
    keys = exported.keys(zoo.collect_params())
    assert {name for (name,) in exported.names(ours).values()} == set(keys)
    assert keys["conv0_weight"] == "some_net0_conv0_weight"


def test_names_of_gluondense_exports():
    net = gluondense.get_model("csp_densenet121", prefix="mine_")
    scheme = NAMING_SCHEMES["gluondense-export"]
    symbol = net(mx.sym.var("data"))
    exported = {*symbol.list_arguments(), *symbol.list_auxiliary_states()} - {"data"}
    keys = scheme.keys(exported)
    names = scheme.names(net._collect_params_with_prefix())
    assert {name for (name,) in names.values()} == set(keys)


def test_aliases():
    keys = NAMING_SCHEMES["torchvision"].keys(
        ["features.denseblock1.denselayer2.norm.1.weight", "features.norm0.weight"]
    )
    assert list(keys) == ["features.denseblock1.denselayer2.norm1.weight", "features.norm0.weight"]
    assert list(NAMING_SCHEMES["cypw-dpn"].keys(["fc6-1k_weight"])) == ["fc6_weight"]


def test_only_the_common_prefix_is_removed():
    scheme = NAMING_SCHEMES["gluondense-export"]
    assert scheme.keys(["a_stem_conv_weight", "b_output_bias"]) == {
        "stem_conv_weight": "a_stem_conv_weight",
        "b_output_bias": "b_output_bias",
    }
    assert scheme.keys(["other_weight"]) == {"other_weight": "other_weight"}


def test_rdnet_s_authors_repeat_the_stem():
    keys = NAMING_SCHEMES["timm-rdnet"].keys(["stem.stem.0.weight", "head.fc.bias"])
    assert keys == {"stem.0.weight": "stem.stem.0.weight", "head.fc.bias": "head.fc.bias"}
