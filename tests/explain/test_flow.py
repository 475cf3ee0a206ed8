"""Gradient flow: the sets of the CSPNet paper's equations, measured, and by an independent way."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

import gluondense
from gluondense.explain import gradient_flow

TINY = {
    "stem": "cifar",
    "block_config": (3, 2),
    "num_init_features": 32,
    "growth_rate": 16,
    "classes": 5,
}
IMAGES = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
LABELS = np.arange(4)

DENSE = {"w1": {"g0"}, "w2": {"g0", "g1"}, "w3": {"g0", "g1", "g2"}}
PARTIAL = {reader: {g.replace("g0", "g0″") for g in found} for reader, found in DENSE.items()}
ALL = {"g0″", "g1", "g2", "g3"}
# The sets in equations 2, 4 and 8 of the paper, and those of "fusion first" and "fusion last".
EQUATIONS = {
    None: {**DENSE, "transition": {"g0", "g1", "g2", "g3"}},
    "both": {**PARTIAL, "wT": ALL, "wU": {"g0′", "gT"}},
    "first": {**PARTIAL, "wU": {"g0′", *ALL}},
    "last": {**PARTIAL, "wT": ALL, "next stage": {"g0′", "gT"}},
}


def build(fusion, **fields):
    fields = {**TINY, **fields}
    if fusion is None:
        net = gluondense.get_model("densenet121", **fields)
    else:
        net = gluondense.get_model("csp_densenet121", fusion=fusion, **fields)
    mx.random.seed(0)
    net.initialize()
    return net


@pytest.mark.parametrize("fusion", EQUATIONS)
def test_the_sets_are_those_of_the_equations(fusion):
    net = build(fusion)
    before = {name: of.data().asnumpy() for name, of in net.collect_params().items()}
    flow = gradient_flow(net, IMAGES, LABELS)
    assert {reader: set(flow.set_of(reader)) for reader in flow.readers} == EQUATIONS[fusion]
    assert flow.remainder < 1e-6  # there are no other paths
    assert (flow.totals > 0).all()
    np.testing.assert_allclose(flow.shares.sum(axis=0), 1)
    for name, of in net.collect_params().items():
        assert (of.data().asnumpy() == before[name]).all(), name


@pytest.mark.parametrize("fusion", EQUATIONS)
def test_the_last_stage_ends_with_the_classifier(fusion):
    flow = gradient_flow(build(fusion), IMAGES, LABELS, "stage2")
    assert flow.readers[-1] == "classifier"
    expected = {"g0"} if fusion is None else {"g0′"}
    assert expected <= set(flow.set_of("classifier"))
    assert flow.remainder < 1e-6


@pytest.mark.parametrize("fusion", EQUATIONS)
def test_equal_to_blocking_all_layers_but_one(fusion):
    """The shipped layers, called one by one; all but one read a feature map without gradient."""
    net = build(fusion)
    flow = gradient_flow(net, IMAGES, LABELS)
    for row, reader in enumerate(flow.readers):
        for column, source in enumerate(flow.sources):
            norm = np.linalg.norm(through(net, fusion, reader, source))
            np.testing.assert_allclose(flow.norms[row, column], norm, rtol=1e-4)
            assert (norm == 0) == (flow.norms[row, column] == 0)


def through(net, fusion, reader, source):
    """Return the gradient of a feature map if only one layer passes it on directly."""
    blocks = net.features._children
    stage = blocks["stage1"]
    x0 = run(blocks["stem"], mx.nd.array(IMAGES))
    maps, zeros = {}, {}

    def keep(name, x):
        zeros[name] = mx.nd.zeros(x.shape)
        zeros[name].attach_grad()
        maps[name] = x + zeros[name]
        return name

    def read(name, sources):
        return mx.nd.concat(
            *(
                mx.nd.BlockGrad(maps[key]) if key == source and name != reader else maps[key]
                for key in sources
            ),
            dim=1,
        )

    with autograd.record():
        if fusion is None:
            layers, dense = stage._children.values(), [keep("x0", x0)]
        else:
            layers = stage.block._children.values()
            keep("x0′", mx.nd.slice_axis(x0, axis=1, begin=0, end=16))
            dense = [keep("x0″", mx.nd.slice_axis(x0, axis=1, begin=16, end=32))]
        for index, layer in enumerate(layers, start=1):
            x = read(f"w{index}", dense)
            for block in layer._children.values():
                x = block(x)
            dense.append(keep(f"x{index}", x))
        end = dense
        if fusion in ("both", "last"):
            end = ["x0′", keep("xT", stage.transition(read("wT", dense)))]
        elif fusion == "first":
            end = ["x0′", *dense]
        x = read({None: "transition", "last": "next stage"}.get(fusion, "wU"), end)
        names = list(blocks)
        for name in names[names.index("transition1") :]:
            x = blocks[name](x)
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net.output(x), mx.nd.array(LABELS)).mean()
    (gradient,) = autograd.grad([loss], [zeros[source]])
    return gradient.asnumpy()


def run(block, x):
    with autograd.train_mode():
        return block(x)


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="unknown stage 'stage3'; did you mean"):
        gradient_flow(build("both"), IMAGES, LABELS, "stage3")
    with pytest.raises(ValueError, match="without attention"):
        gradient_flow(build("both", attention="path"), IMAGES, LABELS)
    for headless in ({"classes": 0}, {"features_only": True}, {"pool": "mean_max"}):
        with pytest.raises(ValueError, match="with pool='avg' and an output"):
            gradient_flow(build("both", **headless), IMAGES, LABELS)
    fields = {"num_blocks": (2, 1), "bottleneck_width": 8, "residual_width": 16, "groups": 4}
    net = gluondense.get_model("dpn92", increments=(4, 8), **fields)
    with pytest.raises(ValueError, match="dpn92 has other paths"):
        gradient_flow(net, IMAGES, LABELS)
