"""Parameter counts of every network, published or computed independently of this code."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from gluondense import get_model, get_spec, list_models

# DenseNet: torchvision and the authors' table. DPN: the authors' symbols. CSP: the definitions in
# gluondense.models, computed without MXNet. DenseNet-264d and -blur-121d, DPN-48b, CSPResNe(X)t,
# (CSP)Darknet, RDNet: timm. PeleeNet: the authors' code. Listings: the networks that they build.
GOLDEN = {
    "darknet53": 41_609_928,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "densenet264": 33_337_704,
    "densenet264d": 72_736_216,
    "densenetblur121d": 7_998_088,
    "densenet40_k12_cifar10": 1_019_722,
    "densenet40_k12_cifar100": 1_060_132,
    "densenet40_k12_svhn": 1_019_722,
    "densenet40_k12_bc_cifar10": 176_122,
    "densenet40_k12_bc_cifar100": 188_092,
    "densenet40_k12_bc_svhn": 176_122,
    "densenet100_k12_cifar10": 6_979_642,
    "densenet100_k12_cifar100": 7_084_852,
    "densenet100_k12_svhn": 6_979_642,
    "densenet100_k24_cifar10": 27_249_082,
    "densenet100_k24_cifar100": 27_457_972,
    "densenet100_k24_svhn": 27_249_082,
    "densenet100_k12_bc_cifar10": 769_162,
    "densenet100_k12_bc_cifar100": 800_032,
    "densenet100_k12_bc_svhn": 769_162,
    "densenet250_k24_bc_cifar10": 15_324_406,
    "densenet250_k24_bc_cifar100": 15_480_556,
    "densenet250_k24_bc_svhn": 15_324_406,
    "densenet190_k40_bc_cifar10": 25_624_430,
    "densenet190_k40_bc_cifar100": 25_821_620,
    "densenet190_k40_bc_svhn": 25_624_430,
    "densenet_tutorial": 758_226,
    "csp_densenet121": 6_596_904,
    "csp_densenet161": 24_476_440,
    "csp_densenet169": 12_107_368,
    "csp_densenet201": 17_191_144,
    "csp_densenet264": 29_247_336,
    "csp_densenet121_listing": 6_239_336,
    "csp_densenet161_listing": 23_262_088,
    "csp_densenet169_listing": 11_486_184,
    "csp_densenet201_listing": 16_292_584,
    "csp_densenet40_k12_bc_cifar10": 155_716,
    "csp_densenet40_k12_bc_cifar100": 163_096,
    "csp_densenet40_k12_bc_svhn": 155_716,
    "csp_densenet100_k12_bc_cifar10": 665_539,
    "csp_densenet100_k12_bc_cifar100": 684_349,
    "csp_densenet100_k12_bc_svhn": 665_539,
    "csp_darknet53": 27_642_184,
    "csp_peleenet": 2_856_488,
    "csp_resnet50": 21_616_168,
    "csp_resnet50d": 21_635_400,
    "csp_resnet50w": 28_118_216,
    "csp_resnext50": 20_569_896,
    "dpn48b": 9_126_226,
    "dpn68": 12_611_602,
    "dpn68b": 12_611_602,
    "dpn92": 37_668_392,
    "dpn98": 61_570_728,
    "dpn107": 86_917_800,
    "dpn131": 79_254_504,
    "dpn92_listing": 37_663_016,
    "dpn98_listing": 61_565_352,
    "dpn107_listing": 86_912_424,
    "dpn131_listing": 79_249_128,
    "rdnet_tiny": 23_863_008,
    "rdnet_small": 50_436_448,
    "rdnet_base": 87_451_096,
    "rdnet_large": 186_269_632,
    "peleenet": 2_802_248,
}
FUSION_GOLDEN = {  # "both", "first"
    "csp_densenet40_k12_bc_cifar10": (164_536, 156_322),
    "csp_densenet40_k12_bc_cifar100": (171_916, 168_292),
    "csp_densenet40_k12_bc_svhn": (164_536, 156_322),
    "csp_densenet100_k12_bc_cifar10": (712_849, 656_362),
    "csp_densenet100_k12_bc_cifar100": (731_659, 687_232),
    "csp_densenet100_k12_bc_svhn": (712_849, 656_362),
    "csp_densenet121": (7_061_256, 6_922_216),
    "csp_densenet161": (26_128_552, 24_602_344),
    "csp_densenet169": (12_744_008, 12_161_000),
    "csp_densenet201": (18_270_664, 17_226_728),
    "csp_densenet264": (30_900_808, 28_553_704),
    "csp_densenet121_listing": (5_646_468, 6_303_812),
    "csp_densenet161_listing": (21_276_778, 23_010_958),
    "csp_densenet169_listing": (10_414_340, 11_347_492),
    "csp_densenet201_listing": (14_919_300, 16_172_772),
}
# The feature maps after each stage, before its transition.
ROWS = """
densenet121: 256 512 1024 1024
densenet161: 384 768 2112 2208
densenet169: 256 512 1280 1664
densenet201: 256 512 1792 1920
densenet264: 256 512 2304 2688
densenet264d: 384 768 3456 4032
densenetblur121d: 256 512 1024 1024
csp_resnet50: 128 256 512 1024
csp_resnext50: 256 512 1024 2048
csp_resnet50d: 128 256 512 1024
csp_resnet50w: 256 512 1024 2048
peleenet: 128 256 512 704
csp_peleenet: 128 256 512 704
dpn48b: 144 320 512 832
dpn68: 144 320 704 832
dpn92: 336 704 1552 2688
dpn98: 336 768 1728 2688
dpn107: 376 1152 2432 2688
dpn131: 352 832 1984 2688
rdnet_tiny: 256 440 744 1040
rdnet_small: 264 512 760 1264
rdnet_base: 408 584 1000 1760
rdnet_large: 528 840 1528 2000
"""
STAGE_WIDTHS = {
    name: list(map(int, widths.split()))
    for name, widths in (row.split(":") for row in ROWS.strip().splitlines())
}


def count(net) -> int:
    """Count the trained parameters, without the running statistics."""
    parameters = net.collect_params().values()
    return sum(math.prod(p.shape) for p in parameters if p.grad_req != "null")


def test_every_name_has_a_golden_count():
    assert sorted(GOLDEN) == list_models()
    assert sorted(FUSION_GOLDEN) == list_models("csp_densenet*")
    assert len(GOLDEN) >= 40


@pytest.mark.parametrize("name", list_models())
def test_count_of_a_network_rebuilt_from_json(name):
    fields = json.loads(json.dumps(dataclasses.asdict(get_spec(name))))
    net = get_model(name, **fields)
    assert net.spec == get_spec(name)
    assert count(net) == GOLDEN[name]


@pytest.mark.parametrize("name", FUSION_GOLDEN)
def test_count_of_the_other_fusions(name):
    counts = tuple(count(get_model(name, fusion=fusion)) for fusion in ("both", "first"))
    assert counts == FUSION_GOLDEN[name]


@pytest.mark.parametrize("name", STAGE_WIDTHS)
def test_widths_and_strides_of_the_stages(name):
    info = get_model(name, features_only=True).feature_info
    assert [stage.name for stage in info] == ["stage1", "stage2", "stage3", "stage4"]
    assert [stage.channels for stage in info] == STAGE_WIDTHS[name]
    assert [stage.stride for stage in info] == [4, 8, 16, 32]


def test_every_field_survives_json():
    fields = {
        "classes": 7,
        "in_channels": 5,
        "dropout": 0.25,
        "eps": 0.02,
        "attention": "se",
        "block_config": (2, 3),
        "compression": 0.4,
        "fusion": "both",
        "partial_ratio": 0.3,
        "keep_input": False,
        "pool": "mean_max",
    }
    spec = get_spec("csp_densenet121", **fields)
    again = get_spec("csp_densenet169", **json.loads(json.dumps(dataclasses.asdict(spec))))
    assert again == spec
    assert again != get_spec("csp_densenet121")
