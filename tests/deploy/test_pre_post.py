"""Exports with pre- and post-processing in the graph and with float16 weights."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from mxnet.gluon.model_zoo import vision
from support.exported_networks import TINY, VARIANTS, assert_close, build, in_stock_mxnet
from support.paths import ROOT

import gluondense
from gluondense.data.transforms.batch import normalize
from gluondense.deploy import Calibration, predict
from gluondense.deploy.targets import TARGETS

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
NUMBERS = {"mean": MEAN, "std": STD}
SHAPE = (1, 3, 32, 32)
MXNET_TARGETS = [name for name in TARGETS if not name.startswith("onnx")]
FAMILIES = ("densenet", "csp-last", "dpn", "residual")
# Of the probabilities; int8 approximates the network.
TOLERANCE = {"native_bf16": 0.01, "int8": 0.1, "native_int8": 0.1}


def pixels(count: int = 3, height: int = 40, width: int = 32) -> np.ndarray:
    shape = (count, height, width, 3)
    return np.random.default_rng(0).integers(0, 256, shape).astype("uint8")


def logits(net, images: np.ndarray) -> np.ndarray:
    return net(mx.nd.array(normalize(images, MEAN, STD))).asnumpy()


def probabilities(net, images: np.ndarray) -> np.ndarray:
    return mx.nd.array(logits(net, images)).softmax().asnumpy()


def export(net, path, target="portable", **options):
    if TARGETS[target].needs_calibration:
        images = normalize(pixels(16, 32), MEAN, STD)
        options["calibration"] = Calibration(images, max_changed=1.0)
    return gluondense.export(net, path, SHAPE, target, **NUMBERS, **options)


@pytest.mark.parametrize("target", MXNET_TARGETS)
def test_pixels_to_probabilities_in_stock_mxnet(target, tmp_path, request):
    if target.startswith("native"):
        request.getfixturevalue("native_operator")
    net = build()
    export(net, tmp_path / "net", target, preprocess=True, output="probabilities")
    few, many = pixels(1, 32), pixels()
    # Stock MXNet's Module binds float32; the graph takes both types.
    found = in_stock_mxnet(
        tmp_path, {"net|bytes": many.astype("float32"), "net|one": few.astype("float32")}
    )
    block = gluondense.load_exported(tmp_path / "net")
    for case, images in (("bytes", many), ("one", few)):
        expected = probabilities(net, images)
        got = block(mx.nd.array(images, dtype="uint8")).asnumpy()
        np.testing.assert_allclose(got, expected, atol=TOLERANCE.get(target, 1e-5))
        for api in ("block", "module"):
            np.testing.assert_allclose(found[f"net|{case}|{api}|0"], got, atol=1e-6)


@pytest.mark.parametrize("variant", FAMILIES)
def test_normalization_in_the_graph_is_exact(variant, tmp_path):
    net = build(*VARIANTS[variant])
    files = export(net, tmp_path / "net", preprocess=True)
    got = gluondense.load_exported(files.prefix)(mx.nd.array(pixels(), dtype="uint8"))
    np.testing.assert_array_equal(got.asnumpy(), logits(net, pixels()))


def test_float16_weights_are_half_the_size_and_run_on_a_cpu(tmp_path):
    images, expected = normalize(pixels(), MEAN, STD), {}
    for variant in FAMILIES:
        net = build(*VARIANTS[variant])
        half = export(net, tmp_path / variant, params_dtype="float16")
        full = export(net, tmp_path / "full" / variant)
        for name, array in mx.nd.load(str(half.params)).items():
            assert array.dtype == (np.float16 if array.ndim > 1 else np.float32), name
        assert half.params.stat().st_size < 0.7 * full.params.stat().st_size
        expected[variant] = logits(net, pixels())
    found = in_stock_mxnet(tmp_path, {f"{variant}|x": images for variant in FAMILIES})
    for variant, outputs in expected.items():
        for api in ("block", "module"):
            np.testing.assert_allclose(
                found[f"{variant}|x|{api}|0"], outputs, atol=0.01 * np.abs(outputs).max()
            )


def test_float16_refuses_weights_beyond_its_range(tmp_path):
    net = build()
    net.output.weight.set_data(net.output.weight.data() * 1e7)
    with pytest.raises(ValueError, match=r"up to 65504, and densenet121_output_weight has"):
        export(net, tmp_path / "net", params_dtype="float16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["portable", "onednn", "native"])
def test_features_are_the_input_of_the_last_layer(target, tmp_path, request):
    if target == "native":
        request.getfixturevalue("native_operator")
    net = build()
    files = export(net, tmp_path / "net", target, output="features", class_names="abcde")
    block = gluondense.load_exported(files.prefix)
    x = mx.nd.array(normalize(pixels(), MEAN, STD))
    features = block(x)
    assert_close(features.asnumpy(), net.features(x).asnumpy())
    assert_close(net.output(features).asnumpy(), net(x).asnumpy())
    assert block.metadata.class_names is None


def test_features_of_mxnets_model_zoo(tmp_path):
    net = vision.mobilenet0_25(classes=5)
    net.initialize()
    x = mx.nd.ones((2, 3, 32, 32))
    files = gluondense.export(net, tmp_path / "net", SHAPE, output="features")
    assert_close(gluondense.load_exported(files.prefix)(x).asnumpy(), net.features(x).asnumpy())


def test_metadata_has_the_options(tmp_path):
    files = export(build(), tmp_path / "net", preprocess=True, output="probabilities")
    about = gluondense.load_exported(files.prefix).metadata
    assert (about.preprocess, about.output, about.params_dtype) == (
        True,
        "probabilities",
        "float32",
    )
    assert about.input_shape == SHAPE
    assert about.outputs == ("probabilities_output",)


def test_same_bytes_again(tmp_path):
    options = {"preprocess": True, "output": "probabilities", "params_dtype": "float16"}
    first, second = (export(build(), tmp_path / name / "net", **options) for name in "ab")
    for one, other in zip(first, second):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"output": "feature"}, r"unknown output 'feature'; did you mean 'features'"),
        ({"params_dtype": "float61"}, r"unknown params_dtype 'float61'; did you mean 'float16'"),
        (
            {"preprocess": True, "mean": None, "std": None},
            r"preprocess=True normalizes with mean and std",
        ),
        ({"preprocess": True, "mean": None}, r"mean \(=None\) must be given too"),
        ({"params_dtype": "float16", "target": "onednn"}, r"is for target='portable', not 'onedn"),
        (
            {"output": "features", "target": "int8", "calibration": np.zeros(SHAPE, "float32")},
            r"output='features' is not for target='int8'",
        ),
    ],
)
def test_refuses_wrong_arguments_in_one_line(tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        gluondense.export(build(), tmp_path / "net", SHAPE, **{**NUMBERS, **arguments})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["onnx", "onnx_int8"])
def test_onnx_models_take_uint8_and_give_probabilities(target, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    net = build()
    files = export(net, tmp_path / "net", target, preprocess=True, output="probabilities")
    session = onnxruntime.InferenceSession(str(files.model), providers=["CPUExecutionProvider"])
    (source,), (output,) = session.get_inputs(), session.get_outputs()
    assert (source.type, source.shape) == ("tensor(uint8)", ["N", "H", "W", 3])
    assert (output.name, output.shape) == ("probabilities", ["N", 5])
    for images in (pixels(1, 32), pixels()):
        (got,) = session.run(None, {source.name: images})
        atol = 0.1 if target == "onnx_int8" else 1e-6
        np.testing.assert_allclose(got, probabilities(net, images), atol=atol)
        np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)
        block = gluondense.load_exported(files.model)
        np.testing.assert_array_equal(block(mx.nd.array(images, dtype="uint8")).asnumpy(), got)
    assert "(N, H, W, C)" in session.get_modelmeta().description


def test_onnx_models_with_pre_or_post_processing(tmp_path):
    pytest.importorskip("onnxruntime")
    net = build("densenet121", {**TINY, "in_channels": 1})
    about = {"mean": (0.4,), "std": (0.2,)}
    grey = pixels()[..., :1]
    normalized = mx.nd.array(normalize(grey, *about.values()))
    for number, (options, given) in enumerate(
        (
            ({"preprocess": True, "output": "features"}, mx.nd.array(grey, dtype="uint8")),
            ({"preprocess": True}, mx.nd.array(grey, dtype="uint8")),
            ({"output": "probabilities"}, normalized),
        )
    ):
        path = tmp_path / f"net{number}"
        files = gluondense.export(net, path, (1, 1, 32, 32), "onnx", **about, **options)
        wanted = net.features(normalized) if "features" in options.values() else net(normalized)
        if "probabilities" in options.values():
            wanted = wanted.softmax()
        assert_close(gluondense.load_exported(files.model)(given).asnumpy(), wanted.asnumpy())


def test_feature_maps_have_no_probabilities(tmp_path):
    net = build("densenet121", {**TINY, "features_only": True})
    with pytest.raises(ValueError, match=r"'probabilities' needs logits \(N, classes\), not \("):
        export(net, tmp_path / "net", output="probabilities")
    with pytest.raises(ValueError, match=r"needs a network of features and output"):
        export(net, tmp_path / "net", output="features")


@pytest.mark.parametrize("options", [{}, {"preprocess": True, "params_dtype": "float16"}])
def test_load_weights_reads_an_exports_params(tmp_path, options):
    net = build()
    files = export(net, tmp_path / "net", **options)
    other = gluondense.get_model("densenet121", **TINY)
    report = gluondense.load_weights(other, files.params)
    assert report.naming == "gluondense-export"
    assert not report.fresh
    assert report.ignored == (("data_scale", "data_shift") if options else ())
    got, expected = (logits(one, pixels()) for one in (other, net))
    if options:
        np.testing.assert_allclose(got, expected, atol=0.01 * np.abs(expected).max())
    else:
        np.testing.assert_array_equal(got, expected)


def test_predict_supports_all_options(tmp_path):
    from PIL import Image

    Image.fromarray(pixels()[0]).save(tmp_path / "image.png")
    net, arguments = build(), ([tmp_path / "image.png"], SHAPE, MEAN, STD)
    (expected,) = predict(net, *arguments)
    for number, options in enumerate(({"preprocess": True}, {"output": "probabilities"})):
        files = export(net, tmp_path / f"net{number}", **options)
        (got,) = predict(gluondense.load_exported(files.prefix), *arguments)
        assert got.labels == expected.labels
        np.testing.assert_allclose(got.probabilities, expected.probabilities, atol=1e-6)


@pytest.fixture(scope="module")
def c_program(tmp_path_factory):
    """A C program that uses MXNet's predict API."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    mxnet = Path(mx.__file__).parent
    program = tmp_path_factory.mktemp("c") / "classify"
    source = ROOT / "tests/c/classify.c"
    # The wheel's library wants to find its neighbours as Python does, at run time.
    link = [f"-L{mxnet}", "-l:libmxnet.so", f"-Wl,-rpath,{mxnet}", "-Wl,--allow-shlib-undefined"]
    command = [compiler, "-Wall", "-Werror", f"-I{mxnet}/include", source, *link, "-o", program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize("variant", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"preprocess": True, "output": "probabilities"}])
def test_runs_in_the_c_predict_api(c_program, variant, options, tmp_path):
    net = build(*VARIANTS[variant])
    files = export(net, tmp_path / "net", **options)
    given = pixels(2, 32) if options else normalize(pixels(2, 32), MEAN, STD)
    given.astype("float32").tofile(tmp_path / "input")
    done = subprocess.run(
        [c_program, files.prefix, tmp_path / "input", *map(str, given.shape)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    got = np.array(done.stdout.split(), "float32").reshape(2, 5)
    expected = (probabilities if options else logits)(net, pixels(2, 32))
    assert_close(got, expected)


class Scale(gluon.HybridBlock):
    """The mean of each channel, scaled by a parameter: operators that a CPU has in float16."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.scale = self.params.get("scale", shape=(1, 3, 1, 1), init=mx.init.Uniform(2))

    def hybrid_forward(self, F, x, scale):
        return F.Pooling(F.broadcast_mul(x, scale), global_pool=True, pool_type="avg").flatten()


@pytest.mark.parametrize("options", [{}, {"preprocess": True, "output": "probabilities"}])
def test_a_network_in_float16_takes_what_servers_send(tmp_path, options):
    net = Scale()
    net.initialize()
    net.hybridize()
    net(mx.nd.ones(SHAPE)).wait_to_read()
    net.cast("float16")
    files = gluondense.export(net, tmp_path / "net", SHAPE, mean=MEAN, std=STD, **options)
    block, x = gluondense.load_exported(files.prefix), mx.nd.random.uniform(0, 255, SHAPE)
    if options:
        pixels = x.astype("uint8").transpose((0, 2, 3, 1))
        found = block(pixels)
        x = mx.nd.array(normalize(pixels.asnumpy(), MEAN, STD))
        expected = net(x.astype("float16")).astype("float32").softmax()
        assert found.dtype == np.float32
    else:
        found, expected = block(x), net(x.astype("float16"))
        assert found.dtype == np.float16
        np.testing.assert_array_equal(block(x.astype("float16")).asnumpy(), expected.asnumpy())
    np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-2, atol=1e-3)
