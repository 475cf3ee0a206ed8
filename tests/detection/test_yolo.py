from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn
from support.detectors import CLASSES, SMALL, detector
from support.reference import assert_close, images, randomize

from gluondense import environment
from gluondense.detection import build_detector
from gluondense.detection.grid import grid
from gluondense.detection.yolo import YOLOv3

# MXNet's import of a symbol.
pytestmark = pytest.mark.filterwarnings("ignore:Cannot decide type:UserWarning")

FUSIONS = ("fpn", "gfm", "efm")
SIDE = 96


@pytest.fixture(scope="module")
def gluoncv():
    environment.import_gluoncv()
    from gluoncv.data.transforms.presets.yolo import YOLO3DefaultTrainTransform
    from gluoncv.model_zoo.yolo.yolo3 import YOLOV3

    class Names:
        transform, network = YOLO3DefaultTrainTransform, YOLOV3

    return Names


def batch(size: int = 2, side: int = SIDE, seed: int = 1) -> mx.nd.NDArray:
    return mx.nd.array(images(size, 3, side, side, seed=seed))


def theirs(gluoncv, net):
    """GluonCV's YOLOv3 on the blocks of our backbone, with our weights."""
    stages, selected = [nn.HybridSequential()], [info.name for info in net.backbone.feature_info]
    for name, block in net.backbone.features._children.items():
        stages[-1].add(block)
        if name in selected[:-1]:
            stages.append(nn.HybridSequential())
    scales = net.spec.scales[::-1]
    other = gluoncv.network(
        stages,
        [head.out_channels // 2 for head in net.neck.head],
        [np.ravel(anchors).tolist() for _, anchors in scales],
        [stride for stride, _ in scales],
        classes=CLASSES,
    )
    for parameter in other.collect_params().values():
        if parameter._data is None:
            parameter.initialize()
    other(batch(1))
    pairs = [*zip(net.neck.head, other.yolo_blocks), *zip(net.neck.resample, other.transitions)]
    pairs += [(a.prediction, b.prediction) for a, b in zip(net.yolo_outputs, other.yolo_outputs)]
    for mine, block in pairs:
        copy_parameters(mine, block)
    return other


def copy_parameters(source, target):
    """Copy all parameters, in the order of the layers."""
    given = source._collect_params_with_prefix().values()
    taken = target._collect_params_with_prefix().values()
    assert [p.shape for p in given] == [p.shape for p in taken]
    for mine, theirs in zip(given, taken):
        theirs.set_data(mine.data())


def test_fpn_is_the_network_of_gluoncv(gluoncv):
    net = detector("fpn", attention=None, head_depth=3)
    other = theirs(gluoncv, net)
    for got, expected in zip(net(batch()), other(batch())):
        assert len(np.unique(expected.asnumpy())) >= 3
        assert_close(got, expected)
    boxes, targets = training_targets(gluoncv, net)
    losses, gradients = [], []
    for each in (net, other):
        each.collect_params().zero_grad()
        with autograd.record():
            losses.append(each(batch(), boxes, *targets))
            total = sum(loss.sum() for loss in losses[-1])
        total.backward()
        # both read the backbone's parameters
        gradients.append(net.backbone.features[0][0].weight.grad().asnumpy())
    for got, expected in zip(*losses):
        assert_close(got, expected)
    assert_close(*gradients, tolerance=1e-4)


def training_targets(gluoncv, net):
    """Boxes, and the targets that GluonCV's transform makes of them."""
    transform = gluoncv.transform(SIDE, SIDE, net)
    boxes = mx.nd.array([[[4, 8, 40, 60], [50, 10, 90, 80]], [[20, 20, 30, 30], [-1, -1, -1, -1]]])
    ids = mx.nd.array([[[0], [2]], [[1], [-1]]])
    arrays = transform._target_generator(
        batch(), transform._feat_maps, transform._anchors, transform._offsets, boxes, ids
    )
    return boxes, arrays


@pytest.mark.parametrize("fusion", FUSIONS)
def test_gluoncvs_losses_train_it(gluoncv, fusion):
    net = detector(fusion)
    boxes, targets = training_targets(gluoncv, net)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1e-4, "momentum": 0.9})
    totals = []
    for _ in range(4):
        with autograd.record():
            losses = net(batch(), boxes, *targets)
            total = sum(loss.sum() for loss in losses)
        total.backward()
        if not totals:
            for name, parameter in net.collect_params().items():
                if parameter.grad_req != "null":
                    assert parameter.grad().abs().max().asscalar() > 0, name
        trainer.step(2)
        totals.append(float(total.asscalar()))
    assert len(losses) == 4
    assert totals[-1] < totals[0]
    ids, scores, corners = net(batch())  # the graph of inference
    assert (ids.shape, scores.shape, corners.shape) == ((2, 100, 1), (2, 100, 1), (2, 100, 4))


def test_the_three_forms_of_return(gluoncv):
    net = detector()
    assert len(net(batch())) == 3
    with autograd.train_mode():
        forms = net(batch())
    assert len(forms) == 8
    boxes, anchors, offsets, maps, *_ = forms
    cells = grid(net.spec, SIDE, SIDE)
    assert boxes.shape == (2, len(cells.strides), 4)
    assert [m.shape[2:] for m in maps] == [(3, 3), (6, 6), (12, 12)]
    flat = [np.repeat(each.asnumpy().reshape(-1, 2), 3, 0) for each in offsets]
    np.testing.assert_array_equal(np.concatenate(flat), cells.offsets)
    flat = [np.tile(each.asnumpy().reshape(-1, 2), (9 * 4**i, 1)) for i, each in enumerate(anchors)]
    np.testing.assert_array_equal(np.concatenate(flat), cells.anchors)
    with pytest.raises(TypeError, match="in inference mode takes images only"):
        net(batch(), boxes)


def test_a_mode_has_its_own_graph():
    net = detector()
    before = [each.asnumpy() for each in net(batch())]
    with autograd.train_mode():
        net(batch())
    randomize_again = detector()  # training mode has moved the statistics
    for got, expected in zip(randomize_again(batch()), before):
        np.testing.assert_array_equal(got.asnumpy(), expected)
    assert len(net(batch())) == 3


def test_raw_shares_the_parameters_and_sees_their_changes():
    net = detector()
    assert net.raw is net.raw
    mine = net.collect_params()
    shared = net.raw.collect_params()
    assert all(mine[name] is parameter for name, parameter in shared.items())
    assert {name for name in mine if name not in shared} == {
        name for name, parameter in mine.items() if isinstance(parameter, gluon.Constant)
    }
    before = net.raw(batch()).asnumpy()
    bias = net.yolo_outputs[0].prediction.bias
    bias.set_data(bias.data() + 1)
    change = net.raw(batch()).asnumpy() - before
    np.testing.assert_allclose(change[:, : 9 * 3], 1, atol=1e-4)
    assert (change[:, 9 * 3 :] == 0).all()


def test_reset_class_reuses_weights():
    net = detector()
    before = net.raw(batch()).asnumpy()
    net.reset_class(["white", "new"], reuse_weights=["white"])
    assert net.classes == net.class_names == ["white", "new"]
    assert net.spec.classes == 2
    raw = net.raw(batch()).asnumpy()
    assert raw.shape[2] == 7
    np.testing.assert_allclose(raw[..., :6], before[..., [0, 1, 2, 3, 4, 7]], rtol=1e-5, atol=1e-6)
    assert net(batch())[0].asnumpy().max() == 1


def test_set_nms_changes_the_detections():
    net = detector()
    assert net(batch())[0].shape == (2, 100, 1)
    net.set_nms(nms_thresh=0.45, nms_topk=10, post_nms=20)
    ids = net(batch())[0].asnumpy()
    assert ids.shape == (2, 20, 1)
    assert 0 < (ids[0] >= 0).sum() <= 10
    net.set_nms(nms_thresh=-1)
    rows = len(grid(net.spec, SIDE, SIDE).strides) * len(CLASSES)
    assert net(batch())[0].shape == (2, rows, 1)


def test_the_score_threshold_is_a_field():
    scores = detector(score_threshold=0.4)(batch())[1].asnumpy()
    assert scores[scores >= 0].min() > 0.4
    assert detector()(batch())[1].asnumpy()[scores < 0].max() > 0.01


def test_hybridized_is_imperative():
    net = detector()
    expected = [each.asnumpy() for each in net(batch())]
    net.hybridize(False)
    for got, each in zip(net(batch()), expected):
        np.testing.assert_allclose(got.asnumpy(), each, rtol=1e-4, atol=1e-3)


def test_sizes_and_channels_are_checked():
    net = detector()
    with pytest.raises(
        ValueError, match=r"height x width \(='100x96'\) must be positive multiples"
    ):
        net(mx.nd.zeros((1, 3, 100, 96)))
    for call in (net, net.raw):
        with pytest.raises(ValueError, match=r"must be \(N, 3, H, W\)"):
            call(mx.nd.zeros((1, 1, 96, 96)))
    with pytest.raises(ValueError, match="at most 1024x1024"):
        net(mx.nd.zeros((1, 3, 1056, 32)))
    assert net(mx.nd.zeros((1, 3, 1024, 32)))[0].shape == (1, 100, 1)


def test_class_names_are_checked():
    net = detector()
    net.classes = ["a", "b", "c"]
    assert net.classes == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"classes \(=\['a'\]\) must be 3 names"):
        net.classes = ["a"]


def test_a_saved_file_loads(tmp_path):
    net, other = detector(), detector(seed=1)
    net.save_parameters(str(tmp_path / "net.params"))
    assert (other.raw(batch()) != net.raw(batch())).sum().asscalar() > 0
    other.load_parameters(str(tmp_path / "net.params"))
    np.testing.assert_array_equal(other.raw(batch()).asnumpy(), net.raw(batch()).asnumpy())


def test_at_first_objects_are_rare():
    net = build_detector("yolo3_efm_csp_peleenet_custom", classes=4, **SMALL)
    net.initialize()
    assert isinstance(net, YOLOv3)
    for output in net.yolo_outputs:
        bias = output.prediction.bias.data().asnumpy().reshape(3, 9)
        np.testing.assert_allclose(bias[:, 4], np.log(0.01 / 0.99), rtol=1e-6)
        assert (np.delete(bias, 4, 1) == 0).all()
        assert 0.005 < output.prediction.weight.data().asnumpy().std() < 0.02


def test_the_native_backend_trains_the_raw_network():
    results = []
    for backend in (None, "native"):
        net = detector()
        net.raw.hybridize(backend=backend, static_alloc=True, static_shape=True)
        with autograd.record():
            loss = (net.raw(batch()) ** 2).sum()
        loss.backward()
        results.append(net.backbone.features[0][0].weight.grad().asnumpy())
    assert_close(*results, tolerance=1e-4)


def test_synchronized_normalization_replaces_every_one():
    name, layer = "yolo3_fpn_csp_peleenet_custom", gluon.contrib.nn.SyncBatchNorm
    net = build_detector(name, norm_layer=layer, norm_kwargs={"num_devices": 1}, **SMALL)
    plain = build_detector(name, **SMALL)
    found: list[type] = []
    net.apply(lambda b: found.append(type(b)) if isinstance(b, nn.BatchNorm) else None)
    expected: list[type] = []
    plain.apply(lambda b: expected.append(type(b)) if isinstance(b, nn.BatchNorm) else None)
    assert set(found) == {layer}
    assert len(found) == len(expected) > 30
    assert list(net._collect_params_with_prefix()) == list(plain._collect_params_with_prefix())


def test_parameters_of_the_exported_symbol_have_the_network_s_names(tmp_path):
    net = randomize(detector())
    net(batch())
    net.export(str(tmp_path / "net"))
    block = gluon.SymbolBlock.imports(
        str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params")
    )
    for got, expected in zip(block(batch(1, 64)), net(batch(1, 64))):
        np.testing.assert_allclose(got.asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_yolo3_fpn_darknet53_is_gluoncvs_yolo3_darknet53():
    get_model = environment.import_gluoncv().model_zoo.get_model
    other = get_model("yolo3_darknet53_custom", classes=CLASSES, pretrained_base=False)
    other.initialize()
    other(batch(1))
    name, fields = "yolo3_fpn_darknet53_custom", {"attention": None, "head_depth": 3}
    net = build_detector(name, classes=CLASSES, backbone_args={"slope": 0.1}, **fields)
    randomize(net)
    pairs = [(net.backbone, other.stages), *zip(net.neck.head, other.yolo_blocks)]
    pairs += zip(net.neck.resample, other.transitions)
    pairs += [(a.prediction, b.prediction) for a, b in zip(net.yolo_outputs, other.yolo_outputs)]
    for mine, block in pairs:
        copy_parameters(mine, block)
    for got, expected in zip(net(batch()), other(batch())):
        assert len(np.unique(expected.asnumpy())) >= 3
        assert_close(got, expected)
