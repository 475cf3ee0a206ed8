"""Detectors by name through ``get_model``, SSD and CenterNet over GluonCV's getters."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from support.detectors import BACKBONE, CLASSES, SMALL
from support.reference import images

import gluondense
from gluondense import environment

EFM = "yolo3_efm_csp_peleenet_custom"


@pytest.fixture
def zoo():
    """Yield GluonCV's zoo with our names, and restore it."""
    zoo = environment.import_gluoncv().model_zoo
    before = dict(zoo.model_zoo._models)
    gluondense.register_with_gluoncv()
    yield zoo
    zoo.model_zoo._models.clear()
    zoo.model_zoo._models.update(before)


def batch(side: int = 128) -> mx.nd.NDArray:
    return mx.nd.array(images(2, 3, side, side))


@pytest.fixture(scope="module")
def backbone_file(tmp_path_factory):
    net = gluondense.get_model("csp_peleenet", classes=5, **BACKBONE)
    net.initialize()
    path = tmp_path_factory.mktemp("weights") / "csp_peleenet.params"
    net.save_parameters(str(path))
    return path, net.features[0][0].weight.data().asnumpy()


@pytest.mark.parametrize("kind", ["yolo3_fpn", "ssd_512", "center_net"])
def test_weights_of_the_backbone_are_loaded(kind, backbone_file):
    path, expected = backbone_file
    name = f"{kind}_csp_peleenet_custom"
    net = gluondense.get_model(name, classes=CLASSES, backbone_args=BACKBONE, pretrained_base=path)
    (weight,) = [p for n, p in net.collect_params().items() if n.endswith("stem_conv_weight")]
    np.testing.assert_array_equal(weight.data().asnumpy(), expected)
    for parameter in net.collect_params().values():
        if parameter._data is None:
            parameter.initialize()
    assert np.isfinite(net(batch())[1].asnumpy()).all()
    assert tuple(net.classes) == CLASSES


def test_weights_of_a_detector_are_loaded(tmp_path):
    net = gluondense.get_model(EFM, classes=CLASSES, **SMALL)
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    again = gluondense.get_model(EFM, classes=3, pretrained=tmp_path / "net.params", **SMALL)
    np.testing.assert_array_equal(again.raw(batch()).asnumpy(), net.raw(batch()).asnumpy())


def test_fields_may_be_none_or_false():
    net = gluondense.get_model(EFM, attention=None, spp=False, **SMALL)
    assert (net.spec.attention, net.spec.spp) == (None, False)
    assert not [name for name in net.collect_params() if "attention" in name]


def test_a_file_of_another_network_is_one_line(backbone_file, tmp_path):
    damaged = tmp_path / "damaged.params"
    damaged.write_bytes(b"no arrays")
    for path in (backbone_file[0], damaged):
        with pytest.raises(ValueError, match=f"has no weights of this {EFM}: ") as caught:
            gluondense.get_model(EFM, pretrained=path, **SMALL)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        gluondense.get_model(EFM, pretrained=tmp_path / "missing.params", **SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": True}, r"pretrained \(=True\) must be False or a file"),
        ({"pretrained_base": True}, "'csp_peleenet' has no published weights"),
        ({"pretrained_base": "ra_in1k"}, "'csp_peleenet' has no published weights"),
        ({"features_only": True}, "must be False for a detector"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        gluondense.get_model(EFM, **options)


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # MXNet's, of SciPy
def test_gluoncv_finds_the_detectors(zoo):
    with pytest.warns(UserWarning, match="csp_peleenet has no published weights: the backbone of"):
        net = zoo.get_model(EFM, classes=CLASSES, **SMALL)
    assert net.classes == CLASSES
    layer = gluon.contrib.nn.SyncBatchNorm
    options = {"norm_layer": layer, "norm_kwargs": {"num_devices": 2}, "pretrained_base": False}
    net = zoo.get_model("yolo3_efm_csp_peleenet_voc", **options, **SMALL)
    assert len(net.classes) == 20
    assert isinstance(net.neck.head[0].expand[1], layer)


@pytest.mark.slow
def test_ssd_trains_and_predicts():
    from gluoncv.loss import SSDMultiBoxLoss
    from gluoncv.model_zoo.ssd.target import SSDTargetGenerator

    norms = {"norm_layer": gluon.contrib.nn.SyncBatchNorm, "norm_kwargs": {"num_devices": 1}}
    name, fields = "ssd_512_csp_peleenet_custom", {"backbone_args": BACKBONE}
    net = gluondense.get_model(name, classes=CLASSES, **fields, **norms)
    net.initialize()
    boxes = mx.nd.array([[[0.1, 0.1, 0.6, 0.6]], [[0.3, 0.2, 0.9, 0.8]]])
    with autograd.train_mode():
        anchors = net(batch())[2]
    generate, loss = SSDTargetGenerator(negative_mining_ratio=-1), SSDMultiBoxLoss()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1e-3, "momentum": 0.9})
    losses = []
    for _ in range(3):
        with autograd.record():
            scores, offsets, _ = net(batch())
            targets = generate(anchors, None, boxes, mx.nd.array([[[0]], [[1]]]))
            total = loss(scores, offsets, *targets[:2])[0]
        autograd.backward(total)
        trainer.step(1)
        losses.append(float(total[0].sum().asscalar()))
    assert losses[2] < losses[1] < losses[0]
    ids, scores, corners = net(batch())
    assert corners.shape == (2, 100, 4)
    assert (ids.asnumpy() >= 0).any()


@pytest.mark.slow
def test_center_net_trains_and_predicts():
    from gluoncv.loss import HeatmapFocalLoss, MaskedL1Loss
    from gluoncv.model_zoo.center_net.target_generator import CenterNetTargetGenerator

    net = gluondense.get_model(
        "center_net_csp_peleenet_custom", classes=CLASSES, backbone_args=BACKBONE
    )
    generate = CenterNetTargetGenerator(len(CLASSES), 32, 32)
    made = [generate(np.array([box]), np.array([k])) for k, box in enumerate([[3, 4, 20, 25]] * 2)]
    heat, size, size_mask, center, center_mask = (mx.nd.stack(*each) for each in zip(*made))
    focal, l1 = HeatmapFocalLoss(from_logits=True), MaskedL1Loss()
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 1e-3})
    losses = []
    for _ in range(3):
        with autograd.record():
            heat_map, sizes, centers = net(batch())
            total = focal(heat_map, heat) + 0.1 * l1(sizes, size, size_mask)
            total = total + l1(centers, center, center_mask)
        total.backward()
        trainer.step(2)
        losses.append(float(total.sum().asscalar()))
    assert losses[2] < losses[1] < losses[0]
    ids, _, corners = net(batch())
    assert (ids.shape[:2], corners.shape) == ((2, 100), (2, 100, 4))
    assert set(np.unique(ids.asnumpy())) <= {0, 1, 2}


def test_deconvolutions_begin_as_bilinear_upsampling():
    net = gluondense.get_model(
        "center_net_csp_peleenet_custom", classes=CLASSES, backbone_args=BACKBONE
    )
    weight = net.base_network.deconv[1].weight.data().asnumpy()
    ramp = np.arange(6.0)
    up = np.zeros(14)
    for index, value in enumerate(ramp):
        up[2 * index : 2 * index + 4] += value * weight[3, 3].sum(0) / 2
    np.testing.assert_allclose(np.diff(up[3:-3]), 0.5)
    np.testing.assert_allclose(weight[0, 0].sum(), 4)
    assert (weight[0, 1] == 0).all()
