from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, replace

import mxnet as mx
import numpy as np
import pytest
from support.detectors import BACKBONE, CLASSES, SMALL, detector
from support.small_networks import FAMILIES

from gluondense.detection import DetectorSpec, build_detector, get_detector_spec, list_detectors
from gluondense.detection.registry import KINDS, build_network, class_names, is_detector
from gluondense.models.registry import SPECS


def test_names_are_all_kinds_of_all_backbones():
    names = list_detectors()
    backbones = [name for name in SPECS if not name.endswith(("cifar10", "cifar100", "svhn"))]
    backbones.remove("densenet_tutorial")
    assert len(set(names)) == len(names) == len(KINDS) * len(backbones) * 3
    assert {"yolo3_efm_csp_peleenet_custom", "ssd_512_dpn68_voc"} < set(names)
    assert "center_net_csp_darknet53_coco" in names
    assert list_detectors("*gfm_peleenet_v*") == ["yolo3_gfm_peleenet_voc"]
    assert all(map(is_detector, names))
    assert not any(map(is_detector, SPECS))


def test_a_name_is_read_into_its_spec():
    for name in list_detectors("yolo3*"):
        spec, dataset = get_detector_spec(name.upper()), name.rpartition("_")[2]
        assert name == f"yolo3_{spec.fusion}_{spec.backbone}_{dataset}"
        assert spec.classes == {"custom": 20, "voc": 20, "coco": 80}[dataset]


def test_a_spec_survives_json():
    spec = DetectorSpec(backbone_args=BACKBONE, anchors=[[i, i + 1] for i in range(1, 10)])
    again = DetectorSpec(**json.loads(json.dumps(asdict(spec))))
    assert again == spec
    assert hash(again) == hash(spec)
    assert spec.backbone_args == tuple(sorted(BACKBONE.items()))
    with pytest.raises(FrozenInstanceError):
        spec.classes = 3
    assert not spec.is_stochastic
    assert replace(spec, backbone_args={"dropout": 0.1}).is_stochastic


def test_a_saved_spec_builds_the_network_again():
    net = detector()
    fields = json.loads(json.dumps(asdict(net.spec)))
    again = build_network(net.model_name, **fields)
    assert again.spec == net.spec
    shapes = {k: p.shape for k, p in net._collect_params_with_prefix().items()}
    assert {k: p.shape for k, p in again._collect_params_with_prefix().items()} == shapes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"anchors": ((1, 2),) * 8}, r"anchors \(=.*\) must be nine \(width, height\) > 0"),
        ({"anchors": ((1, 0),) * 9}, "must be nine"),
        ({"anchors": ((1, float("nan")),) * 9}, "must be nine"),
        ({"input_size": 400}, r"input_size \(=400\) must be a positive multiple of 32"),
        ({"fusion": "bfm"}, r"fusion \(='bfm'\) must be one of 'fpn', 'gfm', 'efm'"),
        ({"attention": "se"}, r"attention \(='se'\) must be one of None, 'sam'"),
        ({"head_depth": 1}, r"head_depth \(=1\) must be an integer >= 2"),
        ({"width": 0.0}, r"width \(=0.0\) must be in \(0, 8\]"),
        ({"nms_threshold": 1.0}, r"nms_threshold \(=1.0\) must be in \(0, 1\)"),
        ({"backbone": "resnet50"}, "unknown model 'resnet50'"),
        ({"backbone_args": {"growht_rate": 8}}, "did you mean 'growth_rate'"),
        ({"backbone_args": {"classes": 8}}, "must be without classes, which the detector has"),
        ({"backbone_args": 3}, r"backbone_args \(=3\) must be a dict of fields"),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        DetectorSpec(**fields)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("yolo3_emf_csp_peleenet_voc", {}, "did you mean 'yolo3_efm_csp_peleenet_voc'"),
        ("yolo3_efm_csp_peleenet", {}, "unknown detector"),
        ("yolo3_efm_densenet40_k12_cifar10_custom", {}, "unknown detector"),
        ("yolo3_efm_csp_peleenet_custom", {"widht": 1}, "did you mean 'width'"),
        ("yolo3_efm_csp_peleenet_custom", {"fusion": "fpn"}, "fusion .*must be 'efm', as in yolo3"),
        ("yolo3_efm_csp_peleenet_voc", {"classes": 3}, "build a _custom detector"),
        ("yolo3_efm_csp_peleenet_custom", {"classes": "abc"}, "a sequence of different names"),
        ("yolo3_efm_csp_peleenet_custom", {"classes": ["a", "a"]}, "of different names"),
        ("yolo3_efm_csp_peleenet_custom", {"classes": 0}, r"classes \(=0\) must be a positive"),
        (
            "yolo3_efm_csp_peleenet_custom",
            {"backbone_args": {"block_config": (1, 1), "bn_sizes": (1, 1)}},
            r"backbone \(='csp_peleenet, which has maps at strides 4, 8'\) must be a network with "
            "maps at strides 4, 8, 16, 32",
        ),
    ],
)
def test_what_cannot_be_built(name, fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        build_detector(name, **fields)
    assert "\n" not in str(caught.value)


def test_class_names():
    assert class_names("custom", CLASSES) == CLASSES
    assert class_names("custom", 2) == ("0", "1")
    assert class_names("coco", 80)[0] == "person"
    assert len(class_names("voc")) == 20
    assert build_detector("yolo3_fpn_csp_peleenet_voc", **SMALL).class_names[-1] == "tvmonitor"


SHALLOW = {
    "densenet121": {"block_config": (1, 1, 1, 1), "num_init_features": 16, "growth_rate": 8},
    "csp_densenet121": {"block_config": (1, 1, 1, 1), "num_init_features": 16, "growth_rate": 8},
    "csp_peleenet": BACKBONE,
    "dpn92": {**FAMILIES["dpn92"], "num_blocks": (1,) * 4, "increments": (3, 4, 3, 4)},
    "csp_resnext50": {**FAMILIES["csp_resnext50"], "num_blocks": (1,) * 4, "widths": (16,) * 4},
    "rdnet_tiny": {"num_init_features": 16, "num_blocks": (1,) * 4, "growth_rates": (8,) * 4},
    "csp_darknet53": {"num_init_features": 8, "num_blocks": (1,) * 5, "widths": (8,) * 5},
}


@pytest.mark.parametrize("backbone", SHALLOW)
def test_every_family_is_a_backbone(backbone):
    fields = {"backbone_args": SHALLOW[backbone], "width": 0.125, "in_channels": 1, "classes": 2}
    net = build_detector(f"yolo3_efm_{backbone}_custom", **fields)
    net.initialize()
    raw = net.raw(mx.nd.random.normal(shape=(1, 1, 64, 64)))
    assert raw.shape == (1, 3 * (4 + 16 + 64), 7)
    assert np.isfinite(raw.asnumpy()).all()
