"""Model repositories for Triton: checked against its schema, and run in ONNX Runtime."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from support.exported_detectors import own_detector
from support.exported_networks import TINY, VARIANTS, as_list, assert_close, build

import gluondense
from gluondense.commands import archive as command
from gluondense.data import Preprocessing
from gluondense.deploy import archive

NORMALIZED = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
NAMES = ("ape", 'the "bear"', "c\\at", "dog", "émeu\n(bird)")
SHAPE = (1, 3, 32, 32)


@pytest.fixture
def onnxruntime():
    pytest.importorskip("onnx")
    return pytest.importorskip("onnxruntime")


def repository(folder, net=None, shape=SHAPE, target="onnx", **options):
    """Export a network and archive it as Triton's model ``shoes``."""
    files = gluondense.export(net or build(), folder / "net", shape, target, **options)
    return archive(files.prefix, f"{folder}/store/shoes/")


def parsed(model):
    """Parse the configuration with Triton's schema."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    return text_format.Parse((model / "config.pbtxt").read_text(), schema.ModelConfig()), schema


def tensors(rows, schema):
    return [(row.name, schema.DataType.Name(row.data_type), list(row.dims)) for row in rows]


def check_against_model(model, onnxruntime):
    """Compare the configuration with what ONNX Runtime reads from the model; return both."""
    config, schema = parsed(model)
    session = onnxruntime.InferenceSession(
        str(model / "1/model.onnx"), providers=["CPUExecutionProvider"]
    )
    types = {"tensor(float)": "TYPE_FP32", "tensor(uint8)": "TYPE_UINT8"}
    for rows, found in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        expected = [
            (each.name, types[each.type], [s if isinstance(s, int) else -1 for s in each.shape[1:]])
            for each in found
        ]
        assert tensors(rows, schema) == expected
    assert config.name == model.name
    assert config.backend == "onnxruntime"
    assert config.max_batch_size > 1
    assert config.HasField("dynamic_batching")
    return config, session


def test_classifier(tmp_path, onnxruntime):
    net = build()
    model = repository(tmp_path, net, class_names=NAMES, **NORMALIZED)
    assert model == tmp_path / "store/shoes"
    config, session = check_against_model(model, onnxruntime)
    assert list(config.input[0].dims) == [3, -1, -1]
    assert config.output[0].label_filename == "labels.txt"
    labels = (model / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels == [*NAMES[:4], "émeu (bird)"]
    values = {key: json.loads(value.string_value) for key, value in config.parameters.items()}
    assert tuple(values["class_names"]) == NAMES
    own = gluondense.load_exported(model / "1/model").metadata.preprocessing
    assert Preprocessing.from_dict(values["preprocessing"]) == own
    for shape in ((1, 3, 32, 32), (config.max_batch_size, 3, 40, 36)):
        x = np.random.default_rng(0).standard_normal(shape).astype("float32")
        (found,) = session.run(None, {"data": x})
        assert_close(found, net(mx.nd.array(x)).asnumpy())


def test_pixels_as_the_input_and_probabilities(tmp_path, onnxruntime):
    net = build()
    options = {"preprocess": True, "output": "probabilities", **NORMALIZED}
    model = repository(tmp_path, net, **options)
    config, session = check_against_model(model, onnxruntime)
    assert [row.name for row in config.output] == ["probabilities"]
    assert not config.output[0].label_filename
    assert not (model / "labels.txt").exists()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    (found,) = session.run(None, {"data": pixels})
    x = (pixels / 255 - NORMALIZED["mean"]) / NORMALIZED["std"]
    logits = net(mx.nd.array(x.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(found, mx.nd.softmax(logits).asnumpy(), atol=1e-5)


def test_detector(tmp_path, onnxruntime):
    net = own_detector()
    model = repository(tmp_path, net, (1, 3, 96, 96), **NORMALIZED)
    config, session = check_against_model(model, onnxruntime)
    assert [list(row.dims)[-1] for row in config.output] == [1, 1, 4]
    assert not any(row.label_filename for row in config.output)  # an output has the indices
    names = json.loads(config.parameters["class_names"].string_value)
    assert names == list(net.classes)
    x = np.random.default_rng(0).standard_normal((2, 3, 96, 96)).astype("float32")
    for found, expected in zip(session.run(None, {"data": x}), as_list(net(mx.nd.array(x)))):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("variant", ["densenet-grey", "csp-features"])
def test_other_channels_and_outputs(variant, tmp_path, onnxruntime):
    name, fields = VARIANTS[variant]
    net = build(name, fields)
    model = repository(tmp_path, net, (1, net.spec.in_channels, 32, 32))
    config, _ = check_against_model(model, onnxruntime)
    assert len(config.output) == len(as_list(net(mx.nd.zeros((1, net.spec.in_channels, 32, 32)))))


def test_int8(tmp_path, onnxruntime):
    images = np.random.default_rng(0).standard_normal((8, *SHAPE[1:])).astype("float32")
    calibration = gluondense.deploy.Calibration(images, max_changed=1.0)
    check_against_model(
        repository(tmp_path, target="onnx_int8", calibration=calibration), onnxruntime
    )


def test_the_file_without_the_schema(tmp_path, onnxruntime):
    model = repository(tmp_path, class_names=NAMES, preprocess=True, **NORMALIZED)
    text = (model / "config.pbtxt").read_text(encoding="ascii")
    assert text.startswith('name: "shoes"\nbackend: "onnxruntime"\nmax_batch_size: ')
    assert 'input {\n  name: "data"\n  data_type: TYPE_UINT8\n  dims: [-1, -1, 3]\n}' in text
    files = sorted(str(file.relative_to(model)) for file in model.rglob("*") if file.is_file())
    assert files == ["1/model.json", "1/model.onnx", "config.pbtxt", "labels.txt"]


def test_other_files_of_the_folder_are_kept(tmp_path, onnxruntime):
    model = repository(tmp_path)
    before = (model / "1/model.onnx").read_bytes()
    (model / "2").mkdir()
    (model / "2/model.onnx").write_bytes(b"another version")
    repository(tmp_path, build("densenet121", TINY, seed=2))
    assert (model / "1/model.onnx").read_bytes() != before
    assert (model / "2/model.onnx").read_bytes() == b"another version"
    assert [each.name for each in model.parent.iterdir()] == ["shoes"]  # no temporary files


def test_refuses_other_exports_and_names(tmp_path, onnxruntime):
    files = gluondense.export(build(), tmp_path / "net", SHAPE)
    with pytest.raises(ValueError, match=r"target='portable' is no ONNX model, which Triton needs"):
        archive(files.prefix, f"{tmp_path}/store/shoes/")
    with pytest.raises(ValueError, match="names the model 'a b'"):
        archive(files.prefix, f"{tmp_path}/store/a b/")
    with pytest.raises(ValueError, match=r"must end with one of \.mar, .*, /, which selects"):
        archive(files.prefix, tmp_path / "store/shoes")
    assert not (tmp_path / "store").exists()


def test_the_command_prints_the_folder(tmp_path, onnxruntime, capsys):
    files = gluondense.export(build(), tmp_path / "net", SHAPE, "onnx")
    model = tmp_path / "store/shoes"
    assert command.main([files.prefix, f"{model}/"]) == 0
    size = sum(file.stat().st_size for file in model.rglob("*") if file.is_file())
    assert capsys.readouterr().out == f"{model} ({size:,} bytes)\n"


def test_published_weights_are_exported_to_onnx(tmp_path, onnxruntime, monkeypatch):
    net = build()
    net.preprocessing = Preprocessing.from_dict({**NORMALIZED, "input_size": [32, 32]})
    monkeypatch.setattr("gluondense.zoo.open_network", lambda name: net)
    assert command.main(["densenet121.tv_in1k", f"{tmp_path}/store/shoes/"]) == 0
    _, session = check_against_model(tmp_path / "store/shoes", onnxruntime)
    assert len(session.get_outputs()) == 1
