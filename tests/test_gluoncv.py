"""GluonCV's detectors by name, and its `norm_layer`, with networks of the registry."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn
from support.reference import images, randomize
from support.small_networks import BATCH_NORMALIZED, FAMILIES

import gluondense
from gluondense import get_model
from gluondense.environment.process import import_gluoncv

# SymbolBlock infers the types of a symbol whose input has none.
pytestmark = pytest.mark.filterwarnings("ignore:Cannot decide type:UserWarning")

SyncBatchNorm = gluon.contrib.nn.SyncBatchNorm
families = pytest.mark.parametrize("name", FAMILIES)
normalized = pytest.mark.parametrize("name", BATCH_NORMALIZED)
SIDE = 64


@pytest.fixture(scope="module")
def zoo():
    gluondense.register_with_gluoncv()
    return import_gluoncv().model_zoo


def norms(net) -> list[nn.HybridBlock]:
    found = []
    net.apply(lambda block: found.append(block) if isinstance(block, nn.BatchNorm) else None)
    return found


def batch(seed: int = 1) -> mx.nd.NDArray:
    return mx.nd.array(images(2, 3, SIDE, SIDE, seed=seed))


@normalized
def test_norm_layer_replaces_every_normalization_and_no_name(name, tmp_path):
    plain = randomize(get_model(name, classes=7, **FAMILIES[name]))
    options = {"norm_layer": SyncBatchNorm, "norm_kwargs": {"num_devices": 1}}
    synced = get_model(name, classes=7, **FAMILIES[name], **options)
    assert len(norms(synced)) == len(norms(plain)) > 5
    assert {type(norm) for norm in norms(synced)} == {SyncBatchNorm}
    assert {type(norm) for norm in norms(plain)} == {nn.BatchNorm}  # the scope has ended
    assert {norm._kwargs["eps"] for norm in norms(synced)} == {plain.spec.eps}
    plain.save_parameters(str(tmp_path / "net.params"))
    gluondense.load_weights(synced, tmp_path / "net.params")
    for training in (False, True):
        with autograd.record(train_mode=training):
            got, expected = synced(batch()), plain(batch())
        np.testing.assert_allclose(got.asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-5)


@normalized
@pytest.mark.parametrize("backend", [None, "native"])
def test_frozen_statistics_are_used_and_kept(name, backend):
    net = randomize(
        get_model(name, classes=7, norm_kwargs={"use_global_stats": True}, **FAMILIES[name])
    )
    net.hybridize(backend=backend, static_alloc=True, static_shape=True)
    expected = net(batch()).asnumpy()
    statistics = {key: p.data().asnumpy() for key, p in net.collect_params(".*running").items()}
    trainer = gluon.Trainer(net.collect_params(".*output"), "sgd", {"learning_rate": 0.0})
    with autograd.record():
        out = net(batch())
    out.backward()
    trainer.step(2, ignore_stale_grad=True)
    np.testing.assert_allclose(out.asnumpy(), expected, rtol=1e-4, atol=1e-5)
    for key, value in statistics.items():
        np.testing.assert_array_equal(net.collect_params()[key].data().asnumpy(), value)


def test_a_wrong_argument_of_the_layer_is_an_error():
    # GluonCV builds the network without norm_layer after a TypeError.
    with pytest.raises(ValueError, match=r"norm_layer SyncBatchNorm .*'num_device'"):
        get_model("dpn68", norm_layer=SyncBatchNorm, norm_kwargs={"num_device": 2})


def test_the_getter_of_gluoncv_passes_them_on(zoo):
    net = zoo.get_model("CSP_DenseNet121", norm_layer=SyncBatchNorm, norm_kwargs={"num_devices": 2})
    assert {norm._kwargs["ndev"] for norm in norms(net)} == {2}


@families
def test_names_of_outputs_are_those_of_the_feature_maps(name):
    net = randomize(get_model(name, **FAMILIES[name]))
    backbone = randomize(get_model(name, features_only=True, **FAMILIES[name]))
    internals = net(mx.sym.var("data")).get_internals()
    outputs = mx.sym.Group([internals[net.prefix + output] for output in net.feature_outputs])
    block = gluon.SymbolBlock(outputs, mx.sym.var("data"), params=net.collect_params())
    for got, expected in zip(block(batch()), backbone(batch())):
        np.testing.assert_array_equal(got.asnumpy(), expected.asnumpy())
    assert backbone.feature_outputs == net.feature_outputs


def ssd(zoo, name: str, **options):
    scales = {"sizes": [20, 30, 40, 50, 60], "ratios": [[1, 2, 0.5]] * 4, "steps": [16, 32, 64, 64]}
    outputs = get_model(name).feature_outputs[-2:]
    arguments = {"filters": [16, 16], "classes": ["cell", "platelet"], "dataset": "", **options}
    return zoo.get_ssd(name, SIDE, outputs, **arguments, **scales, pretrained_base=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm_layer", "norm_kwargs"),
    [
        ("csp_densenet121", SyncBatchNorm, {"num_devices": 1}),
        ("densenet264", nn.BatchNorm, {"use_global_stats": True}),
        ("dpn68", nn.BatchNorm, None),
        ("csp_resnet50", SyncBatchNorm, {"num_devices": 1}),
    ],
)
def test_ssd_by_name_trains_and_predicts(zoo, name, norm_layer, norm_kwargs):
    from gluoncv.model_zoo.ssd.target import SSDTargetGenerator

    net = ssd(zoo, name, norm_layer=norm_layer, norm_kwargs=norm_kwargs)
    expected = "SyncBatchNorm" if norm_layer is SyncBatchNorm else "BatchNorm"
    nodes = [node for node in norm_nodes(net.features) if name in node["name"]]
    assert len(nodes) == len(norms(get_model(name)))
    assert {node["op"].replace("_contrib_", "") for node in nodes} == {expected}
    frozen = bool(norm_kwargs and norm_kwargs.get("use_global_stats"))
    assert {node["attrs"].get("use_global_stats") == "True" for node in nodes} == {frozen}

    mx.random.seed(0)
    net.initialize()
    cv = import_gluoncv()
    boxes = mx.nd.array([[[0.1, 0.1, 0.6, 0.6]], [[0.3, 0.2, 0.9, 0.8]]])
    with autograd.train_mode():
        anchors = net(batch())[2]
    generate = SSDTargetGenerator(negative_mining_ratio=-1)
    loss = cv.loss.SSDMultiBoxLoss()
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
    ids, probabilities, corners = net(batch())
    assert ids.shape == probabilities.shape == (2, 100, 1)
    assert corners.shape == (2, 100, 4)
    found = ids.asnumpy() >= 0
    assert found.any()
    assert ((probabilities.asnumpy()[found] > 0) & (probabilities.asnumpy()[found] <= 1)).all()


def norm_nodes(block) -> list[dict]:
    nodes = json.loads(mx.sym.Group(list(block(mx.sym.var("data")))).tojson())["nodes"]
    return [node for node in nodes if "BatchNorm" in node["op"]]


@pytest.mark.slow
def test_faster_rcnn_on_a_feature_pyramid_by_name_predicts(zoo):
    from gluoncv.model_zoo.rcnn.faster_rcnn import get_faster_rcnn
    from gluoncv.nn.feature import FPNFeatureExpander

    name = "csp_resnet50"
    outputs = get_model(name).feature_outputs
    pyramid = FPNFeatureExpander(name, outputs, [16] * 4, use_p6=True, pretrained=False)
    head = nn.HybridSequential()
    head.add(nn.Dense(16, activation="relu"))
    net = get_faster_rcnn(
        "fpn_csp_resnet50", "custom", pretrained=False, features=pyramid, top_features=None,
        classes=["cell"], box_features=head, short=SIDE, max_size=SIDE, min_stage=2, max_stage=6,
        train_patterns="", strides=(4, 8, 16, 32, 64), rpn_channel=16, base_size=16,
        scales=(2, 4, 8, 16, 32), ratios=(0.5, 1, 2), alloc_size=(32, 32), roi_mode="align",
        roi_size=(7, 7), clip=4.14, per_device_batch_size=1, rpn_test_post_nms=10, post_nms=10,
    )  # fmt: skip
    net.initialize()
    ids, scores, boxes = net(batch()[:1])
    assert ids.shape[0] == 1
    assert np.isfinite(boxes.asnumpy()).all()
    assert ids.shape == scores.shape
