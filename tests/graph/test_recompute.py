from __future__ import annotations

import json
from collections import defaultdict

import mxnet as mx
import pytest
from support.small_networks import BATCH_NORMALIZED

from gluondense import get_model
from gluondense.graph.ir import Graph
from gluondense.graph.recompute import (
    MARK,
    POLICIES,
    feature_map_shapes,
    find_policy,
    mark_recomputed,
)

SHAPE = (2, 3, 64, 64)


@pytest.fixture(scope="module")
def symbol():
    return get_model("dpn92")(mx.sym.var("data"))


def marked(symbol, policy):
    graph = Graph(symbol, {})
    mark_recomputed(graph, feature_map_shapes(symbol, data=SHAPE), POLICIES[policy])
    return graph.to_json()


def test_a_policy_marks_the_same_nodes_each_time(symbol):
    assert len({marked(symbol, "most") for _ in range(4)}) == 1


def test_policies_mark_more_and_more_nodes(symbol):
    counts = [marked(symbol, policy).count(MARK) for policy in POLICIES]
    assert counts[0] == 0
    assert counts[1] > 0
    assert counts[3] == max(counts)


@pytest.mark.parametrize("policy", POLICIES)
def test_normalizations_that_run_twice_a_step_do_not_use_cudnn(symbol, policy):
    # cuDNN updates the running statistics in forward, MXNet's own operators do in backward.
    rows = json.loads(marked(symbol, policy))["nodes"]
    for attrs in (row.get("attrs", {}) for row in rows if row["op"] == "BatchNorm"):
        assert (attrs.get("cudnn_off") == "True") == (attrs.get(MARK) == "True")
    assert "cudnn_off" not in symbol.tojson()


# With cuDNN, their backward passes overwrite a gradient where MXNet asks them to add to it.
OVERWRITE = ("Activation", "Pooling", "softmax")
IN_PLACE_SUM = 8  # readers from which on MXNet adds gradients in place


@pytest.mark.parametrize("name", [*BATCH_NORMALIZED, "rdnet_tiny"])
@pytest.mark.parametrize("policy", ["none", "most"])
def test_no_operator_of_cudnn_must_add_to_a_gradient(name, policy):
    fields = {"attention": "se"} if name in BATCH_NORMALIZED else {}
    symbol = get_model(name, **fields)(mx.sym.var("data"))
    graph = Graph(symbol, {})
    mark_recomputed(graph, feature_map_shapes(symbol, data=SHAPE), POLICIES[policy])
    readers = defaultdict(list)
    for node in graph.operators():
        for source, output in node.inputs:
            readers[source, output].append(node.op)
    most = [ops for ops in readers.values() if len(ops) >= IN_PLACE_SUM]
    assert most or policy == "none" or "densenet" not in name
    assert not any(op in OVERWRITE for ops in most for op in ops)


def test_find_policy():
    assert find_policy(True) is POLICIES["balanced"]
    assert find_policy(False) is POLICIES["none"]
    assert find_policy("light") is POLICIES["light"]
    for unknown in ("alot", 1, None):
        with pytest.raises(ValueError, match=r"memory_efficient \(=.*must be True, False or one"):
            find_policy(unknown)
