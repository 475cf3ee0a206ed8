from __future__ import annotations

import json
from collections import Counter

import mxnet as mx
import numpy as np
import pytest
from support.exported_networks import SIZES, TINY, VARIANTS, as_list, build

import gluondense
from gluondense.deploy import Calibration, load_exported
from gluondense.deploy.onnx.int8 import QuantParams

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def images(channels=3, count=64, side=32, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal((count, channels, side, side)).astype("float32")


def off(got, wanted):
    return np.linalg.norm(got - wanted) / np.linalg.norm(wanted)


def exported(folder, name="densenet121", fields=TINY, side=32, **options):
    net = build(name, fields)
    channels = net.spec.in_channels
    options = {"max_changed": 0.2, **options}
    calibration = Calibration(images(channels, side=side), **options)
    shape = (1, channels, side, side)
    return net, gluondense.export(net, folder / "net", shape, "onnx_int8", calibration=calibration)


def fused(model, folder):
    """Count the operators of a model after ONNX Runtime's fusion."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "fused.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(str(folder / "fused.onnx")).graph.node)


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_are_nearly_the_networks(variant, tmp_path):
    net, files = exported(tmp_path, *VARIANTS[variant])
    block = load_exported(files.prefix)
    assert block.metadata.quantization["kept"] == []
    assert block.metadata.quantization["error"] < 0.03
    for batch, height, width in SIZES.values():
        x = mx.nd.array(images(net.spec.in_channels, batch, 64, seed=1)[:, :, :height, :width])
        for got, wanted in zip(as_list(block(x)), as_list(net(x))):
            assert got.dtype == np.float32
            assert off(got, wanted) < 0.06


@pytest.mark.parametrize("variant", ["densenet", "csp-last", "dpn", "residual", "cifar"])
def test_onnx_runtime_fuses_all_layers_to_int8(variant, tmp_path):
    _, files = exported(tmp_path, *VARIANTS[variant])
    about = load_exported(files.prefix).metadata.quantization
    found = fused(files.model, tmp_path)
    floats = (
        "Conv",
        "FusedConv",
        "Gemm",
        "BatchNormalization",
        "Relu",
        "LeakyRelu",
        "Concat",
        "Add",
    )
    assert [op for op in floats if found[op]] == []
    assert found["QLinearConv"] + found["QGemm"] == about["layers"]
    # The image, and the pooled features.
    assert found["QuantizeLinear"] == 2
    assert found["DequantizeLinear"] == 1


def test_weights_are_int8_with_a_scale_per_filter(tmp_path):
    _, files = exported(tmp_path)
    model = onnx.load(str(files.model))
    arrays = {row.name: onnx.numpy_helper.to_array(row) for row in model.graph.initializer}
    large = [name for name, array in arrays.items() if array.ndim == 4]
    for name in large:
        assert arrays[name].dtype == np.int8
        scales = arrays[name.replace("_bytes", "_scales")]
        assert scales.shape == (len(arrays[name]),)
        assert np.abs(arrays[name]).max(axis=(1, 2, 3)).tolist() == [127] * len(scales)
    assert len(large) > 10
    assert (model.ir_version, model.opset_import[0].version) == (8, 13)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet121", "csp_densenet121", "csp_resnext50", "dpn68"])
def test_whole_networks(name, tmp_path):
    # Five strides of 2 would leave a single pixel of 32.
    net, files = exported(tmp_path, name, {}, side=64, count=32)
    x = mx.nd.array(images(count=2, side=64, seed=1))
    assert off(load_exported(files.prefix)(x).asnumpy(), net(x).asnumpy()) < 0.1
    assert fused(files.model, tmp_path)["Conv"] == 0


def test_the_network_is_a_quarter_in_size(tmp_path):
    net, files = exported(tmp_path, "csp_densenet121", {"classes": 5})
    size = 4 * sum(value.data().size for value in net.collect_params().values())
    assert files.model.stat().st_size < 0.35 * size


def test_excluded_layers_stay_in_float32(tmp_path):
    exclude = ("densenet121_stem_*", "densenet121_output*")
    _, files = exported(tmp_path, exclude=exclude)
    about = load_exported(files.prefix).metadata.quantization
    assert about["kept"] == ["densenet121_stem_conv_fwd", "densenet121_output_fwd"]
    found = fused(files.model, tmp_path)
    assert found["Conv"] + found["FusedConv"] == 1
    assert found["Gemm"] == 1
    inside = {row.key: json.loads(row.value) for row in onnx.load(str(files.model)).metadata_props}
    assert inside["quantization"]["kept"] == about["kept"]
    assert inside["quantization"].keys() == about.keys()  # the quantization error, too


def test_invalid_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"exclude \(='nothing'\) is the name of no layer"):
        exported(tmp_path, exclude=("nothing",))
    with pytest.raises(ValueError, match="target='onnx_int8' needs calibration="):
        gluondense.export(build(), tmp_path / "net", (1, 3, 32, 32), "onnx_int8")
    assert not list(tmp_path.iterdir())


def test_openvino_gives_the_same(tmp_path):
    openvino = pytest.importorskip("openvino")
    _, files = exported(tmp_path)
    compiled = openvino.Core().compile_model(str(files.model), "CPU")
    x = images(count=2, seed=1)
    got = compiled({"data": x})[0]
    assert off(got, load_exported(files.prefix)(mx.nd.array(x)).asnumpy()) < 0.02


def test_zero_is_represented_exactly():
    for low, high in ((-1, 1), (0, 3), (-0.7, 0.2), (0, 0)):
        pair = QuantParams.from_range(low, high)
        for value in (low, high, 0):
            q = round(value / float(pair.scale)) + int(pair.zero_point)
            assert -1 <= q <= 256
            assert abs((q - int(pair.zero_point)) * float(pair.scale) - value) <= pair.scale
