"""The native operator in int8: quantization of channels, packing, and errors of outputs."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from support.exported_networks import TINY, VARIANTS, as_list, build, variants
from support.native_programs import BLOCKS, SHAPES, block, optimized, outputs

import gluondense
from gluondense.deploy import Calibration
from gluondense.graph.ranges import collect_ranges
from gluondense.native.build import OPERATOR
from gluondense.native.program import lower_int8, packing

pytestmark = pytest.mark.usefixtures("native_operator")

IMAGES = 48


def images(channels, shape=(IMAGES, 32, 32), seed=0):
    """Return images with coarse and fine structures, like real ones."""
    random = np.random.default_rng(seed)
    count, height, width = shape
    small = random.standard_normal((count, channels, 4, 4))
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    noise = random.standard_normal((count, channels, height, width))
    return (small[:, :, rows][:, :, :, columns] + 0.3 * noise).astype("float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, native_operator):
    """Exports of all variants, inputs, and the float networks' outputs."""
    folder = tmp_path_factory.mktemp("bytes")
    inputs, expected = {}, {}
    for variant in variants("native_int8"):
        net = build(*VARIANTS[variant])
        channels = net.spec.in_channels
        calibration = Calibration(images(channels), max_changed=0.2)
        gluondense.export(
            net, folder / variant, (1, channels, 32, 32), "native_int8", calibration=calibration
        )
        for shape in SHAPES:
            case = f"{variant}|{shape}"
            inputs[case] = images(channels, shape, seed=1)
            for n, output in enumerate(as_list(net(mx.nd.array(inputs[case])))):
                expected[f"{case}|{n}"] = output
    np.savez(folder / "inputs.npz", **inputs)
    return folder, expected


def error(got, wanted):
    return np.linalg.norm(got - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize(("isa", "threads"), [("amx", 2), ("avx512vnni", 2), ("base", 3)])
def test_outputs_are_near_the_float_network(folder, isa, threads):
    folder, expected = folder
    found = outputs(folder, isa, threads)
    assert set(found) == set(expected)
    errors = {case: error(found[case], wanted) for case, wanted in expected.items()}
    assert max(errors.values()) < 0.2, max(errors, key=errors.get)
    assert np.median(list(errors.values())) < 0.04


def test_instruction_sets_agree(folder):
    """Apart from roundings, because some sets have a fused multiply-add."""
    folder, _ = folder
    first, other = outputs(folder, "avx512vnni", 1), outputs(folder, "avx2", 2)
    assert np.median([error(other[case], wanted) for case, wanted in first.items()]) < 0.005


def test_outputs_do_not_depend_on_the_number_of_threads(folder):
    folder, _ = folder
    first, other = outputs(folder, "avx512vnni", 1), outputs(folder, "avx512vnni", 3)
    for case, wanted in first.items():
        np.testing.assert_array_equal(other[case], wanted)


@pytest.mark.parametrize("on", [True, False])
def test_fold_bn_relu_is_the_normalization(on):
    random = np.random.default_rng(0)
    scale = random.standard_normal(500) * (random.random(500) < 0.9)
    shift, low = 3 * random.standard_normal((2, 500))
    step = random.random(500) / 30
    flip, zero, factor, offset = packing.fold_bn_relu(scale, shift, step, low, on)
    q = np.arange(256)[:, None]
    got = offset + factor * np.maximum((q ^ flip).astype(int) - zero, 0)
    wanted = scale * (low + step * q) + shift
    wanted = np.maximum(wanted, 0) if on else wanted
    # The zero point is rounded to a byte.
    assert (np.abs(got - wanted) <= 0.5001 * np.abs(scale) * step + 1e-9).all()


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("depth", [1, 3, 4, 10])
def test_packed_int8_filters_are_the_filters(depth, joined):
    filters = np.random.default_rng(0).integers(-127, 128, (2, 3, 3, depth, 32))
    packed = packing.pack_int8_filters(filters, joined)
    assert packed.dtype == np.int8
    run = -(-(3 * depth if joined else depth) // 4) * 4
    assert packed.shape == (2, 3 if joined else 9, run // 4, 32, 4)
    back = np.empty((*packed.shape[:2], run, 32), int)
    for lane, channel in enumerate(packing.PANEL_CHANNELS):
        back[..., channel] = packed[:, :, :, lane].reshape(*packed.shape[:2], run)
    wanted = filters.reshape(2, packed.shape[1], -1, 32)
    np.testing.assert_array_equal(back[:, :, : wanted.shape[2]], wanted)
    assert not back[:, :, wanted.shape[2] :].any()


def test_each_filter_uses_the_whole_int8_range(monkeypatch):
    seen = []
    pack = lower_int8.pack_filters
    monkeypatch.setattr(
        lower_int8, "pack_filters", lambda weight, *rest: seen.append(weight) or pack(weight, *rest)
    )
    byte_program(images(3, (4, 32, 32)))
    assert len(seen) == 10  # all but the dense layer
    for weight in seen:
        np.testing.assert_array_equal(np.abs(weight).max(axis=(1, 2, 3)), 127)


def byte_program(x):
    graph = optimized("densenet")
    ranges = collect_ranges(
        *graph.to_symbol(), lower_int8.Int8Lowering(graph).tensors(), [x], "minmax"
    )
    return lower_int8.Int8Lowering(graph, ranges).lower_int8()


def test_only_pooled_features_stay_in_float():
    text, _, _ = byte_program(images(3, (4, 32, 32)))
    maps = [line for line in text.splitlines() if line.startswith("map ")]
    assert sum("bytes=1" not in line for line in maps) == 2  # pooled features and logits


def test_the_metadata_describe_the_calibration(tmp_path):
    x = images(3)
    files = gluondense.export(
        build("densenet121", TINY), tmp_path / "net", (1, 3, 32, 32), "native_int8", calibration=x
    )
    found = json.loads(files.metadata.read_text())["quantization"]
    assert found["images"] == IMAGES
    assert found["error"] < 0.1
    assert found["agreement"] >= 0.98
    assert [node["op"] for node in json.loads(files.symbol.read_text())["nodes"]][-1] == OPERATOR
    again = gluondense.export(
        build("densenet121", TINY), tmp_path / "new", (1, 3, 32, 32), "native_int8", calibration=x
    )
    assert files.params.read_bytes() == again.params.read_bytes()


def test_pack_lanes_has_the_order_of_the_sums():
    lanes = packing.pack_lanes(np.arange(70.0), packing.PANEL_WIDTH)
    assert lanes.shape == (3, 32)
    first = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27]
    np.testing.assert_array_equal(lanes[1], 32 + np.array([*first, *(n + 4 for n in first)]))
    np.testing.assert_array_equal(lanes[2][:6], [64, 65, 66, 67, 0, 0])


@pytest.mark.parametrize("name", BLOCKS)
def test_networks_with_unusual_layers(name, tmp_path):
    net, x = block(name)
    gluondense.export(
        net,
        tmp_path / "net",
        (1, 3, 17, 80),
        "native_int8",
        calibration=Calibration(x.asnumpy(), max_changed=1.0),
    )
    found = gluondense.load_exported(tmp_path / "net")(x)
    for got, wanted in zip(as_list(found), as_list(net(x))):
        assert error(got, wanted) < 0.08  # a wrong step gives 0.15 or more
