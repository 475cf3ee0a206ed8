"""ONNX models in ONNX Runtime, for every family and option."""

from __future__ import annotations

import json
import sys

import mxnet as mx
import numpy as np
import pytest
from support.exported_networks import SIZES, TINY, VARIANTS, as_list, assert_close, build

import gluondense
from gluondense.deploy import load_exported
from gluondense.deploy.exporter import parameter_arrays
from gluondense.deploy.onnx.convert import OPSET, to_onnx
from gluondense.deploy.onnx.operators import TRANSLATORS
from gluondense.graph.ir import Graph
from gluondense.graph.trace import INPUT, PORTABLE_OPERATORS, trace

DATA = mx.sym.var(INPUT)


@pytest.fixture(scope="module")
def runtime():
    pytest.importorskip("onnx")
    return pytest.importorskip("onnxruntime")


def session(runtime, model):
    return runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_all_portable_operators_have_a_translation():
    assert set(TRANSLATORS) >= PORTABLE_OPERATORS


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_are_the_networks(runtime, variant):
    name, fields = VARIANTS[variant]
    net = build(name, fields)
    channels = net.spec.in_channels
    symbol = trace(net)
    net(mx.nd.zeros((1, channels, 32, 32)))
    model = to_onnx(Graph(symbol, parameter_arrays(net)), ("N", channels, "H", "W"))
    ran = session(runtime, model)
    random = np.random.default_rng(0)
    for batch, height, width in SIZES.values():
        x = random.standard_normal((batch, channels, height, width)).astype("float32")
        for got, wanted in zip(ran.run(None, {INPUT: x}), as_list(net(mx.nd.array(x)))):
            assert_close(got, wanted)


def test_model_declares_opset_input_and_output(runtime):
    net = build()
    net(mx.nd.zeros((1, 3, 32, 32)))
    model = to_onnx(Graph(trace(net), parameter_arrays(net)), ("N", 3, 32, 32))
    assert [(item.domain, item.version) for item in model.opset_import] == [("", OPSET)]
    (source,), (output,) = (
        session(runtime, model).get_inputs(),
        session(runtime, model).get_outputs(),
    )
    assert (source.name, source.shape) == (INPUT, ["N", 3, 32, 32])
    assert output.shape == ["N", 5]
    # Parameters that are inputs too could not be folded.
    assert len(model.graph.input) == 1


OPERATORS = {
    "overhanging average": mx.sym.Pooling(
        DATA, kernel=(3, 3), stride=(2, 2), pool_type="avg", pooling_convention="full"
    ),
    "overhanging maximum": mx.sym.Pooling(
        DATA, kernel=(2, 2), stride=(2, 2), pool_type="max", pooling_convention="full"
    ),
    "average with zeros": mx.sym.Pooling(DATA, kernel=(3, 3), pad=(1, 1), pool_type="avg"),
    "average without zeros": mx.sym.Pooling(
        DATA, kernel=(3, 3), pad=(1, 1), pool_type="avg", count_include_pad=False
    ),
    "preprocessing": ((DATA - 2.0) / 3.0 + 0.5) * 1.5,
    "arithmetic": mx.sym.broadcast_sub(mx.sym.broadcast_add(DATA, DATA * 0.5), DATA),
    "ratio": mx.sym.broadcast_div(DATA, mx.sym.sigmoid(DATA)),
    "softmax": mx.sym.log_softmax(mx.sym.softmax(DATA, axis=1), axis=1),
    "sigmoid": mx.sym.sigmoid(DATA),
    "elu": mx.sym.LeakyReLU(DATA, act_type="elu", slope=0.3),
    "gelu": mx.sym.LeakyReLU(DATA, act_type="gelu"),
    "error function": mx.sym.erf(DATA),
    "clip": mx.sym.clip(DATA, a_min=-0.5, a_max=1.5),
    "softplus": mx.sym.Activation(DATA, act_type="softrelu"),
    "negative slice": mx.sym.slice_axis(DATA, axis=-1, begin=-3, end=None),
    "reversed axes": mx.sym.transpose(DATA),
    "whole numbers": mx.sym.Cast(mx.sym.Cast(DATA, dtype="int32"), dtype="float32"),
    "folded": mx.sym.Reshape(DATA, shape=(0, 2, -1)),
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_that_users_add(runtime, operator):
    symbol = OPERATORS[operator]
    x = np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype("float32")
    model = to_onnx(Graph(symbol, {}), ("N", 4, "H", "W"))
    (wanted,) = symbol.eval(ctx=mx.cpu(), data=mx.nd.array(x))
    assert_close(session(runtime, model).run(None, {INPUT: x})[0], wanted.asnumpy())


@pytest.mark.parametrize("flatten", [True, False])
def test_fully_connected_with_and_without_flattening(runtime, flatten):
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 3, 4)).astype("float32")
    weight = random.standard_normal((5, 12 if flatten else 4)).astype("float32")
    bias = random.standard_normal(5).astype("float32")
    symbol = mx.sym.FullyConnected(DATA, num_hidden=5, flatten=flatten, name="fc")
    params = {"fc_weight": weight, "fc_bias": bias}
    model = to_onnx(Graph(symbol, params), ("N", 3, 4))
    wanted = symbol.eval(
        ctx=mx.cpu(), data=mx.nd.array(x), **{k: mx.nd.array(v) for k, v in params.items()}
    )
    assert_close(session(runtime, model).run(None, {INPUT: x})[0], wanted[0].asnumpy())


@pytest.mark.parametrize(
    ("symbol", "words"),
    [
        (mx.sym.sin(DATA, name="s"), r"target='onnx' has no operator sin \(s\)\.$"),
        (mx.sym.LeakyReLU(DATA, act_type="selu"), "with act_type=selu"),
        (mx.sym.Dropout(DATA, mode="always"), "with mode=always"),
        (mx.sym.Pooling(DATA, kernel=(2, 2), pool_type="sum"), "with pool_type=sum"),
        (
            mx.sym.Pooling(DATA, kernel=(3, 3), pad=(1, 1), pooling_convention="full"),
            "with pad and pooling_convention=full",
        ),
        (mx.sym.Reshape(DATA, shape=(-3, 0)), r"with shape=\(-3, 0\)"),
        (mx.sym.softmax(DATA, temperature=2.0), "with temperature=2.0"),
    ],
)
def test_unsupported_operators_are_named(symbol, words):
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match=words):
        to_onnx(Graph(symbol, {}), ("N", 4, 8, 8))


def near(got, wanted):
    """Check the tolerance of this target, relative to the largest output."""
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("variant", VARIANTS)
def test_exports_give_the_networks_outputs(runtime, variant, tmp_path):
    name, fields = VARIANTS[variant]
    net = build(name, fields)
    channels = net.spec.in_channels
    files = gluondense.export(net, tmp_path / "net", (1, channels, 32, 32), "onnx")
    ran, random = load_exported(files.prefix), np.random.default_rng(0)
    for batch, height, width in SIZES.values():
        x = mx.nd.array(random.standard_normal((batch, channels, height, width)))
        outputs = as_list(ran(x))
        assert len(outputs) == len(as_list(net(x)))
        for got, wanted in zip(outputs, as_list(net(x))):
            near(got, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", gluondense.list_models())
def test_exports_of_every_network(runtime, name, tmp_path):
    net = build(name, {})
    side = max(64, net.min_size)
    shape = (1, net.spec.in_channels, side, side)
    files = gluondense.export(net, tmp_path / "net", shape, "onnx")
    x = mx.nd.array(np.random.default_rng(0).standard_normal((2, *shape[1:])))
    near(load_exported(files.model)(x).asnumpy(), net(x).asnumpy())


def test_an_export_describes_itself(runtime, tmp_path):
    import onnx

    net = build("csp_densenet121")
    numbers = {"mean": [0.1, 0.2, 0.3], "std": [0.5] * 3}
    files = gluondense.export(
        net, tmp_path / "a.b", (1, 3, 32, 32), "onnx", class_names="vwxyz", **numbers
    )
    assert [file.name for file in files] == ["a.b.onnx", "a.b.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.b.json", "a.b.onnx"]
    about = load_exported(files.prefix).metadata
    assert (about.model, about.target) == ("csp_densenet121", "onnx")
    assert (about.class_names, about.std) == (tuple("vwxyz"), (0.5,) * 3)
    assert set(about.sha256) == {"model"}

    model = onnx.load(str(files.model))
    assert (model.ir_version, model.opset_import[0].version) == (8, OPSET)
    inside = {row.key: json.loads(row.value) for row in model.metadata_props}
    assert inside["class_names"] == list("vwxyz")
    assert (inside["mean"], inside["model"]) == ([0.1, 0.2, 0.3], "csp_densenet121")
    assert inside["spec"]["growth_rate"] == TINY["growth_rate"]
    assert "(pixels / 255 - mean) / std" in model.doc_string
    (source,), (output,) = model.graph.input, model.graph.output
    dims = [dim.dim_param or dim.dim_value for dim in source.type.tensor_type.shape.dim]
    assert (source.name, dims) == (INPUT, ["N", 3, "H", "W"])
    assert about.outputs == (output.name,)


def test_an_export_has_the_same_bytes_again(runtime, tmp_path):
    first, second = (
        gluondense.export(build(), tmp_path / name, (1, 3, 32, 32), "onnx")
        for name in ("first", "second")
    )
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in second]


def test_export_is_optimized_for_inference(runtime, tmp_path):
    import onnx

    net = build("densenet121", {**TINY, "dropout": 0.3})
    files = gluondense.export(net, tmp_path / "net", (1, 3, 32, 32), "onnx")
    operators = [node.op_type for node in onnx.load(str(files.model)).graph.node]
    assert "Dropout" not in operators
    norms = sum(name.endswith("running_var") for name in net.collect_params())
    assert 0 < operators.count("BatchNormalization") < norms


def test_damaged_exports_are_refused(runtime, tmp_path):
    files = gluondense.export(build(), tmp_path / "net", (1, 3, 32, 32), "onnx")
    content = files.model.read_bytes()
    files.model.write_bytes(content[:-1] + b"x")
    with pytest.raises(ValueError, match=r"net\.onnx is damaged"):
        load_exported(files.prefix)
    files.model.unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*net\.onnx"):
        load_exported(files.prefix)


def test_needs_its_packages_and_float32(runtime, tmp_path, monkeypatch):
    net = build()
    net.cast("float64")
    with pytest.raises(ValueError, match="target='onnx' is for float32 networks"):
        gluondense.export(net, tmp_path / "net", (1, 3, 32, 32), "onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs onnx and onnxruntime: pip install 'gluondense"):
        gluondense.export(net, tmp_path / "net", (1, 3, 32, 32), "onnx")
    assert not list(tmp_path.iterdir())
