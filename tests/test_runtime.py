"""Native exports without MXNet: the same numbers, and errors that name the file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from support.exported_networks import VARIANTS, build
from support.paths import ROOT

import gluondense
from gluondense import runtime
from gluondense.data.preprocessing import Preprocessing
from gluondense.deploy import Calibration
from gluondense.deploy import predict as predict_files

pytestmark = pytest.mark.usefixtures("native_operator")
SHAPE = (2, 3, 32, 32)
FAMILIES = ("densenet", "csp-last", "dpn", "residual", "csp-darknet", "pelee")
IMAGES = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), input_size=SHAPE[2:])


def inputs(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    net = build(*VARIANTS["densenet"])
    return gluondense.export(net, folder / "net", SHAPE, target="native", preprocessing=IMAGES)


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of the export's files, to be damaged; its prefix."""
    for file in (*exported, exported.library):
        shutil.copy(file, tmp_path)
    return tmp_path / "net"


def from_mxnet(files, images):
    block = gluondense.load_exported(files.prefix)
    return block(mx.nd.array(images, dtype=images.dtype)).asnumpy()


@pytest.mark.parametrize("target", ["native", "native_bf16", "native_int8"])
@pytest.mark.parametrize("variant", FAMILIES)
def test_the_same_bits_as_in_mxnet(tmp_path, variant, target):
    net = build(*VARIANTS[variant])
    images = inputs(3, net.spec.in_channels, 32, 32)
    options = {"calibration": Calibration(images, max_changed=1)} if "int8" in target else {}
    files = gluondense.export(net, tmp_path / "net", images.shape, target, **options)
    network = runtime.load(files.prefix)
    np.testing.assert_array_equal(network(images), from_mxnet(files, images))
    larger = inputs(1, net.spec.in_channels, 45, 37)
    np.testing.assert_array_equal(network(larger), from_mxnet(files, larger))


@pytest.mark.parametrize("task", ["classification", "multi_label"])
def test_pixels_and_probabilities(tmp_path, task):
    net = build(*VARIANTS["densenet"])
    options = {"preprocess": True, "output": "probabilities", "preprocessing": IMAGES, "task": task}
    files = gluondense.export(net, tmp_path / "net", SHAPE, target="native", **options)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    got = runtime.load(files.symbol)(pixels)
    np.testing.assert_allclose(got, from_mxnet(files, pixels), rtol=0, atol=1e-6)
    assert got.dtype == np.float32
    if task == "classification":
        np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-6)


PROGRAM = """
import sys
import numpy as np
from gluondense import runtime
network = runtime.load(sys.argv[1])
print(network.metadata.preprocessing.describe(), network(np.zeros((1, 3, 32, 32))).shape)
print([name for name in ("mxnet", "gluoncv", "torch") if name in sys.modules])
"""


def test_mxnet_is_not_imported(exported):
    command = [sys.executable, "-c", PROGRAM, exported.prefix]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"{IMAGES.describe()} (1, 5)", "[]"]


@pytest.mark.parametrize("suffix", ["-symbol.json", "-0000.params", ".json", "-native.so"])
def test_damaged_files_are_refused(copy, suffix):
    file = copy.with_name(f"net{suffix}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{file}.* export"):
        runtime.load(copy)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=str(file)):
        runtime.load(copy)


def test_a_missing_export_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/net is not an export: .*net\.json"):
        runtime.load(tmp_path / "net")


def test_features_are_no_classes(tmp_path):
    net, image = build(*VARIANTS["densenet"]), tmp_path / "image.png"
    files = gluondense.export(
        net, tmp_path / "net", SHAPE, target="native", preprocessing=IMAGES, output="features"
    )
    Image.new("RGB", (40, 30)).save(image)
    with pytest.raises(ValueError, match="gives features, not classes"):
        predict_files(runtime.load(files.prefix), [image])


def test_other_targets_are_refused(tmp_path):
    net = build(*VARIANTS["densenet"])
    files = gluondense.export(net, tmp_path / "net", SHAPE)
    with pytest.raises(ValueError, match=r"to portable, which needs MXNet.*`target` native"):
        runtime.load(files.prefix)


def replace_file(copy, suffix, content):
    """Replace a file of an export as if it had been exported with it."""
    from gluondense.deploy.artifact_files import files_of
    from gluondense.deploy.metadata import read_metadata, write_metadata

    file = copy.with_name(f"net{suffix}")
    file.unlink()  # a library may be in use
    file.write_bytes(content)
    files = files_of("native", copy)
    write_metadata(files, read_metadata(files.metadata))


def test_a_library_without_the_functions_is_refused(copy, tmp_path):
    (tmp_path / "a.c").write_text("int gluondense_load;")
    command = ["gcc", "-shared", "-fPIC", tmp_path / "a.c", "-o", tmp_path / "a.so"]
    subprocess.run(command, check=True)
    replace_file(copy, "-native.so", (tmp_path / "a.so").read_bytes())
    with pytest.raises(ValueError, match=r"net-native.so is of an older gluondense.*export again"):
        runtime.load(copy)
    replace_file(copy, "-native.so", b"no library")
    with pytest.raises(ValueError, match=r"net-native.so does not run on this machine"):
        runtime.load(copy)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"op": "null"', b'"op": "_contrib_box_nms"', "operator _contrib_box_nms, which needs"),
        (b'"op": "gluondense_program"', b'"op": "softmax"', "not the graph of one program"),
        (b'"program": "gluondense', b'"program": "gluondense\\u0020', "is damaged"),
        (b"format=1", b"format=9", "another format; update the library"),
    ],
)
def test_other_graphs_are_refused(copy, old, new, message):
    symbol = copy.with_name("net-symbol.json").read_bytes()
    assert old in symbol
    replace_file(copy, "-symbol.json", symbol.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        runtime.load(copy)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 4, 32, 32), (1, 3, 0, 0)])
def test_images_of_another_shape_are_refused(exported, shape):
    network = runtime.load(exported.prefix)
    with pytest.raises(ValueError, match=r"image"):
        network(np.zeros(shape, np.float32))
    assert network(inputs(*SHAPE)).shape == (2, 5)


def test_no_images_give_no_outputs(exported):
    assert runtime.load(exported.prefix)(inputs(0, 3, 32, 32)).shape == (0, 5)


def test_the_example_in_c(exported, tmp_path):
    source = ROOT / "tests/c/classify_native.c"
    program, include = tmp_path / "classify", ROOT / "gluondense/native/src"
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{include}"]
    subprocess.run(["gcc", *strict, source, exported.library, "-o", program], check=True)
    images = inputs(*SHAPE)
    images.tofile(tmp_path / "input")
    run = [program, exported.prefix, tmp_path / "input", "3", "32", "32"]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    got = np.array(done.stdout.split(), np.float32).reshape(2, 5)
    np.testing.assert_array_equal(got, runtime.load(exported.prefix)(images))
    run[1] = "nowhere/net"
    done = subprocess.run(run, capture_output=True, text=True)
    message = "error: nowhere/net-symbol.json cannot be read: No such file or directory\n"
    assert (done.returncode, done.stderr) == (1, message)


WITHOUT_MXNET = """
import sys
sys.modules["mxnet"] = None
from gluondense.__main__ import main
sys.exit(main(["predict", *sys.argv[1:]]))
"""


def test_predict_needs_no_mxnet_for_exports_of_this_machine(exported, copy, tmp_path):
    image = tmp_path / "image.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)

    def predict(code, *arguments):
        command = [sys.executable, *code, *arguments, "--json"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=env, capture_output=True, text=True)

    arguments = [copy, image, "--crop-ratio", "0.8"]
    assert runtime.is_trusted(copy)
    without = predict(["-c", WITHOUT_MXNET], *arguments)
    assert (without.returncode, without.stderr) == (0, "")
    # The library of another machine is not executed: MXNet runs the operator of this one.
    replace_file(copy, "-native.so", b"compiled elsewhere")
    assert not runtime.is_trusted(copy)
    done = predict(["-m", "gluondense", "predict"], *arguments)
    assert done.returncode == 0, done.stderr
    assert "mxnet" in predict(["-c", WITHOUT_MXNET], *arguments).stderr
    (found,), (wanted,) = json.loads(without.stdout), json.loads(done.stdout)
    assert found["labels"] == wanted["labels"]
    np.testing.assert_allclose(found["probabilities"], wanted["probabilities"], atol=1e-6)
