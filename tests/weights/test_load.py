"""Loading and saving weights in every naming scheme: completely or not at all, and reported."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from mxnet.gluon import nn
from mxnet.gluon.model_zoo import vision
from safetensors.numpy import load_file, save_file
from support.naming import COMPLETE
from support.paths import ROOT
from support.reference import assert_close, images, randomize
from support.small_networks import FAMILIES
from support.torch_files import tensor, zip_file

import gluondense
from gluondense.files import sha256
from gluondense.weights import NAMING_SCHEMES, WEIGHTS, load_weights, open_weights, save_weights
from gluondense.weights.save import named_arrays

SMALL = {"block_config": (2, 2, 1, 1), "growth_rate": 8, "num_init_features": 16, "classes": 7}
DPN = {
    "num_blocks": (1, 2),
    "increments": (16, 8),
    "bottleneck_width": 32,
    "groups": 8,
    "classes": 7,
}


def small(name: str = "densenet121", **fields):
    return gluondense.get_model(name, **{**SMALL, **fields})


def values(net) -> dict[str, np.ndarray]:
    return {k: p.data().asnumpy() for k, p in net._collect_params_with_prefix().items()}


def assert_same(net, other) -> None:
    left, right = values(net), values(other)
    assert left.keys() == right.keys()
    for key, array in left.items():
        np.testing.assert_array_equal(array, right[key], err_msg=key)


@pytest.fixture
def saved(tmp_path):
    """A small network and its file."""
    net = randomize(small())
    net.save_parameters(str(tmp_path / "net.params"))
    return net, tmp_path / "net.params"


@pytest.mark.parametrize("initialize", [False, True])
def test_gluondense_files(saved, initialize):
    net, path = saved
    other = small()
    if initialize:
        other.initialize()
    report = load_weights(other, path)
    assert (report.format, report.naming) == ("mxnet", "gluondense")
    assert set(report.loaded) == set(values(net))
    assert report.fresh == report.adapted == report.ignored == ()
    assert_same(net, other)


@pytest.mark.parametrize("initialize", [False, True])
@pytest.mark.parametrize("hybridize", [False, True])
def test_a_network_that_is_in_use(saved, initialize, hybridize):
    """oneDNN stores a convolution's weights in its blocked layout after the first prediction."""
    net, path = saved
    other = small()
    other.hybridize(hybridize, static_alloc=True, static_shape=True)
    if initialize:
        other.initialize()
    else:
        load_weights(other, path)
        other.collect_params().zero_grad()
        for parameter in other.collect_params().values():
            parameter.set_data(parameter.data() / 2)
    x = mx.nd.array(images(2, 3, 32, 32))
    before, weight = other(x).asnumpy(), other.features[0][0].weight.data()
    load_weights(other, path)
    assert_same(net, other)
    assert_close(other(x), net(x).asnumpy())
    assert np.abs(other(x).asnumpy() - before).max() > 1e-3
    assert other.features[0][0].weight.data() is weight


@pytest.mark.parametrize("grad_req", ["write", "add"])
def test_a_loaded_network_trains(saved, grad_req):
    """Exactly as one that ``load_parameters`` loaded."""
    _, path = saved
    net, other = small(), small()
    load_weights(net, path)
    other.load_parameters(str(path))
    x = mx.nd.array(images(2, 3, 32, 32))
    for network in (net, other):
        network.collect_params().setattr("grad_req", grad_req)
        trainer = gluon.Trainer(network.collect_params(), "sgd", {"momentum": 0.9})
        assert not network.output.weight.grad().asnumpy().any()
        for _ in range(2):
            with mx.autograd.record():
                network(x).sum().backward()
            assert np.abs(network.output.weight.grad().asnumpy()).max() > 0
            trainer.step(2)
    for key, array in values(other).items():
        np.testing.assert_allclose(values(net)[key], array, rtol=1e-4, atol=1e-6, err_msg=key)


def test_no_gradients_with_grad_req_null(saved):
    _, path = saved
    net = small()
    net.collect_params(".*conv.*").setattr("grad_req", "null")
    load_weights(net, path)
    for name, parameter in net.collect_params().items():
        wanted = "conv" not in name and "running" not in name
        assert (parameter._grad is not None) == wanted == (parameter.grad_req == "write"), name


def test_gluondense_exports(saved, tmp_path):
    net, _ = saved
    files = gluondense.export(net, tmp_path / "export" / "net", (1, 3, 32, 32))
    other = small(prefix="other_")
    assert load_weights(other, files.params).naming == "gluondense-export"
    assert_same(net, other)


@pytest.mark.parametrize("suffix", ["params", "export"])
def test_model_zoo_files(suffix, tmp_path):
    zoo = vision.densenet121()
    zoo.initialize()
    x = mx.nd.array(images(1, 3, 224, 224))
    zoo.hybridize()
    zoo(x)
    expected = randomize(zoo)(x).asnumpy()
    if suffix == "export":
        zoo.export(str(tmp_path / "zoo"))
        path, naming = tmp_path / "zoo-0000.params", "mxnet-zoo-export"
    else:
        path, naming = tmp_path / "zoo.params", "mxnet-zoo"
        zoo.save_parameters(str(path))
    net = gluondense.get_model("densenet121")
    report = load_weights(net, path)
    assert report.naming == naming
    assert net.preprocessing.mean == (0.485, 0.456, 0.406)
    assert_close(net(x), expected)


def tutorial() -> nn.Sequential:
    """Seed 002's network, built the same way but without ``npx.set_np``."""

    class DenseBlock(nn.Block):
        def __init__(self, layers: int) -> None:
            super().__init__()
            self.net = nn.Sequential()
            for _ in range(layers):
                self.net.add(unit(nn.Conv2D(32, 3, padding=1)))

        def forward(self, x):
            for block in self.net:
                x = mx.nd.concat(x, block(x), dim=1)
            return x

    def unit(*last: nn.Block) -> nn.Sequential:
        block = nn.Sequential()
        block.add(nn.BatchNorm(), nn.Activation("relu"), *last)
        return block

    net, channels = nn.Sequential(), 64
    net.add(nn.Conv2D(64, 7, 2, 1), nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool2D(3, 2, 1))
    for index in range(4):
        net.add(DenseBlock(4))
        channels += 4 * 32
        if index < 3:
            channels //= 2
            net.add(unit(nn.Conv2D(channels, 1), nn.AvgPool2D(2, 2)))
    net.add(nn.BatchNorm(), nn.Activation("relu"), nn.GlobalAvgPool2D(), nn.Dense(10))
    return net


def test_d2l_files(tmp_path):
    theirs = tutorial()
    theirs.initialize()
    x = mx.nd.array(images(2, 1, 96, 96))
    theirs(x)
    expected = randomize(theirs)(x).asnumpy()
    theirs.save_parameters(str(tmp_path / "tutorial.params"))
    net = gluondense.get_model("densenet_tutorial")
    assert load_weights(net, tmp_path / "tutorial.params").naming == "d2l"
    assert_close(net(x), expected)


# Fields of small networks for each naming scheme.
FIELDS = {
    "cifar": {"block_config": (2, 1, 2)},
    "tutorial": {},
    "dpn": DPN,
    "csp_resne": {"widths": (16, 32), "num_blocks": (1, 2), "groups": 4},
    "darknet": FAMILIES["csp_darknet53"],
    "peleenet": FAMILIES["csp_peleenet"],
    "rdnet": FAMILIES["rdnet_tiny"],
    "dense": {k: v for k, v in SMALL.items() if k != "classes"},
}


@pytest.mark.parametrize("suffix", ["params", "safetensors"])
@pytest.mark.parametrize(("naming", "model"), COMPLETE)
def test_saved_weights_can_be_loaded(naming, model, suffix, tmp_path):
    fields = next(fields for word, fields in FIELDS.items() if word in model)
    fields = {**fields, "classes": 3, "in_channels": 1}
    net = gluondense.get_model(model, **fields)
    net.initialize()
    path = tmp_path / f"net.{suffix}"
    assert save_weights(net, path, naming).name == naming
    other = gluondense.get_model(model, **fields)
    assert load_weights(other, path).naming == naming
    assert_same(net, other)


def test_module_checkpoints(tmp_path):
    """The DPN authors' files: ``arg:`` and ``aux:``, two convolutions for each of ours."""
    fields = {**DPN, "classes": 1000}
    net = randomize(gluondense.get_model("dpn68b", **fields))
    arrays = named_arrays(net, NAMING_SCHEMES["cypw-dpn-b"])
    assert arrays["conv2_x__1_c1x1-c1__conv_weight"].shape[0] == net.spec.residual_width
    assert arrays["conv2_x__1_c1x1-c2__conv_weight"].shape[0] == net.spec.increments[0]
    kinds = {name: "aux" if "moving" in name else "arg" for name in arrays}
    named = {f"{kinds[k]}:{k.replace('fc6', 'fc6-1k')}": mx.nd.array(a) for k, a in arrays.items()}
    mx.nd.save(str(tmp_path / "dpn-0000.params"), named)
    other = gluondense.get_model("dpn68b", **fields)
    report = load_weights(other, tmp_path / "dpn-0000.params")
    assert report.naming == "cypw-dpn-b"
    assert other.preprocessing.mean == (124 / 255, 117 / 255, 104 / 255)
    assert_same(net, other)


def test_batch_counters_are_ignored(saved, tmp_path):
    net, _ = saved
    arrays = named_arrays(net, NAMING_SCHEMES["torchvision"])
    counts = {"features.norm0.num_batches_tracked": np.array([7])}
    write(tmp_path / "net.params", {**arrays, **counts})
    report = load_weights(small(), tmp_path / "net.params")
    assert report.ignored == tuple(counts)
    assert "1 ignored: features.norm0.num_batches_tracked" in str(report)


def write(path, arrays) -> None:
    mx.nd.save(str(path), {k: mx.nd.array(a, dtype=a.dtype) for k, a in arrays.items()})


@pytest.mark.parametrize("initialize", [False, True])
def test_other_classes_do_not_load_the_output(saved, initialize, caplog):
    net, path = saved
    other = small(classes=3)
    before = None
    if initialize:
        other.initialize()
        before = other.output.weight.data().asnumpy()
    with caplog.at_level(logging.WARNING):
        report = load_weights(other, path)
    assert report.fresh == ("output.weight", "output.bias")
    assert "has 7 classes" in caplog.text
    assert ("keeps its values" if initialize else "is initialized") in caplog.text
    weight = other.output.weight.data().asnumpy()
    assert weight.shape[0] == 3
    assert weight.any()
    if initialize:
        np.testing.assert_array_equal(weight, before)
    for key, array in values(other).items():
        if not key.startswith("output"):
            np.testing.assert_array_equal(array, values(net)[key])


@pytest.mark.parametrize("channels", [1, 2, 5, 6])
def test_other_channels_convert_the_stem(saved, channels, caplog):
    """An image of equal channels gives the same result if every filter is used equally often."""
    net, path = saved
    other = small(in_channels=channels)
    with caplog.at_level(logging.WARNING):
        report = load_weights(other, path)
    assert report.adapted == ("features.stem.conv.weight",)
    assert f"stem's filters from 3 channels to {channels}" in caplog.text
    if channels in (1, 6):
        grey = images(1, 1, 32, 32)
        expected = net(mx.nd.array(np.repeat(grey, 3, axis=1)))
        got = other(mx.nd.array(np.repeat(grey, channels, axis=1)))
        assert_close(got, expected.asnumpy())


def test_preprocessing_is_converted_to_the_channels(tmp_path):
    net = gluondense.get_model("densenet121", classes=2)
    net.initialize()
    net.preprocessing = WEIGHTS["densenet121.tv_in1k"].preprocessing
    save_weights(net, tmp_path / "net.safetensors")
    for channels, length in ((1, 1), (4, 4)):
        other = gluondense.get_model("densenet121", classes=2, in_channels=channels)
        load_weights(other, tmp_path / "net.safetensors")
        assert len(other.preprocessing.mean) == len(other.preprocessing.std) == length
    assert other.preprocessing.mean[3] == other.preprocessing.mean[0]


@pytest.mark.parametrize("name", ["densenet100_k12_bc_cifar10", "densenet121"])
def test_an_unknown_preprocessing_stays_unknown(tmp_path, name):
    """Even though torchvision's weights, which have these names, expect ImageNet's mean."""
    net = gluondense.get_model(name)
    net.initialize()
    scheme = "veit-densenet" if "cifar" in name else "torchvision"
    save_weights(net, tmp_path / "net.safetensors", scheme)
    other = gluondense.get_model(name)
    other.preprocessing = WEIGHTS["densenet121.tv_in1k"].preprocessing  # of an earlier file
    report = load_weights(other, tmp_path / "net.safetensors")
    assert report.preprocessing is other.preprocessing is None
    save_weights(other, tmp_path / "again.safetensors")
    load_weights(net, tmp_path / "again.safetensors")
    assert net.preprocessing is None


@pytest.mark.parametrize(
    ("fields", "known"), [({}, True), ({"classes": 10}, False), ({"in_channels": 1}, False)]
)
def test_the_usual_preprocessing_is_for_the_usual_classes_and_channels(tmp_path, fields, known):
    fields = {**SMALL, "classes": 1000, **fields}
    net = gluondense.get_model("densenet121", **fields)
    net.initialize()
    write(tmp_path / "net.params", named_arrays(net, NAMING_SCHEMES["torchvision"]))
    other = gluondense.get_model("densenet121", **{**fields, "classes": 3, "in_channels": 3})
    report = load_weights(other, tmp_path / "net.params")
    assert (report.preprocessing is not None) == known


def test_published_files_are_recognized(tmp_path, monkeypatch):
    """By name and content; timm's DPN-68b has another preprocessing than the authors'."""
    net = gluondense.get_model("dpn68b", **DPN)
    net.initialize()
    row = WEIGHTS["dpn68b.ra_in1k"]
    arrays = named_arrays(net, NAMING_SCHEMES["timm-dpn-b"])
    path = tmp_path / row.file_name
    path.write_bytes(zip_file({name: tensor(array) for name, array in arrays.items()}))
    assert load_weights(net, path).preprocessing is None
    known = dataclasses.replace(row, sha256=sha256(path)[:9])
    monkeypatch.setitem(WEIGHTS, row.name, known)
    assert load_weights(net, path).preprocessing == row.preprocessing


@pytest.mark.parametrize("initialize", [False, True])
def test_values_that_are_not_finite_are_refused(saved, tmp_path, initialize, caplog):
    net, _ = saved
    arrays = values(net)
    arrays["features.norm.gamma"][:2] = np.nan, -np.inf
    arrays["output.bias"][1] = np.inf
    write(tmp_path / "bad.params", arrays)
    other = small()
    if initialize:
        other.initialize()
    count = len(arrays)
    words = (
        f"3 values that are nan or infinite, in 2 of {count} arrays",
        f"features.norm.gamma (2 of {len(arrays['features.norm.gamma'])}), output.bias (1 of 7)",
        "allow_nan",
    )
    refused(other, tmp_path / "bad.params", *words)
    load_weights(other, tmp_path / "bad.params", allow_nan=True)
    np.testing.assert_array_equal(values(other)["output.bias"], arrays["output.bias"])
    assert "3 values that are nan or infinite" in caplog.text


def test_large_finite_values_are_accepted(saved, tmp_path):
    """Even though their sum is infinite."""
    net, _ = saved
    arrays = values(net)
    arrays["output.bias"][:] = np.finfo(np.float32).max
    write(tmp_path / "large.params", arrays)
    load_weights(small(), tmp_path / "large.params")


def test_preprocessing_in_the_file_takes_precedence(tmp_path):
    """timm has DPN-68b with ImageNet's mean and with the DPN authors', in one naming scheme."""
    net = gluondense.get_model("dpn68b", **DPN)
    net.initialize()
    net.preprocessing = gluondense.weights.WEIGHTS["dpn68b.ra_in1k"].preprocessing
    save_weights(net, tmp_path / "dpn.safetensors")
    other = gluondense.get_model("dpn68b", **DPN)
    report = load_weights(other, tmp_path / "dpn.safetensors")
    assert other.preprocessing == report.preprocessing == net.preprocessing
    assert other.preprocessing.mean[0] == 0.485


@pytest.mark.parametrize("text", ["", "[]", '{"mean": 3}', '{"mean": [1], "std": [1], "x": 1}'])
def test_invalid_preprocessing_is_refused(tmp_path, text):
    net = gluondense.get_model("dpn68b", **DPN)
    net.initialize()
    path = tmp_path / "dpn.safetensors"
    save_file(
        named_arrays(net, NAMING_SCHEMES["timm-dpn-b"]), path, metadata={"preprocessing": text}
    )
    refused(gluondense.get_model("dpn68b", **DPN), path, "is not a preprocessing")


def test_features_only_ignores_the_output(saved):
    net, path = saved
    features = small(features_only=True)
    report = load_weights(features, path)
    assert report.ignored == ("output.weight", "output.bias")
    x = mx.nd.array(images(1, 3, 32, 32))
    assert_close(net.output(features(x)[-1].mean(axis=(2, 3))), net(x).asnumpy())


def test_several_devices(saved):
    net, path = saved
    devices = [mx.cpu(0), mx.cpu(1)]
    other = small()
    load_weights(other, path, ctx=devices)
    assert other.output.weight.list_ctx() == devices
    for ctx in devices:
        got = other.output.weight.data(ctx).asnumpy()
        np.testing.assert_array_equal(got, net.output.weight.data().asnumpy())
    # Loading again keeps the devices.
    load_weights(other, path)
    assert other.output.weight.list_ctx() == devices


def test_values_are_cast_to_the_network_s_dtype(saved, tmp_path):
    net, _ = saved
    net.cast("float16")
    net.save_parameters(str(tmp_path / "half.params"))
    other = small()
    load_weights(other, tmp_path / "half.params")
    assert other.output.weight.data().dtype == np.float32
    np.testing.assert_array_equal(
        other.output.weight.data().asnumpy(), net.output.weight.data().asnumpy()
    )


def refused(net, path, *words: str, **options) -> None:
    """Check for a one-line error with these words, and an unchanged network."""
    initialized = net.output.weight._data is not None
    before = values(net) if initialized else None
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        load_weights(net, path, **options)
    for word in (str(path), *words):
        assert word in str(caught.value)
    if before is None:
        assert all(p._data is None for p in net.collect_params().values())
    else:
        after = values(net)
        assert all((after[key] == before[key]).all() for key in before)


@pytest.mark.parametrize("initialize", [False, True])
def test_mismatches_are_listed(saved, tmp_path, initialize):
    net, path = saved

    def other(**fields):
        network = small(**fields)
        if initialize:
            network.initialize()
        return network

    deeper = other(block_config=(2, 3, 1, 1))
    refused(deeper, path, "missing", "features.stage2.layer3.norm1.gamma", "and", "more")
    wider = other(growth_rate=16)
    refused(wider, path, "misshapen", "features.stage1.layer1.conv1.weight (64, 16, 1, 1)", "(32, ")
    arrays = {**values(net), "extra.weight": np.zeros(3)}
    write(tmp_path / "extra.params", arrays)
    refused(other(), tmp_path / "extra.params", "1 unexpected: extra.weight")
    arrays = {k: a for k, a in values(net).items() if k != "output.bias"}
    write(tmp_path / "less.params", arrays)
    refused(other(), tmp_path / "less.params", "1 missing: output.bias")


@pytest.mark.parametrize("shape", [(), (64, 3, 1, 1), (64,)])
def test_parts_that_cannot_be_concatenated_are_refused(tmp_path, shape):
    """DPN-68b's two convolutions behind one normalization are one in our network."""
    net = gluondense.get_model("dpn68b", **DPN)
    net.initialize()
    path = tmp_path / "net.safetensors"
    save_weights(net, path, "timm-dpn-b")
    arrays = load_file(path)
    part = "features.conv2_1.c1x1_c2.weight"
    save_file({**arrays, part: np.resize(arrays[part], shape)}, path)
    refused(net, path, "1 misshapen: features.stage1.block1.conv_c.conv.weight")


def test_other_eps_is_refused(tmp_path):
    net = gluondense.get_model("dpn68", **DPN)
    net.initialize()
    save_weights(net, tmp_path / "dpn.safetensors")
    other = gluondense.get_model("dpn68", eps=1e-5, **DPN)
    refused(other, tmp_path / "dpn.safetensors", "eps=0.001", "timm-dpn names", "eps=1e-05")


def test_files_of_other_networks_are_refused(saved, tmp_path):
    _, path = saved
    refused(
        gluondense.get_model("dpn68"), path, "match no naming scheme", "features.stem.conv.weight"
    )
    write(tmp_path / "resnet.params", {"layer1.0.conv1.weight": np.zeros((3, 3))})
    words = (
        "1 arrays, which match no naming scheme of densenet121 (layer1.0.conv1.weight)",
        "no network of gluondense.list_models() with its default fields fits it",
    )
    refused(small(), tmp_path / "resnet.params", *words)


def test_the_error_names_the_network_that_fits(tmp_path):
    net = gluondense.get_model("dpn68")
    net.initialize()
    save_weights(net, tmp_path / "dpn.safetensors")
    refused(gluondense.get_model("dpn92"), tmp_path / "dpn.safetensors", "it fits dpn68 and dpn68b")
    refused(
        small(), tmp_path / "dpn.safetensors", "match no naming scheme", "it fits dpn68 and dpn68b"
    )


def test_the_naming_scheme_can_be_given(saved):
    _, path = saved
    assert load_weights(small(), path, naming="gluondense").naming == "gluondense"
    refused(small(), path, "torchvision names", "missing", naming="torchvision")
    message = "unknown naming scheme 'torchvison'; did you mean 'torchvision'"
    with pytest.raises(ValueError, match=message):
        load_weights(small(), path, naming="torchvison")


def test_layout_is_a_deprecated_name_of_naming(saved):
    _, path = saved
    with pytest.warns(DeprecationWarning, match="layout is now called naming"):
        report = load_weights(small(), path, layout="gluondense")
    assert report.naming == "gluondense"


def test_missing_file():
    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_weights(small(), "nowhere.params")


def test_a_file_that_shrinks_during_loading(saved, monkeypatch):
    _, path = saved
    other = small()

    def open_and_cut(path):
        file = open_weights(path)
        os.truncate(path, path.stat().st_size // 2)
        return file

    monkeypatch.setattr("gluondense.weights.load.open_weights", open_and_cut)
    with pytest.raises(ValueError, match="became shorter while it was read"):
        load_weights(other, path)
    assert all(value._data is None for value in other.collect_params().values())


def test_other_dtypes_are_refused(saved):
    net, path = saved
    net.output.bias.cast("int32")
    refused(net, path, "output.bias is int32; cast the network to float32 first")


@pytest.mark.slow
def test_loading_takes_at_most_2_5_times_the_file_in_memory(tmp_path):
    net = gluondense.get_model("densenet121")
    net.initialize()
    arrays = named_arrays(net, NAMING_SCHEMES["torchvision"])
    path = tmp_path / "net.pth"
    path.write_bytes(zip_file({name: tensor(array) for name, array in arrays.items()}))
    worker = ROOT / "scripts/benchmarking/workers/load_weights.py"
    command = [sys.executable, worker, "gluondense", path, "densenet121"]
    output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert 1 < float(output.split()[1]) < 2.5


def test_errors_of_saving(tmp_path):
    net = small()
    with pytest.raises(ValueError, match="has no values"):
        save_weights(net, tmp_path / "net.params")
    net.initialize()
    with pytest.raises(ValueError, match=r"must end in \.params or \.safetensors"):
        save_weights(net, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"'timm-dpn' has no name for features\.stage1"):
        save_weights(net, tmp_path / "net.params", "timm-dpn")
    se = small(attention="se")
    se.initialize()
    with pytest.raises(ValueError, match="no PyTorch library has densenet121 with these fields"):
        save_weights(se, tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def test_failed_saving_keeps_the_old_file(saved, tmp_path, monkeypatch):
    net, path = saved
    before = path.read_bytes()

    def fail(name, _):
        Path(name).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("mxnet.nd.save", fail)
    with pytest.raises(OSError, match="no space left"):
        save_weights(net, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_safetensors_metadata(tmp_path):
    net = gluondense.get_model("dpn68b", **DPN)
    net.initialize()
    path = tmp_path / "dpn.safetensors"
    assert save_weights(net, path).name == "timm-dpn-b"
    with open_weights(path) as file:
        assert file.metadata["model"] == "dpn68b"
        assert file.metadata["layout"] == "timm-dpn-b"
        assert file.shapes["classifier.weight"] == (7, net.out_channels, 1, 1)
