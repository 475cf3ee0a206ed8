from __future__ import annotations

import dataclasses

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from mxnet.gluon.model_zoo import vision

import gluondense
from gluondense import environment, get_model, get_spec, summary
from gluondense.analysis.comparison import records, stage_widths, table
from gluondense.detection import build_detector

# Parameters and millions of multiply-adds at 224 (CIFAR: 32) on which the papers' code,
# torchvision, timm and gluoncv2 agree.
PUBLISHED = {
    "densenet121": (7_978_856, "2834.16"),
    "densenet161": (28_681_000, "7727.91"),
    "densenet169": (14_149_480, "3359.84"),
    "densenet201": (20_013_928, "4291.37"),
    "densenet264": (33_337_704, "5751.7"),
    "densenet264d": (72_736_216, "13470.3"),
    "densenetblur121d": (7_998_088, "3073.80"),
    "densenet40_k12_cifar10": (1_019_722, "264.8"),
    "densenet100_k12_cifar10": (6_979_642, "1769.5"),
    "densenet100_k24_cifar10": (27_249_082, "6889.35"),
    "densenet100_k12_bc_cifar10": (769_162, "287.9"),
    "densenet250_k24_bc_cifar10": (15_324_406, "5418.8"),
    "densenet190_k40_bc_cifar10": (25_624_430, "9301.95"),
    "dpn48b": (9_126_226, "1665.0"),
    "dpn68": (12_611_602, "2326.2"),
    "dpn68b": (12_611_602, "2326.2"),
    "dpn92": (37_668_392, "6501.7"),
    "dpn98": (61_570_728, "11671.2"),
    "dpn107": (86_917_800, "18298.8"),
    "dpn131": (79_254_504, "16013.6"),
    "csp_resnet50": (21_616_168, "3458.75"),
    "csp_resnext50": (20_569_896, "3074.42"),
    "rdnet_tiny": (23_863_008, "5032.67"),
    "rdnet_small": (50_436_448, "8706.22"),
    "rdnet_base": (87_451_096, "15358.16"),
    "rdnet_large": (186_269_632, "34675.29"),
    "peleenet": (2_802_248, "507.76"),  # the authors' README: 508 M
    "csp_peleenet": (2_856_488, "446.14"),  # CSPNet's README: 0.888 BFLOPs, two a multiply-add
}
# Counts of the definition in gluondense/models/csp_densenet.py, computed without MXNet.
CSP = {
    (121, "both"): (7_061_256, "2692.5"),
    (121, "first"): (6_922_216, "2577.3"),
    (121, "last"): (6_596_904, "2485.4"),
    (161, "both"): (26_128_552, "7384.4"),
    (161, "first"): (24_602_344, "7001.8"),
    (161, "last"): (24_476_440, "6799.1"),
    (169, "both"): (12_744_008, "3207.5"),
    (169, "first"): (12_161_000, "3038.7"),
    (169, "last"): (12_107_368, "2966.7"),
    (201, "both"): (18_270_664, "4138.2"),
    (201, "first"): (17_226_728, "3893.2"),
    (201, "last"): (17_191_144, "3810.6"),
    (264, "both"): (30_900_808, "5612.6"),
    (264, "first"): (28_553_704, "5218.6"),
    (264, "last"): (29_247_336, "5172.7"),
}


def millions(count: int, like: str) -> str:
    return f"{count / 1e6:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    params, macs = PUBLISHED[name]
    cost = summary(name)
    assert (cost.params, millions(cost.macs, macs)) == (params, macs)


@pytest.mark.parametrize(("depth", "fusion"), CSP)
def test_csp_counts(depth, fusion):
    params, macs = CSP[depth, fusion]
    cost = summary(f"csp_densenet{depth}", (1, 3, 224, 224), fusion=fusion)
    assert (cost.params, millions(cost.macs, macs)) == (params, macs)


def count_densenet(spec, size):
    """Multiply-adds, activations and CIO of an ImageNet DenseNet-BC, from the paper alone."""
    macs = activations = cio = 0

    def conv(inputs, outputs, kernel, side, strides=1):
        nonlocal macs, activations, cio
        out = (side + 2 * (kernel // 2) - kernel) // strides + 1
        macs += inputs * outputs * kernel**2 * out**2
        activations += outputs * out**2
        cio += inputs * side**2 + outputs * out**2
        return out

    k, width = spec.growth_rate, spec.num_init_features
    side = conv(spec.in_channels, width, 7, size, strides=2)
    side = (side - 1) // 2 + 1
    for index, layers in enumerate(spec.block_config):
        for _ in range(layers):
            conv(width, spec.bn_size * k, 1, side)
            conv(spec.bn_size * k, k, 3, side)
            width += k
        if index < len(spec.block_config) - 1:
            conv(width, int(width * spec.compression), 1, side)
            width, side = int(width * spec.compression), side // 2
    return macs + width * spec.classes, activations + spec.classes, cio


@pytest.mark.parametrize("size", [224, 97])
@pytest.mark.parametrize(
    "fields",
    [{}, {"growth_rate": 12, "compression": 0.3, "classes": 7}, {"in_channels": 1, "bn_size": 2}],
    ids=str,
)
def test_densenet_counted_by_hand(fields, size):
    spec = get_spec("densenet121", **fields)
    cost = summary(spec, (1, spec.in_channels, size, size))
    assert (cost.macs, cost.activations, cost.cio) == count_densenet(spec, size)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("csp_densenet121", {"attention": "path"}),
        ("densenet_tutorial", {"dropout": 0.1}),
        ("dpn68", {"attention": "se", "classes": 11}),
        ("csp_resnext50", {"attention": "path", "stem": "half"}),
        ("densenet121", {"pool": "mean_max"}),
    ],
)
def test_params_and_outputs_equal_the_running_network(name, fields):
    net = get_model(name, **fields)
    shape = (2, net.spec.in_channels, 226, 240)
    cost = summary(net, shape)
    trained = (p for p in net.collect_params().values() if p.grad_req != "null")
    assert cost.params == sum(mx.nd.zeros(p.shape).size for p in trained)
    net.initialize()
    assert cost.layers[-1].output_shape == net(mx.nd.zeros(shape)).shape


def test_params_equal_mxnet_print_summary(capsys):
    symbol = get_model("densenet121")(mx.sym.var("data"))
    mx.visualization.print_summary(symbol, shape={"data": (1, 3, 224, 224)})
    cost = summary(symbol, (1, 3, 224, 224))
    total = capsys.readouterr().out.split("Total params: ")[1].split()[0]
    assert cost.params == int(total)


def test_layers_have_the_names_of_their_blocks():
    net = get_model("csp_densenet121", fusion="both")
    cost = summary(net, (1, 3, 64, 64))
    by_name = {layer.name: layer for layer in cost.layers}
    assert len(by_name) == len(cost.layers)
    layer = by_name["features.stage2.block.layer3.conv1"]
    assert (layer.op, layer.output_shape) == ("Convolution", (1, 128, 8, 8))
    weight = net._collect_params_with_prefix()["features.stage2.block.layer3.conv1.weight"]
    assert layer.params == weight.shape[1] * 128
    assert cost.layers[-1].name == "output"


def test_a_symbol_and_a_spec_and_a_network_cost_the_same():
    net = get_model("dpn68")
    symbol = net(mx.sym.var("data"))
    costs = [summary(model, (1, 3, 64, 64)) for model in ("dpn68", net.spec, net, symbol)]
    assert len({tuple(record.values())[2:] for record in records(costs)}) == 1
    assert costs[3].layers[0].name == "stem_conv"


def test_counts_are_for_the_whole_batch():
    one, four = (summary("densenet_tutorial", (n, 1, 96, 96)) for n in (1, 4))
    assert (four.macs, four.cio, four.memory) == (4 * one.macs, 4 * one.cio, 4 * one.memory)
    assert four.params == one.params


def test_views_have_no_memory():
    # With k = 12 each concatenation has expand_dims and squeeze; all networks have Flatten.
    cost = summary("densenet40_k12_cifar10")
    kept = {"Convolution", "BatchNorm", "Activation", "Concat", "Pooling", "FullyConnected"}
    assert {layer.op for layer in cost.layers if layer.memory} == kept


@pytest.mark.parametrize("ratio", [0.25, 0.5])
def test_formula_cio_equals_seed_003(ratio):
    width, k, layers = 64, 32, (6, 12)
    dense = summary("densenet121", (1, 3, 64, 64), block_config=layers)
    partial = summary("csp_densenet121", (1, 3, 64, 64), block_config=layers, partial_ratio=ratio)
    for c, m, (_, whole), (_, part) in zip(
        (width, 128), layers, dense.block_cio, partial.block_cio
    ):
        assert whole == c * m + (m**2 + m) * k / 2
        assert part == (1 - ratio) * c * m + (m**2 + m) * k / 2
    assert dense.formula_cio == sum(cio for _, cio in dense.block_cio)
    assert summary("dpn68", (1, 3, 64, 64)).block_cio == ()


def test_networks_of_other_zoos():
    zoo = summary(vision.densenet121(), (1, 3, 224, 224))
    ours = summary("densenet121", (1, 3, 224, 224))
    assert (zoo.params, zoo.macs, zoo.cio) == (ours.params, ours.macs, ours.cio)
    resnet = summary(
        environment.import_gluoncv().model_zoo.get_model("resnet50_v1b", pretrained_base=False)
    )
    assert (resnet.params, millions(resnet.macs, "0.0")) == (25_557_032, "4089.2")
    assert "layer1.0.conv1" in {layer.name for layer in resnet.layers}


def test_grouped_transposed_and_shared_layers():
    grouped = nn.Conv2D(8, 3, padding=1, groups=4, in_channels=4, use_bias=False)
    assert summary(grouped, (1, 4, 5, 5)).macs == 8 * 9 * 25
    transposed = summary(nn.Conv2DTranspose(6, 2, strides=2, in_channels=3), (1, 3, 5, 5))
    assert (transposed.macs, transposed.cio) == (3 * 25 * 6 * 4, 3 * 25 + 6 * 100)
    data, weight = mx.sym.var("data"), mx.sym.var("weight")
    twice = mx.sym.FullyConnected(data, weight, num_hidden=4, no_bias=True)
    twice = mx.sym.FullyConnected(twice, weight, num_hidden=4, no_bias=True)
    cost = summary(mx.sym.SoftmaxOutput(twice, name="softmax"), (1, 4))
    assert (cost.params, cost.macs) == (16, 32)


def test_several_outputs_and_feature_maps():
    cost = summary(get_model("dpn68", features_only=True), (1, 3, 64, 64))
    assert stage_widths(cost) == [144, 320, 704, 832]
    split = mx.sym.SliceChannel(mx.sym.var("data"), num_outputs=3, name="split")
    assert summary(split, (1, 3, 4, 4)).memory == 4 * 3 * 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("densenet121", (1, 3, 28, 224)), "at least 29x29"),
        (("densenet121", (1, 1, 224, 224)), r"shape \(N, 3, H, W\)"),
        (("densenet121", (1, 3, 0, 224)), r"input_shape \(=\(1, 3, 0, 224\)\) must be positive"),
        (("densenet121", 224), r"input_shape \(=224\) must be positive"),
        (("densnet121",), "did you mean 'densenet121'"),
        ((12,), r"model \(=12\) must be a name, a spec"),
        (
            (vision.alexnet(), (1, 3, 5, 5)),
            "cannot take inputs of shape .*kernel size exceed input",
        ),
        ((mx.sym.var("data") + mx.sym.FullyConnected(num_hidden=2), (1, 2)), "has one input"),
    ],
    ids=lambda value: None,
)
def test_errors_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        summary(*arguments)
    assert "\n" not in str(caught.value)


def test_unknown_fields_and_built_networks_raise():
    with pytest.raises(ValueError, match="'growth'"):
        summary(get_spec("densenet121"), growth=3)
    with pytest.raises(ValueError, match="classes: the fields of a built network"):
        summary(get_model("densenet_tutorial"), classes=3)


def test_a_fused_graph_raises():
    net = get_model("densenet_tutorial")
    fused = net(mx.sym.var("data")).optimize_for("MKLDNN")
    with pytest.raises(ValueError, match="count before optimize_for"):
        summary(fused, (1, 1, 96, 96))


def test_summary_is_frozen_and_prints_its_totals():
    cost = summary("densenet_tutorial")
    assert str(cost).startswith("densenet_tutorial at 1x1x96x96: 758,226 parameters, 113.85 M")
    assert len(repr(cost)) < 100
    with pytest.raises(dataclasses.FrozenInstanceError):
        cost.model = "other"


def test_tables_and_records():
    costs = [summary("densenet_tutorial"), summary(vision.alexnet(prefix="alexnet_"))]
    assert "758,226" in table(costs)
    assert "CIO by formula" not in table(costs[1:])
    assert table(costs, "pipe").startswith("| network")
    assert len(records(costs, per_layer=True)) == sum(len(cost.layers) for cost in costs)
    assert gluondense.summary is summary


def test_the_costs_of_a_detector_are_of_its_trained_parameters():
    counted = summary("yolo3_efm_csp_peleenet_custom", (1, 3, 64, 96), width=0.125, classes=3)
    net = build_detector("yolo3_efm_csp_peleenet_custom", width=0.125, classes=3)
    assert counted.params == sum(
        int(np.prod(p.shape)) for p in net.collect_params().values() if p.grad_req != "null"
    )
    raw = summary(net.raw, (1, 3, 64, 96))
    assert (counted.macs, counted.cio) == (raw.macs, raw.cio)
    alone = summary("csp_peleenet", (1, 3, 64, 96), classes=0)
    assert counted.macs > alone.macs
    assert summary(net).input_shape == (1, 3, 416, 416)
    assert "yolo3_efm_csp_peleenet_custom" in table([counted])
