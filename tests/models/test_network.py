from __future__ import annotations

import math

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn
from support.reference import arrays, assert_close, below, images, norm, randomize, relu
from support.small_networks import (
    BATCH_NORMALIZED,
    DARK,
    DENSE,
    DUAL,
    FAMILIES,
    MIXING,
    RESIDUAL,
    TWO_WAY,
)

from gluondense import get_model
from gluondense.blocks import STEMS, HeFanOut
from gluondense.models import Network

# The same, four stages deep.
DEEP = {
    "densenet121": {**DENSE, "block_config": (1, 1, 1, 1)},
    "csp_densenet121": {**DENSE, "block_config": (1, 1, 1, 1)},
    "dpn92": {**DUAL, "num_blocks": (1, 1, 1, 1), "increments": (3, 4, 3, 4)},
    "csp_resnext50": {**RESIDUAL, "num_blocks": (1, 1, 1, 1), "widths": (8, 12, 16, 20)},
    "rdnet_tiny": {**MIXING, "num_blocks": (1, 1, 1, 1), "growth_rates": (8, 16, 8, 16)},
    "csp_darknet53": {
        **DARK,
        "num_blocks": (1, 1, 1, 1),
        "widths": (8, 12, 16, 20),
        "bottleneck_ratios": (0.5, 1.0, 1.0, 1.0),
        "expand_ratios": (2.0, 1.0, 1.0, 1.0),
    },
    "csp_peleenet": {**TWO_WAY, "block_config": (1, 1, 1, 1), "bn_sizes": (1, 2, 2, 2)},
}

families = pytest.mark.parametrize("name", FAMILIES)


def small(name: str, **fields):
    return get_model(name, **{"stem": "cifar", "classes": 7, **FAMILIES[name], **fields})


def deep(name: str, **fields):
    return get_model(name, **{"classes": 7, **DEEP[name], **fields})


def image_array(net, *side: int, batch: int = 2, seed: int = 1) -> mx.nd.NDArray:
    return mx.nd.array(images(batch, net.spec.in_channels, *side, seed=seed))


@families
@pytest.mark.parametrize("stem", STEMS)
def test_mxnet_fails_below_min_size(name, stem):
    net = randomize(deep(name, stem=stem))
    net.hybridize(False)
    least = net.min_size
    for side in ((least, least), (least, least + 9), (least + 4, least)):
        assert net(image_array(net, *side)).shape == (2, 7)
    for side in ((least - 1, least), (least, least - 1)):
        if min(side) > 0:
            with pytest.raises(mx.MXNetError):
                super(Network, net).forward(image_array(net, *side)).wait_to_read()
            with pytest.raises(ValueError, match=rf"{name} needs images of at least {least}x"):
                net(image_array(net, *side))


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("densenet121", 29),
        ("densenet_tutorial", 33),
        ("densenet40_k12_svhn", 4),
        ("dpn68", 1),
        ("csp_resnet50", 1),
        ("rdnet_tiny", 32),
        ("csp_darknet53", 1),
        ("peleenet", 29),
        ("densenetblur121d", 29),
    ],
)
def test_min_size_of_the_registered_networks(name, least):
    assert get_model(name).min_size == least


def test_min_size_of_the_mean_max_head():
    net = randomize(deep("densenet121", pool="mean_max"))
    side = net.min_size
    assert (net.output_size(side), net.output_size(side - 1)) == (7, 6)
    assert net(image_array(net, side, side)).shape == (2, 7)
    with pytest.raises(ValueError, match=f"at least {side}x{side}, not {side - 1}x{side + 1}"):
        net(image_array(net, side - 1, side + 1))


@families
@pytest.mark.parametrize("in_channels", [1, 5])
def test_any_number_of_image_channels(name, in_channels):
    net = randomize(small(name, in_channels=in_channels))
    assert net(image_array(net, 9, 12)).shape == (2, 7)
    for shape in ((2, 3, 9, 12), (in_channels, 9, 12), (2, 9, 12, in_channels)):
        with pytest.raises(ValueError, match=rf"\(N, {in_channels}, H, W\)") as error:
            net(mx.nd.zeros(shape))
        assert str(shape) in str(error.value)
        assert "\n" not in str(error.value)


@families
def test_outputs_of_two_calls_do_not_share_memory(name):
    net = randomize(small(name))
    first, second = (image_array(net, 9, 12, seed=seed) for seed in (1, 2))
    kept = net(first)
    expected = kept.asnumpy().copy()
    with autograd.record():
        other = net(second)
    other.backward()
    net(second).wait_to_read()
    np.testing.assert_array_equal(kept.asnumpy(), expected)
    assert np.abs(other.asnumpy() - expected).max() > 1e-3


@families
def test_default_initialization_is_he_fan_out_and_can_be_replaced(name):
    net = deep(name, num_init_features=64)
    net.initialize()
    weight = net.features[0][0].weight.data().asnumpy()
    fan_out = weight.shape[0] * weight.shape[2] * weight.shape[3]
    assert weight.std() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    bound = 1 / math.sqrt(net.output.weight.shape[1])
    assert np.abs(net.output.weight.data().asnumpy()).max() == pytest.approx(bound, rel=0.05)
    net.initialize(mx.init.Constant(0.5), force_reinit=True)
    assert set(net.features[0][0].weight.data().asnumpy().ravel()) == {0.5}


@families
def test_reset_output_before_initialize(name):
    net = small(name)
    net.reset_output(3)
    net.initialize()
    assert net(image_array(net, 9, 12)).shape == (2, 3)
    assert net.spec.classes == 3


@families
@pytest.mark.parametrize("hybridize", [False, True])
def test_reset_output_after_a_forward_pass(name, hybridize):
    net = randomize(small(name))
    net.hybridize(hybridize, static_alloc=True, static_shape=True)
    x = image_array(net, 9, 12)
    with autograd.record():
        net(x).backward()
    features = net.features(x)
    old_output = net.output
    net.reset_output(3)
    assert_close(net(x), net.output(features).asnumpy())
    assert net(x).shape == (2, 3)
    assert_close(net.features(x), features.asnumpy())
    assert old_output not in net._children.values()
    names = [n for n in net.collect_params() if "output" in n]
    assert names == [f"{name}_output_weight", f"{name}_output_bias"]

    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    with autograd.record():
        loss = gluon.loss.SoftmaxCELoss()(net(x), mx.nd.array([0, 2]))
    loss.backward()
    before = net.output.weight.data().asnumpy()
    trainer.step(2)
    assert np.abs(net.output.weight.data().asnumpy() - before).max() > 0


def test_reset_output_initializes_where_the_features_are():
    net = small("densenet121")
    net.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    net.reset_output(3)
    assert net.output.weight.list_ctx() == [mx.cpu(0), mx.cpu(1)]
    net.reset_output(4, ctx=mx.cpu(1))
    assert net.output.weight.list_ctx() == [mx.cpu(1)]
    bound = 1 / math.sqrt(net.out_channels)
    assert 0.5 * bound < np.abs(net.output.weight.data(mx.cpu(1)).asnumpy()).max() <= bound


def test_reset_output_can_be_saved_and_rebuilt_from_the_spec(tmp_path):
    net = randomize(small("dpn92"))
    net.reset_output(3)
    net.save_parameters(str(tmp_path / "net.params"))
    again = small("dpn92", classes=net.spec.classes, pretrained=tmp_path / "net.params")
    x = image_array(net, 9, 12)
    assert_close(again(x), net(x).asnumpy())


@pytest.mark.parametrize("classes", [0, -1, 2.0, None])
def test_reset_output_refuses_invalid_classes(classes):
    net = small("densenet121")
    with pytest.raises(ValueError, match=r"classes \(=.*must be a positive integer"):
        net.reset_output(classes)
    assert net.spec.classes == 7


def test_reset_output_needs_an_output():
    with pytest.raises(ValueError, match="features_only"):
        small("densenet121", features_only=True).reset_output(3)


@families
def test_features_only_returns_the_feature_maps_of_feature_info(name):
    net = randomize(deep(name, features_only=True))
    maps = net(image_array(net, 96, 160))
    assert len(maps) == len(net.feature_info) == 4
    assert [info.name for info in net.feature_info] == [f"stage{i}" for i in (1, 2, 3, 4)]
    first = 2 if name == "csp_darknet53" else 4
    assert [info.stride for info in net.feature_info] == [first * n for n in (1, 2, 4, 8)]
    for info, each in zip(net.feature_info, maps):
        assert each.shape == (2, info.channels, 96 // info.stride, 160 // info.stride)
    assert not hasattr(net, "output")
    assert not net.collect_params(".*output.*").keys()


@families
@pytest.mark.parametrize("hybridize", [False, True])
def test_features_equal_those_of_the_whole_network(name, hybridize, tmp_path):
    whole = randomize(deep(name))
    whole.save_parameters(str(tmp_path / "whole.params"))
    net = deep(name, features_only=True, pretrained=tmp_path / "whole.params")
    net.hybridize(hybridize)
    x = image_array(net, 70, 45)
    maps = [each.asnumpy() for each in net(x)]

    stage, expected = x, []
    for child_name, child in whole.features._children.items():
        stage = child(stage)
        if child_name.startswith("stage"):
            expected.append(stage.asnumpy())
        elif child_name == "transition4":  # PeleeNet's last convolution
            expected[-1] = stage.asnumpy()
    if whole.spec.final_norm:
        last = below(below(arrays(whole), "features"), "norm")
        expected[-1] = relu(norm(expected[-1], last, whole.spec.eps))
    for actual, each in zip(maps, expected):
        assert_close(actual, each)
    pooled, names = mx.nd.array(maps[-1]), list(whole.features._children)
    for child_name in names[names.index("pool") :]:
        pooled = whole.features._children[child_name](pooled)
    assert_close(whole.output(pooled), whole(x).asnumpy())


def test_features_without_final_norm_end_with_the_last_stage():
    net = randomize(deep("dpn92", features_only=True, final_norm=False))
    last = net(image_array(net, 64, 64))[-1].asnumpy()
    assert last.min() < 0
    assert not net.collect_params("dpn92_norm_.*").keys()


def test_features_only_takes_small_images():
    net = randomize(deep("densenet121", features_only=True, pool="mean_max"))
    assert net.min_size == 29
    assert net(image_array(net, 29, 29))[-1].shape[2:] == (1, 1)


def test_features_can_be_sliced_as_in_gluon():
    net = randomize(deep("densenet121"))
    x = image_array(net, 64, 64)
    pooled = net.features[:-2](x).mean(axis=(2, 3))
    assert_close(net.features(x), pooled.asnumpy())


def dropouts(net) -> list[str]:
    nodes = mx.sym.load_json(net(mx.sym.var("data")).tojson()).get_internals()
    return [name for name in nodes.list_outputs() if "dropout" in name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # two convolutions per layer, one per transition
        ("densenet121", 2 * 3 + 1),
        # and one in each T of CSP; fusion="last" has no U
        ("csp_densenet121", 2 * 3 + 2),
        ("dpn92", 3 * 3),
        # three per block, expand, T and U of each stage, and down of the second
        ("csp_resnext50", 3 * 3 + 2 * 3 + 1),
    ],
)
def test_dropout_follows_each_convolution_of_the_stages(name, expected):
    assert len(dropouts(small(name, dropout=0.3))) == expected
    assert dropouts(small(name)) == []


@families
def test_dropout_is_active_in_training_only(name):
    net, plain = randomize(small(name, dropout=0.3)), randomize(small(name))
    x = image_array(net, 9, 12)
    np.testing.assert_array_equal(net(x).asnumpy(), plain(x).asnumpy())
    np.testing.assert_array_equal(net(x).asnumpy(), net(x).asnumpy())
    with autograd.train_mode():
        runs = [net(x).asnumpy() for _ in range(2)]
    assert np.abs(runs[0] - runs[1]).max() > 1e-3 * np.abs(runs[0]).max()


def test_dropout_rate():
    net = small("densenet121", dropout=0.3)
    layer = net.features[1][0]
    assert [type(child).__name__ for child in layer][3::4] == ["Dropout", "Dropout"]
    with autograd.train_mode():
        kept = (layer[3](mx.nd.ones((1, 10, 100, 100))).asnumpy() > 0).mean()
    assert kept == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("name", BATCH_NORMALIZED)  # RDNet has no other attention than its own
@pytest.mark.parametrize("attention", ["se", "path"])
@pytest.mark.parametrize("hybridize", [False, True])
def test_attention_trains(name, attention, hybridize):
    net = small(name, attention=attention)
    mx.random.seed(0)
    net.initialize()
    net.hybridize(hybridize, static_alloc=True, static_shape=True)
    weighers = {
        n: p
        for n, p in net._collect_params_with_prefix().items()
        if any(part in n for part in (".attention.", ".se.", ".path."))
    }
    x, labels = image_array(net, 8, 8, batch=8), mx.nd.array(range(7), dtype="float32")
    labels = mx.nd.concat(labels, mx.nd.array([0]), dim=0)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    loss_of, losses = gluon.loss.SoftmaxCELoss(), []
    before = {}
    for step in range(12):
        with autograd.record():
            loss = loss_of(net(x), labels)
        loss.backward()
        if step == 0:
            before = {n: p.data().asnumpy() for n, p in weighers.items()}
        trainer.step(8)
        losses.append(loss.mean().asscalar())
    assert losses[-1] < 0.8 * losses[0]
    assert len(weighers) > 0
    for n, parameter in weighers.items():
        assert np.abs(parameter.data().asnumpy() - before[n]).max() > 1e-6, n


@pytest.mark.parametrize("name", BATCH_NORMALIZED)
def test_initial_path_attention_changes_nothing(name, tmp_path):
    plain = small(name)
    plain.initialize(mx.init.MSRAPrelu("in", 0))
    plain.save_parameters(str(tmp_path / "plain.params"))
    net = small(name, attention="path")
    net.initialize(HeFanOut())
    net.load_parameters(str(tmp_path / "plain.params"), allow_missing=True)
    x = image_array(net, 9, 12)
    assert_close(net(x), plain(x).asnumpy(), 1e-6)


@pytest.mark.parametrize("attention", ["se", "path"])
@pytest.mark.parametrize(
    "name", ["densenet121", "csp_densenet121", "csp_resnet50", "dpn92", "densenet40_k12_cifar10"]
)
def test_attention_of_the_registered_networks(name, attention):
    fields = {"classes": 7, "attention": attention}
    if name != "densenet40_k12_cifar10":
        fields["stem"] = "half"
    net = get_model(name, **fields)
    _, outputs, _ = net(mx.sym.var("data")).infer_shape(data=(2, 3, 32, 32))
    assert outputs == [(2, 7)]
    parts = {"se": (".se.", ".attention."), "path": (".path.", ".attention.")}[attention]
    names = [n for n in net._collect_params_with_prefix() if any(part in n for part in parts)]
    units, stages = {
        "densenet121": (58, 4),
        "csp_densenet121": (58, 4),
        "csp_resnet50": (13, 4),
        "dpn92": (30, 30),
        "densenet40_k12_cifar10": (36, 3),
    }[name]
    assert len(names) == (4 * units if attention == "se" else 2 * stages)


def mean_max_pair(tmp_path, **fields):
    """Return a network and the same with the head for larger images."""
    net = randomize(deep("densenet121", **fields))
    net.save_parameters(str(tmp_path / "net.params"))
    wide = deep("densenet121", pool="mean_max", pretrained=tmp_path / "net.params", **fields)
    return net, wide


@pytest.mark.parametrize("hybridize", [False, True])
def test_mean_max_equals_global_pooling_at_the_training_size(tmp_path, hybridize):
    net, wide = mean_max_pair(tmp_path)
    wide.hybridize(hybridize)
    x = image_array(net, 224, 224)
    assert net.output_size(224) == 7
    assert_close(wide(x), net(x).asnumpy())


def expected_mean_max(net, maps: np.ndarray, output: nn.Dense) -> np.ndarray:
    rows, columns = (side - 6 for side in maps.shape[2:])
    weight, bias = output.weight.data().asnumpy(), output.bias.data().asnumpy()
    logits = np.stack(
        [
            maps[:, :, i : i + 7, j : j + 7].mean((2, 3)) @ weight.T + bias
            for i in range(rows)
            for j in range(columns)
        ]
    )
    return 0.5 * (logits.mean(0) + logits.max(0))


@pytest.mark.parametrize("hybridize", [False, True])
def test_mean_max_slides_the_classifier_over_larger_feature_maps(tmp_path, hybridize):
    net, wide = mean_max_pair(tmp_path)
    wide.hybridize(hybridize)
    x = image_array(net, 256, 320)
    maps = net.features[:-2](x).asnumpy()
    assert maps.shape[2:] == (8, 10)
    assert_close(wide(x), expected_mean_max(net, maps, net.output))
    wide.reset_output(3)
    assert_close(wide(x), expected_mean_max(net, maps, wide.output))
    wide.output = nn.Dense(4)
    wide.output.initialize(mx.init.Normal(0.1))
    assert wide(x).shape == (2, 4)
    assert_close(wide(x), expected_mean_max(net, maps, wide.output))


@families
def test_output_can_be_replaced_as_in_gluon(name):
    net = randomize(small(name))
    x = image_array(net, 9, 12)
    net(x)
    with net.name_scope():
        net.output = nn.Dense(3)
    net.output.initialize()
    assert_close(net(x), net.output(net.features(x)).asnumpy())


@families
def test_several_sizes_in_turn(name):
    net = randomize(small(name))
    expected = {side: net(image_array(net, *side)).asnumpy() for side in ((9, 12), (16, 8))}
    for side, logits in reversed(list(expected.items())):
        assert_close(net(image_array(net, *side)), logits)


@families
def test_widths_that_onednn_cannot_split_can_be_trained(name):
    widths = {
        "densenet121": {"growth_rate": 12, "block_config": (4, 4)},
        "csp_densenet121": {"growth_rate": 12, "block_config": (4, 4), "partial_ratio": 0.3},
        "dpn92": {"increments": (12, 20), "residual_width": 24},
        "csp_resnext50": {"widths": (24, 40)},
        "rdnet_tiny": {"growth_rates": (12, 20)},
        "csp_darknet53": {"widths": (24, 40)},
        "csp_peleenet": {"growth_rate": 12, "block_config": (4, 4), "partial_ratio": 0.3},
    }[name]
    net = randomize(small(name, num_init_features=24, **widths))
    x = image_array(net, 16, 16)
    with autograd.record():
        y = net(x)
    y.backward()
    gradient = net.features[0][0].weight.grad().asnumpy()
    assert np.isfinite(gradient).all()
    assert gradient.any()


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("csp_densenet121", {"compression": 0.001}, "compression"),
        ("csp_densenet121", {"compression": 0.2, "partial_ratio": 0.8}, "partial_ratio"),
        ("csp_densenet121", {"partial_ratio": 0.001}, "partial_ratio"),
        ("csp_resnet50", {"partial_ratio": 0.001}, "partial_ratio"),
        ("csp_resnet50", {"bottleneck_ratio": 0.001}, "128 to 0 channels"),
        ("csp_resnet50", {"expand_ratio": 0.001}, "64 to 0 channels"),
        ("csp_resnext50", {"bottleneck_ratio": 0.3}, r"groups \(=32\)"),
        ("csp_resnext50", {"widths": (256, 100, 64, 64)}, r"groups \(=32\)"),
    ],
)
def test_fields_that_leave_a_block_without_channels_raise(name, fields, words):
    with pytest.raises(ValueError, match=words) as error:
        get_model(name, **fields)
    assert "\n" not in str(error.value)


def test_parameter_names_are_readable():
    net = get_model("csp_densenet121", attention="se")
    names = set(net._collect_params_with_prefix())
    assert {
        "features.stem.conv.weight",
        "features.stage1.block.layer3.conv1.weight",
        "features.stage2.block.layer12.attention.fc2.bias",
        "features.stage1.transition.norm.gamma",
        "features.norm.running_var",
        "output.weight",
    } <= names
    assert "dpn92_stage3_block20_conv_b_conv_weight" in get_model("dpn92").collect_params()
