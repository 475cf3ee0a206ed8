"""Which stages of a training graph the native operator splits and concatenates itself."""

from __future__ import annotations

import mxnet as mx
import pytest

from gluondense.blocks.csp import CSPStage
from gluondense.blocks.dense import DenseBlock, Transition
from gluondense.graph.dense_layers import POOL_WINDOW
from gluondense.graph.fuse_dense_stages import STAGE, fuse_stages
from gluondense.graph.ir import Graph
from gluondense.graph.trace import trace
from gluondense.models.registry import build_model

pytestmark = pytest.mark.usefixtures("native_operator")


@pytest.fixture(autouse=True)
def loaded(native_operator):
    from gluondense import native

    native.load(native.STAGE)


def operators(symbol):
    return list(Graph(fuse_stages(symbol), {}).operators())


def partial_stage(x):
    """Return a partial stage of two dense layers."""

    def block(in_channels, prefix):
        return DenseBlock(in_channels, 2, 8, prefix=prefix)

    def transition(in_channels, prefix):
        return Transition(in_channels, 24, pool=False, prefix=prefix)

    return CSPStage(32, block, transition, prefix="stage_")(x)


def pooled(x):
    return mx.sym.Pooling(x, **POOL_WINDOW, pool_type="avg")


@pytest.mark.parametrize("fusion", ["last", "both", "first"])
@pytest.mark.parametrize("partial_ratio", [0.5, 0.3])
def test_no_stage_of_a_network_is_split_by_mxnet(fusion, partial_ratio):
    net = build_model("csp_densenet121", fusion=fusion, partial_ratio=partial_ratio)
    found = operators(trace(net))
    assert not [node.name for node in found if node.op in ("Concat", "slice", "slice_axis")]
    bypass = [int(node.attrs["bypass"]) for node in found if node.op == STAGE]
    assert [n for n in bypass if n] == [int(partial_ratio * c) for c in (64, 128, 256, 512)]


def test_pooling_behind_a_partial_stage_is_included():
    (stage,) = operators(pooled(partial_stage(mx.sym.var("data"))))
    assert (stage.attrs["bypass"], stage.attrs["pool"], stage.op) == ("16", "1", STAGE)


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: mx.sym.Group([pooled(y), y]),  # the concatenation has another reader
        lambda x, y: mx.sym.Pooling(y, **POOL_WINDOW, pool_type="max"),
        lambda x, y: y,
    ],
    ids=["two readers", "max", "none"],
)
def test_other_poolings_are_not(change):
    data = mx.sym.var("data")
    found = operators(change(data, partial_stage(data)))
    (stage,) = (node for node in found if node.op == STAGE)
    assert (stage.attrs["bypass"], stage.attrs["pool"]) == ("16", "0")


def test_other_readers_of_the_concatenation_stay():
    stage = partial_stage(mx.sym.var("data"))
    *_, last = operators(mx.sym.expand_dims(stage, axis=4))
    assert (last.op, last.source().op) == ("expand_dims", STAGE)


def test_a_split_counted_from_the_end_is_left_to_mxnet():
    data = mx.sym.var("data")
    first = mx.sym.slice_axis(data, axis=1, begin=0, end=-16)
    part = DenseBlock(16, 2, 8, prefix="block_")(
        mx.sym.slice_axis(data, axis=1, begin=-16, end=None)
    )
    found = operators(mx.sym.concat(first, part, dim=1))
    assert [node.attrs["bypass"] for node in found if node.op == STAGE] == ["0"]


def test_parts_that_others_read_are_split_by_mxnet():
    stage = partial_stage(mx.sym.var("data"))
    internals = stage.get_internals()
    parts = [name for name in internals.list_outputs() if "slice_axis" in name]
    assert len(parts) == 2
    for name in parts:
        found = operators(mx.sym.Group([internals[name], stage]))
        assert [node.attrs["bypass"] for node in found if node.op == STAGE] == ["0"]
