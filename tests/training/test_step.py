from __future__ import annotations

import json
import os

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn
from support.training_steps import NETWORKS, batch, network

from gluondense import get_model
from gluondense.graph.ir import Graph
from gluondense.graph.recompute import MARK, POLICIES, feature_map_shapes, mark_recomputed
from gluondense.training import TrainStep


def train(net, steps=3, accumulate=1, data=None):
    """Losses of some steps, and all parameters after them."""
    x, y = data or batch(net)
    trainer = gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.05, "momentum": 0.9})
    step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), accumulate)
    losses = []
    for _ in range(steps):
        loss, output = step(x, y)
        assert output.shape == (len(x), net.spec.classes)
        trainer.step(len(x))
        losses.append(loss.asnumpy())
    return np.array(losses), {k: v.data().asnumpy() for k, v in net.collect_params().items()}


def assert_same(one, other, rtol=0.0, atol=0.0):
    np.testing.assert_allclose(one[0], other[0], rtol, atol)
    for name, value in one[1].items():
        np.testing.assert_allclose(value, other[1][name], rtol, atol, err_msg=name)


def assert_near(one, other):
    """Equal but for the order in which devices' gradients are added up."""
    np.testing.assert_allclose(one[0], other[0], 1e-6)
    for name, value in one[1].items():
        np.testing.assert_allclose(value, other[1][name], 1e-5, 1e-5, err_msg=name)


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputation_changes_no_losses_parameters_and_statistics(name):
    plain = train(network(name, False))
    for setting in ("light", "most", True):
        assert_same(plain, train(network(name, setting)))


def test_plain_step_is_gluons_own():
    losses, parameters = train(network("dropout", False))
    own = network("dropout", False)
    x, y = batch(own)
    loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(own.collect_params(), "nag", {"learning_rate": 0.05, "momentum": 0.9})
    for expected in losses:
        with autograd.record():
            loss = loss_function(own(x), y)
        loss.backward()
        trainer.step(len(x))
        np.testing.assert_array_equal(loss.asnumpy(), expected)
    for name, parameter in own.collect_params().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), parameters[name])


def test_it_takes_less_memory_and_most_takes_least():
    x, y = batch(network("dense", False), images=16, size=64)
    planned = []
    for setting in ("light", "most"):
        net = get_model("densenet121", block_config=(6, 6), memory_efficient=setting)
        net.initialize()
        step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())
        step(x, y)
        planned.append(step.planned_mb())
    mx.nd.waitall()
    assert 0 < planned[1] < 0.6 * planned[0]


def test_two_devices_share_a_batch():
    devices = [mx.cpu(0), mx.cpu(1)]
    results = []
    for setting in (False, True):
        net = network("dense", setting, ctx=devices)
        x, y = batch(net, 6)
        trainer = gluon.Trainer(net.collect_params(), "sgd", update_on_kvstore=False)
        trainer.save_states(os.devnull)
        step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())
        for _ in range(2):
            parts = [gluon.utils.split_and_load(value, devices) for value in (x, y)]
            losses, outputs = step(*parts)
            trainer.step(len(x))
        mx.nd.waitall()
        assert [output.context for output in outputs] == devices
        losses = np.concatenate([loss.asnumpy() for loss in losses])
        results.append((losses, {k: v.asnumpy() for k, v in state(net).items()}))
    assert_near(*results)


def state(net):
    return {
        f"{name} {array.context}": array
        for name, parameter in net.collect_params().items()
        for array in parameter.list_data()
    }


@pytest.mark.parametrize("setting", [False, True])
def test_parts_add_up_to_the_batch(setting):
    """Where no statistics are of a batch, two halves are the whole."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, in_channels=3), nn.Activation("relu"), nn.Flatten())
    net.add(nn.Dense(5, in_units=4 * 6 * 6))
    net.memory_efficient = setting
    net.initialize(mx.init.Xavier())
    net.hybridize()
    rng = np.random.default_rng(0)
    x = mx.nd.array(rng.normal(size=(5, 3, 8, 8)))
    y = mx.nd.array(np.arange(5))
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    whole_loss, _ = TrainStep(net, loss)(x, y)
    whole = {k: v.grad().asnumpy() for k, v in net.collect_params().items()}
    step = TrainStep(net, loss, accumulate=2)
    for _ in range(2):  # the second time there are old gradients
        parts_loss, _ = step(x, y)
        np.testing.assert_allclose(parts_loss.asnumpy(), whole_loss.asnumpy(), rtol=1e-5)
        for name, parameter in net.collect_params().items():
            np.testing.assert_allclose(
                parameter.grad().asnumpy(), whole[name], rtol=1e-4, atol=1e-5
            )


def test_parts_with_and_without_recomputation():
    plain, recomputed = (train(network("dense", how), accumulate=2) for how in (False, True))
    assert_same(plain, recomputed, rtol=1e-5, atol=1e-6)


def test_more_parts_than_images():
    net = network("dense", True)
    with pytest.raises(ValueError, match=r"`accumulate` \(=8\) parts of 4 images leave one empty"):
        TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), 8)(*batch(net))


@pytest.mark.parametrize("setting", [False, True])
def test_scale_multiplies_gradients_only(setting):
    net = network("dense", setting)
    step, (x, y) = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss()), batch(net)
    loss, _ = step(x, y)
    grad = net.output.weight.grad().asnumpy()
    scaled_loss, _ = step(x, y, scale=8.0)
    np.testing.assert_array_equal(loss.asnumpy(), scaled_loss.asnumpy())
    np.testing.assert_allclose(net.output.weight.grad().asnumpy(), 8 * grad, rtol=1e-5, atol=1e-6)


def test_parameters_that_were_moved_or_sizes_that_change_are_noticed():
    """Evaluation on the CPU moves parameters; a ragged batch has another shape."""
    results = []
    for setting in (False, True):
        net = network("dense", setting)
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
        step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())
        losses = []
        for images in (4, 2, 4, 2):
            loss, _ = step(*batch(net, images))
            trainer.step(images)
            losses += loss.asnumpy().tolist()
            net(batch(net, images)[0]).wait_to_read()
            mx.nd.waitall()
            net.collect_params().reset_ctx([mx.cpu()])
        results.append((losses, {k: v.data().asnumpy() for k, v in net.collect_params().items()}))
    assert_same(*results, rtol=1e-5, atol=1e-6)


def test_frozen_parameters_stay():
    results = []
    for setting in (False, True):
        net = network("dense", setting)
        net.features.collect_params().setattr("grad_req", "null")
        results.append(train(net))
    assert_same(*results)


def test_exported_graph_is_the_same(tmp_path):
    import gluondense

    for name in ("plain", "efficient"):
        net = network("dense", name == "efficient")
        TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())(*batch(net))
        gluondense.export(net, tmp_path / name, input_shape=(1, 3, 32, 32))
    graphs = [(tmp_path / f"{name}-symbol.json").read_bytes() for name in ("plain", "efficient")]
    assert graphs[0] == graphs[1]


def test_unknown_setting():
    with pytest.raises(
        ValueError, match=r"memory_efficient \(='alot'\) must be True, False or one of none"
    ):
        get_model("densenet121", memory_efficient="alot")


def test_marks_of_a_dense_layer():
    net = network("dense", True)
    (data,), symbol = net._get_graph(mx.nd.zeros((2, 3, 64, 64)))
    graph = Graph(symbol, {})
    mark_recomputed(
        graph, feature_map_shapes(symbol, **{data.name: (2, 3, 64, 64)}), POLICIES["most"]
    )
    marked = json.loads(graph.to_json())["nodes"]
    by_name = {node["name"].replace("densenet121_stage1_", ""): node for node in marked}
    for name in ("layer1_concat0", "layer2_norm1_fwd", "layer2_relu2_fwd", "layer2_conv1_fwd"):
        assert by_name[name]["attrs"][MARK] == "True", name
    assert by_name["layer2_conv2_fwd_kept"]["op"] == "_copy"
    assert MARK not in by_name["layer2_conv2_fwd_kept"].get("attrs", {})
    assert by_name["layer2_concat0"]["attrs"]["num_args"] == "3"
