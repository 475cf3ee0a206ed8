"""Graph passes: equal outputs, and the expected number of changed nodes."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from support.exported_networks import TINY_RDNET
from support.reference import assert_close, images, randomize

import gluondense
from gluondense.graph.inference_passes import PASSES, batch_norm_affine
from gluondense.graph.ir import Graph
from gluondense.graph.trace import trace

# Small networks with all features of the families.
DENSE = {"growth_rate": 16, "block_config": (2, 3, 1), "num_init_features": 32, "classes": 7}
DPN = {"num_blocks": (2, 3), "increments": (16, 32), "bottleneck_width": 64, "classes": 7}
NETWORKS = {
    "densenet": ("densenet121", DENSE),
    "dropout": ("densenet121", {**DENSE, "dropout": 0.2}),
    "odd": ("densenet121", {**DENSE, "growth_rate": 12}),
    "csp_last": ("csp_densenet121", DENSE),
    "csp_both": ("csp_densenet121", {**DENSE, "fusion": "both"}),
    "csp_first": ("csp_densenet121", {**DENSE, "fusion": "first"}),
    "dpn": ("dpn68", DPN),
    "se": ("dpn68", {**DPN, "attention": "se"}),
    "path": ("csp_densenet121", {**DENSE, "attention": "path"}),
    "tutorial": ("densenet_tutorial", {}),
    "rdnet": ("rdnet_tiny", TINY_RDNET),
    "cifar": ("densenet40_k12_cifar10", {"block_config": (3, 2)}),
}
# Number of nodes that each pass changes in some networks.
CHANGES = {
    "remove_identities": {
        # 6 layers with dropout after both convolutions, 2 transitions with one; and blocks.concat.
        "dropout": 6 * 2 + 2 + 1,
        # Widths 32 44 | 28 40 52 | 32: four of six begin with no multiple of 16.
        "odd": 4,
        # Widths 32 48 | 32 48 64 | 40: one.
        "densenet": 1,
    },
    "fold_channel_factors": {
        # Each mixer's.
        "rdnet": 6,
        # Squeeze-and-excitation's are not constant.
        "se": 0,
    },
    "flatten_concats": {
        "densenet": 0,
        # The dense path of each block but a stage's last becomes part of the next one's input, and
        # so does the last one's of the stage's output; within them the dense paths nest.
        "dpn": 5 + 3,
    },
    "split_convolutions": {
        # The last convolution of 5 blocks, and the projection of 2.
        "dpn": 5 + 2,
        "densenet": 0,
    },
    "pool_first": {
        "densenet": 2,
        "csp_last": 2,
        "csp_both": 2,
        "dpn": 0,
        "tutorial": 3,
    },
    "fold_batch_norms": {
        # The stem's, and one a layer.
        "densenet": 1 + 6,
        # T and U follow a concatenation.
        "csp_both": 1 + 6,
        # No bottleneck, no BN-ReLU in the stem.
        "cifar": 0,
        # The stem's, and those of conv_b and conv_c.
        "dpn": 1 + 2 * 5,
    },
    "fuse_batch_norm_relu": {
        # The stem's, two a layer, one a transition, the final one.
        "densenet": 1 + 6 * 2 + 2 + 1,
        # The stem's, three a block, the projections', the final one.
        "dpn": 1 + 5 * 3 + 2 + 1,
    },
}


@pytest.fixture(autouse=True)
def without_mxnets_fusion(monkeypatch):
    """Disable MXNet's own fusion.

    In 1.9.1 it is wrong for a convolution that a normalization and an addition read.
    """
    monkeypatch.setenv("MXNET_SUBGRAPH_BACKEND", "NONE")


def graph_of(net) -> Graph:
    params = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    return Graph(trace(net), params)


def run(graph: Graph, x: np.ndarray) -> np.ndarray:
    symbol, params = graph.to_symbol()
    arrays = {name: mx.nd.array(array) for name, array in params.items()}
    arguments = {name: arrays.get(name) for name in symbol.list_arguments()}
    arguments["data"] = mx.nd.array(x)
    auxiliary = {name: arrays[name] for name in symbol.list_auxiliary_states()}
    executor = symbol.bind(mx.cpu(), arguments, aux_states=auxiliary, grad_req="null")
    return executor.forward(is_train=False)[0].asnumpy()


@pytest.fixture(scope="module", params=NETWORKS)
def case(request):
    """Name, network, images and logits."""
    name, fields = NETWORKS[request.param]
    net = randomize(gluondense.get_model(name, **fields))
    x = images(2, net.spec.in_channels, 66, 49)
    return request.param, net, x, net(mx.nd.array(x)).asnumpy()


@pytest.mark.parametrize("name", PASSES)
def test_each_pass_keeps_the_outputs(case, name):
    network, net, x, expected = case
    graph = graph_of(net)
    before = graph.to_symbol()[0].tojson()
    changed = PASSES[name](graph)
    assert (graph.to_symbol()[0].tojson() != before) == bool(changed)
    assert changed == CHANGES[name].get(network, changed)
    assert_close(mx.nd.array(run(graph, x)), expected)
    # A second time there is nothing left to do.
    assert PASSES[name](graph) == 0


def test_all_passes_together_keep_the_outputs(case):
    _, net, x, expected = case
    graph = graph_of(net)
    for change in PASSES.values():
        change(graph)
    assert_close(mx.nd.array(run(graph, x)), expected)
    left = {node.op for node in graph.operators()}
    assert not left & {"BatchNorm", "Dropout", "squeeze"}


def test_the_expected_changes_cover_all_passes():
    assert set().union(*CHANGES.values()) <= set(NETWORKS)
    assert set(CHANGES) == set(PASSES)


def test_the_network_and_its_arrays_are_unchanged(case):
    _, net, x, expected = case
    params = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    copies = {name: array.copy() for name, array in params.items()}
    graph = Graph(trace(net), params)
    for change in PASSES.values():
        change(graph)
    for name, array in params.items():
        np.testing.assert_array_equal(array, copies[name])
    np.testing.assert_array_equal(net(mx.nd.array(x)).asnumpy(), expected)


def test_pooling_moves_before_the_convolution():
    graph = graph_of(small())
    PASSES["pool_first"](graph)
    for node in graph.operators():
        if node.op == "Pooling" and "transition" in node.name:
            assert node.source().op == "Activation"


def small():
    net = gluondense.get_model("densenet121", **DENSE)
    net.initialize()
    return net


def test_a_convolution_with_two_readers_is_not_folded():
    data = mx.sym.var("data")
    conv = mx.sym.Convolution(data, num_filter=4, kernel=(1, 1), no_bias=True, name="conv")
    norm = mx.sym.BatchNorm(conv, fix_gamma=False, name="norm")
    rng = np.random.default_rng(0)
    shapes = {"conv_weight": (4, 3, 1, 1), **{f"norm_{k}": (4,) for k in ("gamma", "beta")}}
    shapes.update({f"norm_moving_{k}": (4,) for k in ("mean", "var")})
    params = {k: rng.uniform(0.5, 1.5, shape).astype("float32") for k, shape in shapes.items()}
    graph = Graph(conv + norm, params)
    assert PASSES["fold_batch_norms"](graph) == 0
    alone = Graph(norm, params)
    assert PASSES["fold_batch_norms"](alone) == 1
    assert_close(
        mx.nd.array(run(alone, images(1, 3, 5, 5))), run(Graph(norm, params), images(1, 3, 5, 5))
    )


def normalized(source, name):
    return mx.sym.BatchNorm(source, fix_gamma=False, name=name)


def params_of(symbol, shape) -> dict[str, np.ndarray]:
    """Random positive arrays for all variables except the image."""
    rng = np.random.default_rng(0)
    arguments, _, auxiliary = symbol.infer_shape(data=shape)
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    shapes = dict(zip(names, arguments + auxiliary))
    del shapes["data"]
    return {k: rng.uniform(0.5, 1.5, v).astype("float32") for k, v in shapes.items()}


def changed_and_close(symbol, x, name) -> int:
    params = params_of(symbol, x.shape)
    graph = Graph(symbol, params)
    changed = PASSES[name](graph)
    assert_close(mx.nd.array(run(graph, x)), run(Graph(symbol, params), x))
    return changed


def test_batch_norms_with_two_readers_or_in_sequence_are_folded():
    """The second one in a sequence must not be folded into filters with another reader."""
    conv = mx.sym.Convolution(mx.sym.var("data"), num_filter=4, kernel=(1, 1), name="conv")
    first = normalized(conv, "first")
    both = normalized(first, "second") + first
    assert changed_and_close(both, images(1, 3, 5, 5), "fold_batch_norms") == 1
    chain = normalized(normalized(conv, "first"), "second")
    assert changed_and_close(chain, images(1, 3, 5, 5), "fold_batch_norms") == 2


def test_convolutions_of_other_dimensions_are_folded_too():
    conv = mx.sym.Convolution(mx.sym.var("data"), num_filter=4, kernel=(3,), name="conv")
    x = images(2, 3, 8, 1)[..., 0]
    assert changed_and_close(normalized(conv, "norm"), x, "fold_batch_norms") == 1


def test_dropout_keeps_the_output_that_it_reads():
    parts = mx.sym.split(mx.sym.var("data"), num_outputs=2, axis=1)
    assert changed_and_close(mx.sym.Dropout(parts[1]), images(1, 4, 3, 3), "remove_identities") == 1
    always = mx.sym.Dropout(mx.sym.var("data"), mode="always")
    assert PASSES["remove_identities"](Graph(always, {})) == 0


def test_pooling_beyond_the_edge_is_not_moved():
    conv = mx.sym.Convolution(mx.sym.var("data"), num_filter=4, kernel=(1, 1), name="conv")
    pool = {"kernel": (2, 2), "stride": (2, 2), "pool_type": "avg"}
    full = mx.sym.Pooling(conv, pooling_convention="full", **pool)
    assert changed_and_close(full, images(1, 3, 5, 5), "pool_first") == 0
    assert changed_and_close(mx.sym.Pooling(conv, **pool), images(1, 3, 5, 5), "pool_first") == 1


def test_fixed_gamma_counts_as_one():
    norm = mx.sym.BatchNorm(mx.sym.var("data"), fix_gamma=True, eps=0, name="norm")
    params = {
        "norm_gamma": np.full(2, 7.0),
        "norm_beta": np.array([1.0, 2.0]),
        "norm_moving_mean": np.array([1.0, 0.0]),
        "norm_moving_var": np.array([4.0, 1.0]),
    }
    graph = Graph(norm, params)
    scale, shift = batch_norm_affine(graph, next(graph.operators()))
    np.testing.assert_allclose(scale, [0.5, 1.0])
    np.testing.assert_allclose(shift, [0.5, 2.0])


def test_a_graph_goes_to_a_symbol_and_back():
    net = small()
    graph = graph_of(net)
    symbol, params = graph.to_symbol()
    assert symbol.list_arguments() == trace(net).list_arguments()
    assert set(params) == set(net.collect_params())
    again = Graph(symbol, params).to_symbol()[0]
    assert json.loads(again.tojson()) == json.loads(symbol.tojson())
