"""Networks as backbones: which feature maps they return, and that nothing else changes."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from support.reference import assert_close, images, randomize

import gluondense
from gluondense import get_model, list_models
from gluondense.graph.trace import trace
from gluondense.training import TrainStep

DENSE = {"growth_rate": 6, "num_init_features": 10, "block_config": (1, 2, 1)}
DUAL = {
    "num_init_features": 6,
    "num_blocks": (1, 2, 1),
    "increments": (3, 4, 5),
    "bottleneck_width": 8,
    "residual_width": 8,
    "groups": 4,
}
RESIDUAL = {"num_init_features": 6, "num_blocks": (1, 2, 1), "widths": (8, 12, 16), "groups": 2}
FAMILIES = {
    "densenet121": DENSE,
    "csp_densenet121": DENSE,
    "dpn92": DUAL,
    "csp_resnext50": RESIDUAL,
}
families = pytest.mark.parametrize("name", FAMILIES)


def small(name: str, **fields):
    return get_model(name, **{"classes": 7, **FAMILIES[name], **fields})


def batch(*side: int, seed: int = 1) -> mx.nd.NDArray:
    return mx.nd.array(images(2, 3, *side, seed=seed))


def names(net) -> list[str]:
    return [info.name for info in net.feature_info]


@families
@pytest.mark.parametrize("hybridize", [False, True])
def test_the_first_map_is_the_stem_s_before_its_pooling(name, hybridize, tmp_path):
    whole = randomize(small(name))
    whole.save_parameters(str(tmp_path / "whole.params"))
    net = small(name, features_only=True, out_indices=range(4))
    net.load_parameters(str(tmp_path / "whole.params"), ignore_extra=True)
    net.hybridize(hybridize)
    x = batch(70, 45)
    maps = net(x)
    assert names(net) == ["stem", "stage1", "stage2", "stage3"]
    assert [info.stride for info in net.feature_info] == [2, 4, 8, 16]
    stem = whole.features[0]
    assert_close(maps[0], stem[2](stem[1](stem[0](x))).asnumpy())
    assert maps[0].shape == (2, net.feature_info[0].channels, 35, 23)
    default = small(name, features_only=True)
    default.load_parameters(str(tmp_path / "whole.params"), ignore_extra=True)
    for got, expected in zip(maps[1:], default(x)):
        assert_close(got, expected.asnumpy())


@families
@pytest.mark.parametrize(
    ("out_indices", "expected"),
    [((0,), ["stem"]), ((-2, 0), ["stem", "stage2"]), (2, ["stage2", "stage3"]), ([1], ["stage1"])],
    ids=str,
)
def test_nothing_is_built_behind_the_last_map(name, out_indices, expected, tmp_path):
    whole = randomize(small(name))
    path = tmp_path / "whole.params"
    whole.save_parameters(str(path))
    net = small(name, features_only=True, out_indices=out_indices, pretrained=path)
    assert names(net) == expected
    own, complete = (set(each._collect_params_with_prefix()) for each in (net, whole))
    assert own | set(net.absent) == complete
    assert not own & set(net.absent)
    behind = [key for key in complete if key.startswith(("features.norm", "features.stage3"))]
    assert ("stage3" in expected) == own.issuperset(behind)
    x = batch(64, 64)
    maps = net(x)
    every = small(name, features_only=True, out_indices=range(4), pretrained=path)
    wanted = [each for info, each in zip(every.feature_info, every(x)) if info.name in expected]
    assert len(maps) == len(wanted)
    for got, each in zip(maps, wanted):
        np.testing.assert_array_equal(got.asnumpy(), each.asnumpy())
    assert net.out_channels == net.feature_info[-1].channels
    with autograd.record():  # no parameter is left without a gradient
        loss = sum(each.square().sum() for each in net(x))
    loss.backward()
    for parameter in net.collect_params().values():
        if parameter.grad_req != "null":
            assert np.abs(parameter.grad().asnumpy()).max() > 0, parameter.name


def test_stems_of_stride_1_give_a_map_of_stride_1():
    net = get_model("densenet40_k12_cifar10", features_only=True, out_indices=(0, 1))
    net.initialize()
    assert [info.stride for info in net.feature_info] == [1, 1]
    assert [each.shape[1:] for each in net(batch(32, 32))] == [(16, 32, 32), (160, 32, 32)]


@pytest.mark.parametrize("value", [(4,), (-5,), (), 0, 5, (1, 1), (1, -3), "1", (1.0,)])
def test_invalid_indices_name_the_maps(value):
    with pytest.raises(ValueError, match=r"out_indices .*0 stem, 1 stage1, 2 stage2, 3 stage3"):
        small("dpn92", features_only=True, out_indices=value)


def test_indices_need_features_only():
    with pytest.raises(ValueError, match="needs features_only=True"):
        small("dpn92", out_indices=(1,))


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_feature_info_describes_the_maps_of_every_network(name):
    whole = get_model(name)
    net = get_model(name, features_only=True, out_indices=range(len(whole.feature_info) + 1))
    side = 96
    shapes = trace(net).infer_shape(data=(1, net.spec.in_channels, side, side))[1]
    assert names(net) == ["stem", *names(whole)]
    for info, shape in zip(net.feature_info, shapes):
        assert shape[1] == info.channels
        # The tutorial's stem, padded by 1 only, makes 46 of 96.
        assert 0 <= side / info.stride - shape[2] <= (2 if "tutorial" in name else 0)


@families
def test_backbones_export_with_the_stem_s_map(name, tmp_path):
    net = randomize(small(name, features_only=True, out_indices=(0, 2)))
    files = gluondense.export(net, tmp_path / "backbone", (1, 3, 64, 64))
    x = batch(64, 96)
    for got, expected in zip(gluondense.load_exported(files.prefix)(x), net(x)):
        assert_close(got, expected.asnumpy())
    nodes = json.loads(files.symbol.read_text())["nodes"]
    assert not any("stage3" in node["name"] for node in nodes)


class SumOfMaps(gluon.HybridBlock):
    """A detector in small: a number per image from all maps."""

    def __init__(self, backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.memory_efficient = backbone.memory_efficient

    def hybrid_forward(self, F, x):
        return F.concat(*(each.mean(axis=(2, 3)) for each in self.backbone(x)), dim=1)


@families
def test_backbones_train_the_same_in_less_memory(name):
    gradients = []
    for memory_efficient in (False, "most"):
        backbone = randomize(
            small(name, features_only=True, out_indices=(0, 3), memory_efficient=memory_efficient)
        )
        net = SumOfMaps(backbone)
        net.hybridize()
        step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())
        loss, _ = step(batch(64, 64), mx.nd.array([1, 3]))
        parameters = backbone._collect_params_with_prefix()
        grads = {k: p.grad().asnumpy() for k, p in parameters.items() if p.grad_req != "null"}
        gradients.append((loss.asnumpy(), grads))
    (loss, plain), (other_loss, recomputed) = gradients
    np.testing.assert_array_equal(loss, other_loss)
    for key, grad in plain.items():
        np.testing.assert_array_equal(grad, recomputed[key], err_msg=key)
