"""The native operator: what it computes, how it is built, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from test_deploy_export import TINY, VARIANTS, as_list, assert_close, build, variants

import gluondense
from gluondense.deploy import native
from gluondense.deploy.graph import trace
from gluondense.deploy.ir import Graph
from gluondense.deploy.native import lower
from gluondense.deploy.native.layout import Layout
from gluondense.deploy.passes import PASSES
from gluondense.deploy.targets import TARGETS

pytestmark = pytest.mark.usefixtures("native_operator")

# Loads a folder's exports and predicts, with as many threads and the instructions it is told.
WORKER = """
import sys
import gluondense
import mxnet as mx
import numpy as np

folder = sys.argv[1]
outputs = {}
for case, x in np.load(f"{folder}/inputs.npz").items():
    block = gluondense.load_exported(f"{folder}/{case.split('|')[0]}")
    found = block(mx.nd.array(x))
    found = found if isinstance(found, list) else [found]
    outputs.update({f"{case}|{n}": out.asnumpy() for n, out in enumerate(found)})
np.savez(f"{folder}/outputs.npz", **outputs)
"""
# Batches that go round among the threads and that do not, sizes that are no multiple of anything.
SHAPES = ((1, 32, 32), (2, 64, 48), (5, 45, 37), (4, 61, 90))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, native_operator):
    """Exports of all variants, inputs, and what the networks make of them."""
    folder = tmp_path_factory.mktemp("native")
    random, inputs, expected = np.random.default_rng(0), {}, {}
    for variant in variants("native"):
        net = build(*VARIANTS[variant])
        gluondense.export(net, folder / variant, (1, net.spec.in_channels, 32, 32), "native")
        for shape in SHAPES:
            x = random.standard_normal((shape[0], net.spec.in_channels, *shape[1:]))
            case = f"{variant}|{shape}"
            inputs[case] = x.astype("float32")
            for n, output in enumerate(as_list(net(mx.nd.array(x)))):
                expected[f"{case}|{n}"] = output
    np.savez(folder / "inputs.npz", **inputs)
    return folder, expected


@pytest.mark.parametrize(("isa", "threads"), [("base", 1), ("avx2", 3), ("avx512", 2)])
def test_all_instructions_and_any_threads_give_the_networks_outputs(folder, isa, threads):
    folder, expected = folder
    environment = {**os.environ, "GLUONDENSE_ISA": isa, "OMP_NUM_THREADS": str(threads)}
    subprocess.run([sys.executable, "-c", WORKER, folder], env=environment, check=True)
    found = np.load(folder / "outputs.npz")
    assert set(found) == set(expected)
    for case, wanted in expected.items():
        assert_close(found[case], wanted)


def optimized(variant):
    net = build(*VARIANTS[variant])
    params = {name: value._reduce().asnumpy() for name, value in net.collect_params().items()}
    graph = Graph(trace(net), params)
    for change in PASSES.values():
        change(graph)
    return graph


def steps(variant):
    """Kinds of the steps that a network becomes."""
    text, _ = lower.Lowering(optimized(variant)).lower()
    return [line.split()[0] for line in text.splitlines() if not line.startswith(("gluon", "map"))]


def test_a_densenet_becomes_convolutions_and_poolings_without_copies():
    kinds = steps("densenet")
    assert kinds.count("copy") == 0
    # Two a layer, the stem's, the transition's, and the dense layer behind the last.
    assert kinds.count("conv") == 2 * 4 + 3
    # Before the pooling in front of the transition's convolution, and before the last one.
    assert kinds.count("affine") == 2


def test_both_paths_of_a_dual_path_network_are_written_where_they_are_read():
    assert "affine" in steps("dpn")
    assert steps("dpn").count("copy") <= 4


def test_nested_concatenations_share_one_map():
    graph = optimized("densenet")
    lowering = lower.Lowering(graph)
    concats = [node for node in lowering.operators if node.op == "Concat"]
    views = [lowering.layout.view(node) for node in concats]
    assert isinstance(lowering.layout, Layout)
    assert len(concats) == 4
    assert len({view.map for view in views}) == 2  # one a stage
    assert all(view.channel == 0 for view in views)


@pytest.mark.parametrize("groups", [1, 2, 8, 16])
@pytest.mark.parametrize("each", [1, 3, 6, 12, 16, 24, 40])
def test_packed_filters_compute_the_convolution(groups, each):
    random = np.random.default_rng(0)
    weight, bias = (
        random.standard_normal((groups * each, 5, 1, 1)),
        random.standard_normal(groups * each),
    )
    x = random.standard_normal(groups * 5)
    sizes, (filters, biases) = lower.pack_filters(weight, bias, groups)
    found = []
    for block in range(sizes["blocks"]):
        first = block // sizes["block_share"] * sizes["block_step"]
        part = x[first : first + sizes["block_in"]]
        found += list((part @ filters[block, 0, 0] + biases[block])[: sizes["block_out"]])
    wanted = np.einsum("gi,goi->go", x.reshape(groups, 5), weight.reshape(groups, each, 5)).ravel()
    np.testing.assert_allclose(found[: groups * each], wanted + bias, rtol=1e-5, atol=1e-5)


def test_other_weights_are_noticed(tmp_path):
    """Filters are transformed once, but not for ever."""
    fields = {**TINY, "growth_rate": 32}
    net = build("densenet121", fields)
    gluondense.export(net, tmp_path / "net", (1, 3, 128, 128), "native")
    block = gluondense.load_exported(tmp_path / "net")
    x = mx.nd.random.normal(shape=(1, 3, 128, 128))
    before = block(x).asnumpy()
    (weights,) = block.collect_params().values()
    weights.set_data(weights.data() * 1.01)
    after = block(x).asnumpy()
    assert np.abs(after - before).max() > 1e-3 * np.abs(before).max()
    weights.set_data(weights.data() / 1.01)
    assert_close(block(x).asnumpy(), before)


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - set(variants("native"))))
def test_what_it_has_no_step_for_is_named(variant, tmp_path):
    with pytest.raises(ValueError, match=r"target='native' has no step for .*: use target='onednn"):
        gluondense.export(build(*VARIANTS[variant]), tmp_path / "net", (1, 3, 32, 32), "native")
    assert list(tmp_path.iterdir()) == []


def test_too_small_images_are_refused_by_the_operator(tmp_path):
    net = build()
    gluondense.export(net, tmp_path / "net", (1, 3, 32, 32), "native")
    block = gluondense.load_exported(tmp_path / "net")
    with pytest.raises(mx.MXNetError, match="too small for this network"):
        block(mx.nd.zeros((1, 3, 4, 4))).asnumpy()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("gluondense format=2 blob=0", "another format"),
        ("conv in=0,0,3", "channels that no map has"),
        ("dance", "no step 'dance'"),
        ("map channels", "is not name=numbers"),
        ("map channels=3", "nothing is put out"),
    ],
)
def test_a_damaged_program_is_refused(program, message):
    native.load()
    with pytest.raises(mx.MXNetError, match=message):
        mx.sym.gluondense_program(mx.sym.var("data"), mx.sym.var("blob"), program=program)


def test_networks_of_other_types_are_refused():
    net = build()
    net.cast("float16")
    with pytest.raises(ValueError, match=r"'native' is for float32 networks, not float16"):
        TARGETS["native"].lower(trace(net), {"a": np.zeros(1, "float16")})


@pytest.mark.parametrize(
    ("compiler", "message"),
    [("no-such-compiler", "there is no C\\+\\+ compiler"), ("false", "cannot compile")],
)
def test_without_a_compiler_the_error_says_what_to_do(tmp_path, monkeypatch, compiler, message):
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(native.CompilerError, match=message):
        native.build(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_library_is_built_once(tmp_path):
    library = native.build()
    assert native.build() == library
    changed = library.stat().st_mtime_ns
    native.build()
    assert library.stat().st_mtime_ns == changed


def test_an_export_describes_itself_and_brings_its_library(tmp_path):
    files = gluondense.export(build(), tmp_path / "net", (1, 3, 32, 32), "native")
    assert files.library.read_bytes() == native.build().read_bytes()
    assert json.loads(files.metadata.read_text())["target"] == "native"
    nodes = json.loads(files.symbol.read_text())["nodes"]
    assert [node["op"] for node in nodes] == ["null", "null", native.OPERATOR]
