from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from support.exported_networks import (
    FLOAT_TARGETS,
    SIZES,
    TINY,
    TINY_DPN,
    VARIANTS,
    as_list,
    assert_close,
    build,
    in_stock_mxnet,
    of_case,
    variants,
)
from support.paths import ROOT

import gluondense
from gluondense.deploy import ExportedFiles
from gluondense.graph.trace import NEWER_ATTRIBUTES, PORTABLE_OPERATORS, portable_json, trace


@pytest.fixture(scope="module", params=FLOAT_TARGETS)
def plain(request, tmp_path_factory):
    """Outputs of the networks and of stock MXNet, by variant, size and API."""
    if request.param == "native":
        request.getfixturevalue("native_operator")
    folder = tmp_path_factory.mktemp("exports")
    random, inputs, expected = np.random.default_rng(0), {}, {}
    for variant in variants(request.param):
        net = build(*VARIANTS[variant])
        channels = net.spec.in_channels
        gluondense.export(net, folder / variant, (1, channels, 32, 32), request.param)
        for size, (batch, height, width) in SIZES.items():
            x = random.standard_normal((batch, channels, height, width)).astype("float32")
            inputs[f"{variant}|{size}"] = x
            for index, output in enumerate(as_list(net(mx.nd.array(x)))):
                expected[f"{variant}|{size}|{index}"] = output
    return expected, in_stock_mxnet(folder, inputs)


@pytest.mark.parametrize("api", ["block", "module"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_stock_mxnet_gives_the_same_outputs(plain, variant, size, api):
    expected, found = plain
    if f"{variant}|{size}|0" not in expected:
        pytest.skip("not for this target; tests/native/test_program.py tests the error")
    wanted, got = of_case(expected, variant, size), of_case(found, variant, f"{size}|{api}")
    assert len(got) == len(wanted) == (2 if variant.endswith("features") else 1)
    for one, other in zip(got, wanted):
        assert_close(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("target", FLOAT_TARGETS)
@pytest.mark.parametrize("name", gluondense.list_models())
def test_every_network_in_stock_mxnet(name, target, tmp_path, native_operator):
    net = build(name, {})
    side = max(64, net.min_size)
    x = np.random.default_rng(0).standard_normal((2, net.spec.in_channels, side, side))
    gluondense.export(net, tmp_path / "net", (1, *x.shape[1:]), target)
    found = in_stock_mxnet(tmp_path, {"net|64": x.astype("float32")})
    expected = net(mx.nd.array(x)).asnumpy()
    assert_close(found["net|64|block|0"], expected)
    assert_close(found["net|64|module|0"], expected)


@pytest.mark.parametrize("name", gluondense.list_models())
def test_every_graph_is_portable_and_named_after_its_model(name):
    nodes = json.loads(portable_json(trace(gluondense.get_model(name))))["nodes"]
    assert {node["op"] for node in nodes} - {"null"} <= PORTABLE_OPERATORS
    assert not [
        n for n in nodes if any((n["op"], k) in NEWER_ATTRIBUTES for k in n.get("attrs", {}))
    ]
    names = [node["name"] for node in nodes]
    assert len(set(names)) == len(names)
    assert [n for n in names if not n.startswith(f"{name}_")] == ["data"]


@pytest.mark.parametrize("variant", [v for v in VARIANTS if "-" in v])
def test_options_use_portable_operators_and_unique_names(variant):
    name, fields = VARIANTS[variant]
    nodes = json.loads(portable_json(trace(gluondense.get_model(name, **fields))))["nodes"]
    assert {node["op"] for node in nodes} - {"null"} <= PORTABLE_OPERATORS
    assert len({node["name"] for node in nodes}) == len(nodes)


def test_operators_of_a_plain_densenet_are_the_oldest():
    nodes = json.loads(portable_json(trace(gluondense.get_model("densenet121"))))["nodes"]
    oldest = {"Convolution", "BatchNorm", "Activation", "Pooling", "Concat", "Flatten"}
    assert {node["op"] for node in nodes} == oldest | {"null", "FullyConnected"}


def test_parameters_in_the_file_are_the_networks(tmp_path):
    net = build()
    files = gluondense.export(net, tmp_path / "net", (1, 3, 32, 32))
    arrays = mx.nd.load(str(files.params))
    parameters = net.collect_params()
    assert sorted(key.split(":")[1] for key in arrays) == sorted(parameters)
    assert "arg:densenet121_stage1_layer1_conv1_weight" in arrays
    assert "aux:densenet121_stage1_layer1_norm1_running_var" in arrays
    for key, array in arrays.items():
        kind, name = key.split(":")
        assert kind == ("aux" if "running" in name else "arg")
        np.testing.assert_array_equal(array.asnumpy(), parameters[name].data().asnumpy())


def test_equals_gluons_export_except_training_and_newer_attributes(tmp_path):
    net, x = build("csp_densenet121"), mx.nd.random.normal(shape=(2, 3, 32, 32))
    expected = net(x).asnumpy()
    ours = gluondense.export(net, tmp_path / "ours", (1, 3, 32, 32))
    net.export(str(tmp_path / "theirs"))
    theirs = ExportedFiles.of(tmp_path / "theirs")
    mine, other = (mx.nd.load(str(files.params)) for files in (ours, theirs))
    assert mine.keys() == other.keys()
    assert all((mine[key] == other[key]).min().asscalar() for key in mine)
    graphs = [json.loads(files.symbol.read_text()) for files in (ours, theirs)]
    for mine, other in zip(graphs[0]["nodes"], graphs[1]["nodes"]):
        assert (mine["op"], mine["name"]) == (other["op"], other["name"])
        assert [entry[:2] for entry in mine["inputs"]] == [entry[:2] for entry in other["inputs"]]
        for key, value in mine.get("attrs", {}).items():
            assert other["attrs"][key] == value
            assert mine["op"] != "null" or key == "__shape__"
    assert len(graphs[0]["nodes"]) == len(graphs[1]["nodes"])
    assert graphs[0]["heads"] == graphs[1]["heads"]
    np.testing.assert_array_equal(gluondense.load_exported(ours.prefix)(x).asnumpy(), expected)


def test_same_bytes_again_and_in_another_process(tmp_path):
    def export(folder):
        net = build("dpn68", {**TINY_DPN, "attention": "path", "dropout": 0.1})
        files = gluondense.export(net, folder / "net", (1, 3, 32, 32), class_names="abcde")
        return [file.read_bytes() for file in files]

    first = export(tmp_path / "first")
    nn.HybridSequential().add(nn.Dense(3), nn.Conv2D(3, 3))  # moves Gluon's running numbers on
    build("csp_densenet121")(mx.nd.zeros((1, 3, 32, 32)))
    assert export(tmp_path / "second") == first

    code = (
        "import sys, gluondense; from support.exported_networks import TINY_DPN, build\n"
        "net = build('dpn68', {**TINY_DPN, 'attention': 'path', 'dropout': 0.1})\n"
        "gluondense.export(net, sys.argv[1] + '/net', (1, 3, 32, 32), class_names='abcde')"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, tmp_path], env=environment, check=True)
    assert [file.read_bytes() for file in ExportedFiles.of(tmp_path / "net")] == first


def test_same_bytes_from_a_network_that_was_used_before(tmp_path):
    net = build()
    first = gluondense.export(net, tmp_path / "first", (1, 3, 32, 32))
    net.hybridize()
    net(mx.nd.zeros((2, 3, 32, 32)))
    second = gluondense.export(net, tmp_path / "second", (1, 3, 32, 32))
    fresh = gluondense.export(build(), tmp_path / "fresh", (1, 3, 32, 32))
    for one, two, three in zip(first, second, fresh):
        assert one.read_bytes() == two.read_bytes() == three.read_bytes()


def test_metadata_describes_the_export(tmp_path):
    files = gluondense.export(
        build(),
        tmp_path / "a.b",
        [1, 3, 32, 33],
        class_names=list("vwxyz"),
        mean=[0] * 3,
        std=[1] * 3,
    )
    assert [file.name for file in files] == ["a.b-symbol.json", "a.b-0000.params", "a.b.json"]
    assert files.prefix == str(tmp_path / "a.b")
    about = gluondense.load_exported(files.prefix).metadata
    assert (about.model, about.target, about.input_name) == ("densenet121", "portable", "data")
    assert about.input_shape == (1, 3, 32, 33)
    assert about.outputs == ("densenet121_output_fwd_output",)
    assert (about.class_names, about.mean, about.std) == (tuple("vwxyz"), (0.0,) * 3, (1.0,) * 3)
    assert about.versions["gluondense"] == gluondense.__version__
    again = gluondense.get_model(about.model, **about.spec)
    assert again.spec == gluondense.get_spec("densenet121", **TINY)
    with pytest.raises(dataclasses.FrozenInstanceError):
        about.model = "other"


def test_network_and_random_state_are_unchanged(tmp_path):
    net, x = build("densenet121", {**TINY, "dropout": 0.5}), mx.nd.ones((2, 3, 32, 32))
    net.hybridize(False)
    before = net(x).asnumpy()
    blocks = []
    net.apply(lambda block: blocks.append((block, block._active, list(block._flags))))
    values = {key: value.data().asnumpy() for key, value in net.collect_params().items()}
    mx.random.seed(3)
    np.random.seed(3)
    gluondense.export(net, tmp_path / "net", (1, 3, 32, 32))
    drawn = mx.nd.random.uniform(shape=4).asnumpy(), np.random.rand(4)
    mx.random.seed(3)
    np.random.seed(3)
    np.testing.assert_array_equal(drawn[0], mx.nd.random.uniform(shape=4).asnumpy())
    np.testing.assert_array_equal(drawn[1], np.random.rand(4))
    assert all(block._active == active and block._flags == flags for block, active, flags in blocks)
    np.testing.assert_array_equal(net(x).asnumpy(), before)
    for key, value in net.collect_params().items():
        assert value.list_ctx() == [mx.cpu()]
        np.testing.assert_array_equal(value.data().asnumpy(), values[key])


def test_a_network_in_the_middle_of_training_on_two_devices(tmp_path):
    devices = [mx.cpu(0), mx.cpu(1)]
    net = build("densenet121", {**TINY, "dropout": 0.5})
    expected = net(mx.nd.ones((1, 3, 32, 32))).asnumpy()
    net.collect_params().reset_ctx(devices)
    with mx.autograd.record():
        net(mx.nd.ones((2, 3, 32, 32)))
        files = gluondense.export(net, tmp_path / "net", (1, 3, 32, 32))
    assert all(value.list_ctx() == devices for value in net.collect_params().values())
    block = gluondense.load_exported(files.prefix, ctx=mx.cpu(1))
    got = block(mx.nd.ones((1, 3, 32, 32), ctx=mx.cpu(1)))
    # The forward pass above was a training one: its batch moved the first device's averages.
    assert got.context == mx.cpu(1)
    assert got.shape == expected.shape


def test_a_block_around_a_network_exports_too(tmp_path):
    class Normalized(nn.HybridBlock):
        def __init__(self, net):
            super().__init__(prefix="normalized_")
            self.net = net
            self.mean = self.params.get_constant("mean", mx.nd.array([[[[99]], [[88]], [[77]]]]))

        def hybrid_forward(self, F, x, mean):
            return F.softmax(self.net(F.broadcast_sub(x, mean) / 58.0))

    net = Normalized(build())
    net.mean.initialize()
    files = gluondense.export(net, tmp_path / "net", (1, 3, 32, 32), class_names=list("vwxyz"))
    x = mx.nd.random.uniform(0, 255, shape=(2, 3, 32, 32))
    block = gluondense.load_exported(files.prefix)
    assert_close(block(x).asnumpy(), net(x).asnumpy())
    assert block.metadata.model is None
    loaded = mx.mod.Module.load(files.prefix, 0, label_names=None)
    loaded.bind([("data", x.shape)], for_training=False)  # the mean's shape is not in the data's
    loaded.forward(mx.io.DataBatch([x]), is_train=False)
    assert_close(loaded.get_outputs()[0].asnumpy(), net(x).asnumpy())


def test_an_export_exports_again(tmp_path):
    first = gluondense.export(build(), tmp_path / "first", (1, 3, 32, 32))
    block = gluondense.load_exported(first.prefix)
    second = gluondense.export(block, tmp_path / "second", (1, 3, 32, 32))
    assert second.symbol.read_bytes() == first.symbol.read_bytes()
    assert second.params.read_bytes() == first.params.read_bytes()


def test_onednn_is_for_float32(tmp_path):
    net = build()
    net.cast("float64")
    with pytest.raises(ValueError, match=r"target='onednn' is for float32 networks, not float64"):
        gluondense.export(net, tmp_path / "net", (1, 3, 32, 32), "onednn")
    assert not list(tmp_path.iterdir())


def test_onednn_gives_the_same_bytes_again(tmp_path):
    first, second = (
        gluondense.export(build(), tmp_path / name, (1, 3, 32, 32), "onednn") for name in "ab"
    )
    assert first.symbol.read_bytes() == second.symbol.read_bytes()
    assert first.params.read_bytes() == second.params.read_bytes()


def test_onednn_fuses_each_convolution(tmp_path):
    files = gluondense.export(build(), tmp_path / "net", (1, 3, 32, 32), "onednn")
    operators = [node["op"] for node in json.loads(files.symbol.read_text())["nodes"]]
    assert not {"Convolution", "BatchNorm", "Activation"} & set(operators)
    assert gluondense.load_exported(files.prefix).metadata.target == "onednn"


def test_creates_the_folder_and_no_other_files(tmp_path):
    gluondense.export(build(), tmp_path / "new" / "folder" / "net", (1, 3, 32, 32))
    names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert names == {"net-symbol.json", "net-0000.params", "net.json"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": "onednnn"}, "unknown target 'onednnn'; did you mean 'onednn'"),
        ({"input_shape": (1, 4, 32, 32)}, "takes images of shape"),
        ({"input_shape": (1, 3, 2, 2)}, "needs images of at least"),
        ({"input_shape": (0, 3, 32, 32)}, r"input_shape \(=\(0, 3, 32, 32\)\) must be positive"),
        ({"class_names": ["one", "two"]}, r"class_names \(2 of them\).*\(1, 5\)"),
        ({"mean": (0.5,)}, r"mean \(=\(0.5,\)\) must have 3 numbers"),
        ({"mean": (0, 0, 0), "std": (1, 0, 1)}, r"std .* must be positive"),
    ],
)
def test_refuses_wrong_arguments_in_one_line(tmp_path, arguments, words):
    arguments = {"input_shape": (1, 3, 32, 32), **arguments}
    with pytest.raises(ValueError, match=words) as caught:
        gluondense.export(build(), tmp_path / "net", **arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_refuses_an_uninitialized_network(tmp_path):
    with pytest.raises(ValueError, match=r"not initialized .*net\.initialize\(\)"):
        gluondense.export(gluondense.get_model("densenet121"), tmp_path / "net", (1, 3, 64, 64))


def test_refuses_operators_that_are_not_portable(tmp_path):
    net = nn.HybridSequential()
    net.add(build(), nn.HybridLambda("sin"))
    with pytest.raises(ValueError, match=r"'portable'\) has no operator \w+ \(.*\): export"):
        gluondense.export(net, tmp_path / "net", (1, 3, 32, 32))


def test_portable_files_have_no_gelu(tmp_path):
    net = nn.HybridSequential()
    net.add(nn.Dense(4, in_units=12), nn.GELU(), nn.Dense(3, in_units=4), nn.GELU())
    net.initialize(mx.init.Normal(1))
    files = gluondense.export(net, tmp_path / "net", (5, 3, 2, 2))
    x = mx.nd.random.normal(shape=(5, 3, 2, 2))
    assert "LeakyReLU" not in files.symbol.read_text()
    assert_close(gluondense.load_exported(files.prefix)(x).asnumpy(), net(x).asnumpy())


def test_refuses_newer_attributes_with_another_meaning():
    pooled = mx.sym.Pooling(mx.sym.var("data"), kernel=(2, 2), layout="NHWC", name="pool")
    with pytest.raises(ValueError, match=r"needs layout=NCHW in Pooling \(pool\)"):
        portable_json(pooled)


@pytest.fixture
def kept(tmp_path):
    """An export that a failure must leave unchanged, without other files."""
    files = gluondense.export(build(seed=5), tmp_path / "net", (1, 3, 32, 32))
    yield files
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {file.name for file in files}


def test_replaces_an_earlier_export(kept):
    before = kept.params.read_bytes()
    gluondense.export(build(), kept.prefix, (1, 3, 32, 32))
    assert kept.params.read_bytes() != before
    gluondense.load_exported(kept.prefix)


def test_old_files_stay_if_the_loaded_graph_differs(kept, monkeypatch):
    before = [file.read_bytes() for file in kept]
    monkeypatch.setattr("gluondense.deploy.verification.import_block", lambda *_: build(seed=9))
    with pytest.raises(RuntimeError, match="outputs are off by") as caught:
        gluondense.export(build(), kept.prefix, (1, 3, 32, 32))
    assert "\n" not in str(caught.value)
    assert [file.read_bytes() for file in kept] == before


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_old_files_stay_if_a_rename_fails(kept, monkeypatch, failing):
    before, rename = [file.read_bytes() for file in kept], os.replace

    def replace(source, goal):
        if Path(source).name == kept_names[failing] and Path(goal) == tuple(kept)[failing]:
            raise OSError(28, "No space left on device", str(goal))
        rename(source, goal)

    kept_names = [file.name for file in kept]
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="No space left"):
        gluondense.export(build(), kept.prefix, (1, 3, 32, 32))
    assert [file.read_bytes() for file in kept] == before


def test_no_partial_export_if_a_rename_fails(tmp_path):
    (tmp_path / "net.json").mkdir()
    with pytest.raises(OSError, match=r"net\.json"):
        gluondense.export(build(), tmp_path / "net", (1, 3, 32, 32))
    assert [path.name for path in tmp_path.iterdir()] == ["net.json"]


def test_refuses_outputs_that_are_not_finite(kept):
    net = build()
    largest = float(np.finfo(np.float32).max)
    net.output.weight.set_data(mx.nd.full(net.output.weight.shape, largest))
    before = [file.read_bytes() for file in kept]
    with pytest.raises(RuntimeError, match="not finite"):
        gluondense.export(net, kept.prefix, (1, 3, 32, 32))
    assert [file.read_bytes() for file in kept] == before


def test_error_names_the_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*file \(.*\): export to another path"):
        gluondense.export(build(), tmp_path / "file" / "net", (1, 3, 32, 32))
    with pytest.raises(ValueError, match="must end with a name"):
        gluondense.export(build(), f"{tmp_path}/", (1, 3, 32, 32))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot write to"):
        gluondense.export(build(), tmp_path / "net", (1, 3, 32, 32))
    tmp_path.chmod(0o700)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return gluondense.export(build(), tmp_path_factory.mktemp("export") / "net", (1, 3, 32, 32))


@pytest.mark.parametrize("end", ["", "-symbol.json", "-0000.params", ".json"])
def test_loads_by_prefix_or_any_file(exported, end):
    x = mx.nd.ones((2, 3, 40, 32))
    block = gluondense.load_exported(exported.prefix + end)
    assert_close(block(x).asnumpy(), build()(x).asnumpy())


@pytest.fixture
def copied(exported, tmp_path):
    files = ExportedFiles.of(tmp_path / "copied")
    for source, goal in zip(exported, files):
        goal.write_bytes(source.read_bytes())
    return files


def test_loads_under_another_name(copied):
    assert gluondense.load_exported(copied.prefix).metadata.model == "densenet121"


@pytest.mark.parametrize("name", ["symbol", "params", "metadata"])
def test_names_the_missing_file(copied, name):
    missing = getattr(copied, name)
    missing.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        gluondense.load_exported(copied.prefix)
    assert str(missing) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["symbol", "params"])
def test_names_the_damaged_file(copied, name):
    damaged = getattr(copied, name)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="is damaged") as caught:
        gluondense.load_exported(copied.prefix)
    assert str(damaged) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "does not describe an export"),
        ("[]", "does not describe an export"),
        ('{"format": 1}', "does not describe an export"),
        ('{"format": 3, "news": 1}', "has format 3, this gluondense reads 1 to 2"),
    ],
)
def test_names_the_invalid_metadata(copied, text, words):
    copied.metadata.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        gluondense.load_exported(copied.prefix)
    assert str(copied.metadata) in str(caught.value)
    assert "\n" not in str(caught.value)
