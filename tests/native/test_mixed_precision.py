"""Programs of the native operator in which some layers stay in float32."""

from __future__ import annotations

import json
import random

import mxnet as mx
import numpy as np
import pytest
from support.exported_networks import TINY, VARIANTS, build, variants
from support.native_programs import BLOCKS, block, optimized

import gluondense
from gluondense import native
from gluondense.deploy import Calibration
from gluondense.deploy.exporter import parameter_arrays
from gluondense.deploy.outputs import all_outputs
from gluondense.graph.inference_passes import optimize
from gluondense.graph.ir import Graph
from gluondense.graph.ranges import as_block, collect_ranges
from gluondense.graph.trace import trace
from gluondense.native.program.lower import to_program
from gluondense.native.program.lower_int8 import Int8Lowering, to_int8_program

pytestmark = pytest.mark.usefixtures("native_operator")


def images(channels, count=8, size=32):
    return np.random.default_rng(0).standard_normal((count, channels, size, size)).astype("float32")


class Quantized:
    """A graph, its calibrated ranges, and programs in which some layers are excluded."""

    def __init__(self, graph, x):
        native.load()
        graph.rename_duplicates()
        traced = graph.to_symbol()  # before operators that only programs have
        lowering = Int8Lowering(graph)
        self.graph, self.x = graph, x
        self.layers, self.always = lowering.layers()
        self.ranges = collect_ranges(*traced, lowering.tensors(), [x], "minmax")
        self.expected = self.outputs(*to_program(graph))

    def outputs(self, program, params):
        return all_outputs(as_block(mx.sym.load_json(program), params), [self.x])

    def error(self, excluded):
        """Return the error of the outputs, the largest of all outputs."""
        found = self.outputs(*to_int8_program(self.graph, self.ranges, excluded))
        pairs = zip(found, self.expected)
        return max(np.linalg.norm(got - wanted) / np.linalg.norm(wanted) for got, wanted in pairs)

    def steps(self, excluded):
        """Return the lines of a program, and whether each of its maps is of bytes."""
        text, *_ = Int8Lowering(self.graph, self.ranges, excluded).lower_int8()
        lines = text.splitlines()
        return lines, ["bytes=1" in line for line in lines if line.startswith("map")]


def quantized_variant(variant):
    channels = build(*VARIANTS[variant]).spec.in_channels
    return Quantized(optimized(variant), images(channels))


def quantized_block(name):
    net, x = block(name)
    return Quantized(optimize(Graph(trace(net), parameter_arrays(net))), x.asnumpy())


def check_any_layers(network, limit):
    source, found = random.Random(0), {}
    layers = [name for name in network.layers if name not in network.always]
    for share in (0.3, 0.7):
        excluded = frozenset(name for name in layers if source.random() < share)
        found[excluded] = network.error(excluded)
    found[frozenset(layers[:1])] = network.error(layers[:1])
    assert max(found.values()) < limit, found
    # Without a layer in int8 it is the float program, with the same arrays.
    program, params = to_int8_program(network.graph, network.ranges, network.layers)
    expected, arrays = to_program(network.graph)
    assert program.replace(" bytes=0", "") == expected
    assert params.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(params[name], array)


@pytest.mark.parametrize("variant", variants("native_int8"))
def test_any_layers_of_all_families_can_stay_in_float(variant):
    check_any_layers(quantized_variant(variant), 0.04)


@pytest.mark.parametrize("name", BLOCKS)
def test_any_layers_of_unusual_networks_can_stay_in_float(name):
    check_any_layers(quantized_block(name), 0.08)  # a wrong step gives 0.15 or more


def test_values_are_converted_where_the_types_of_maps_differ():
    network = quantized_variant("densenet")
    stage = [name for name in network.layers if "stem" in name or "stage1" in name]
    lines, is_u8 = network.steps(stage)
    # The stage and what is in front of it are floats, which the transition converts to bytes.
    conversions = []
    for line in lines:
        kind, *words = line.split()
        if kind == "affine":
            slices = dict(word.split("=") for word in words)
            conversions.append([is_u8[int(slices[key].split(",")[0])] for key in ("in", "out")])
    assert conversions.count([False, True]) == 1
    assert conversions.count([True, False]) == 0
    lines, is_u8 = network.steps(network.layers[:1])  # the stem
    load = next(line for line in lines if line.startswith("load"))
    assert not is_u8[int(load.split("out=")[1].split(",")[0])]
    assert "scale" not in load


def test_the_error_falls_with_the_layers_in_float():
    network = quantized_variant("densenet")
    errors = [network.error(network.layers[:count]) for count in (0, 5, 9, 11)]
    assert errors[0] > 0.002
    assert errors[2] < errors[0] / 2
    assert errors[3] == 0


def record(net, folder, **options):
    """Export a network; return what its JSON says about the quantization."""
    arguments = (net, folder / "net", (1, 3, 32, 32), "native_int8")
    files = gluondense.export(*arguments, calibration=Calibration(**options))
    return json.loads(files.metadata.read_text())["quantization"]


def test_excluded_layers_are_named(tmp_path):
    net, x = build("densenet121", TINY), images(3)
    found = record(net, tmp_path, images=x, exclude=("*stem*", "*stage2_layer1*"), max_changed=1)
    names = ("stem_conv", "stage2_layer1_conv1", "stage2_layer1_conv2", "output")
    assert found["kept"] == [f"densenet121_{name}_fwd" for name in names]
    assert found["layers"] == 11
    with pytest.raises(ValueError, match=r"exclude \(='\*nothing\*'\) is the name of no layer"):
        record(net, tmp_path, images=x, exclude=("*nothing*",))


def test_sensitive_layers_stay_in_float_instead_of_a_refusal(tmp_path):
    """The default refused networks whose classes are close together (issue 18, point 14)."""
    net, x = build("densenet121", TINY), images(3, 64)
    # Random weights give all images one class; now a small difference decides.
    net.output.bias.set_data(net.output.bias.data() - net(mx.nd.array(x)).mean(axis=0))
    free = record(net, tmp_path, images=x, max_changed=1.0)
    strict = record(net, tmp_path, images=x)
    assert free["kept"] == ["densenet121_output_fwd"]
    assert free["agreement"] < 0.97
    assert strict["agreement"] >= 0.99 - 1 / 64
    assert 1 < len(strict["kept"]) <= 11
    assert strict["error"] < free["error"]
