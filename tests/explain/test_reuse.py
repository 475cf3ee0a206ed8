"""Feature reuse of networks whose weights are known by construction."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

import gluondense
from gluondense.explain import FeatureReuse, feature_reuse

K = 12
TINY = {"block_config": (3, 2), "num_init_features": 16, "growth_rate": K, "classes": 5}


def build(name="densenet121", **fields):
    net = gluondense.get_model(name, **{**TINY, **fields})
    net.initialize()
    return net


def set_blocks(parameter, values, widths):
    """Set the input channels of a weight to ±value, a value for each width."""
    weight = np.random.default_rng(0).choice([-1.0, 1.0], parameter.shape)
    per_channel = np.repeat(values, widths)
    assert len(per_channel) == parameter.shape[1]
    shape = (1, -1) + (1,) * (len(parameter.shape) - 2)
    parameter.set_data(mx.nd.array(weight * per_channel.reshape(shape)))


def parameters(net):
    return net._collect_params_with_prefix()


def test_densenet():
    net = build()
    of = parameters(net)
    for layer in (1, 2, 3):
        values = [10 * layer + source for source in range(layer)]
        set_blocks(
            of[f"features.stage1.layer{layer}.conv1.weight"], values, [16] + [K] * (layer - 1)
        )
    set_blocks(of["features.transition1.conv.weight"], [1, 2, 3, 4], [16, K, K, K])
    set_blocks(of["output.weight"], [0.5, 0.25, 0.125], [26, K, K])
    first, second = feature_reuse(net)
    assert first.stage == "stage1"
    assert first.sources == ("input", "1", "2", "3")
    assert first.readers == ("1", "2", "3", "transition")
    nan = np.nan
    expected = [[10, 20, 30, 1], [nan, 21, 31, 2], [nan, nan, 32, 3], [nan, nan, nan, 4]]
    np.testing.assert_allclose(first.weights, expected)
    assert second.readers == ("1", "2", "classifier")
    np.testing.assert_allclose(second.weights[:, 2], [0.5, 0.25, 0.125])


def test_without_bottleneck_the_3x3_convolutions_read():
    net = build(bn_size=0)
    set_blocks(parameters(net)["features.stage1.layer3.conv1.weight"], [3, 1, 2], [16, K, K])
    assert parameters(net)["features.stage1.layer3.conv1.weight"].shape[2:] == (3, 3)
    np.testing.assert_allclose(feature_reuse(net)[0].weights[:3, 2], [3, 1, 2])


@pytest.mark.parametrize("fusion", ["both", "first", "last"])
def test_csp(fusion):
    net = build("csp_densenet121", fusion=fusion)
    of = parameters(net)
    set_blocks(of["features.stage1.block.layer3.conv1.weight"], [5, 6, 7], [8, K, K])
    if fusion != "first":
        weight = of["features.stage1.transition.conv.weight"]
        set_blocks(weight, [1, 2, 3, 4], [8, K, K, K])
    if fusion == "both":
        set_blocks(of["features.transition1.conv.weight"], [8, 9], [8, weight.shape[0]])
    if fusion == "first":
        set_blocks(of["features.transition1.conv.weight"], [8, 1, 2, 3, 4], [8, 8, K, K, K])
    found = feature_reuse(net)[0]
    cells = {
        (source, reader): found.weights[row, column]
        for row, source in enumerate(found.sources)
        for column, reader in enumerate(found.readers)
        if not np.isnan(found.weights[row, column])
    }
    expected = {("x0″", "3"): 5, ("1", "3"): 6, ("2", "3"): 7}
    last = "U" if fusion == "first" else "T"
    expected.update({("x0″", last): 1, ("1", last): 2, ("2", last): 3, ("3", last): 4})
    expected.update({("x0′", "U"): 8, ("T", "U"): 9} if fusion == "both" else {})
    expected.update({("x0′", "U"): 8} if fusion == "first" else {})
    dense = {("x0″", "1"), ("x0″", "2"), ("1", "2")}
    assert cells.keys() == expected.keys() | dense
    for key, value in expected.items():
        np.testing.assert_allclose(cells[key], value)


def test_the_listing_drops_a_part_of_the_input():
    found = feature_reuse(build("csp_densenet121_listing"))[0]
    assert np.isnan(found.weights[found.sources.index("x0″"), found.readers.index("T")])


def test_dpn_has_a_residual_path():
    fields = {"num_blocks": (2, 3), "bottleneck_width": 8, "residual_width": 16, "classes": 5}
    net = gluondense.get_model("dpn92", increments=(4, 8), groups=4, **fields)
    net.initialize()
    second = feature_reuse(net)[1]
    assert second.sources == ("input", "projection", "residual path", "1", "2", "3")
    assert second.readers == ("projection", "1", "2", "3", "classifier")
    weight = np.abs(parameters(net)["features.stage2.block3.conv_a.conv.weight"].data().asnumpy())
    means = [
        weight[:, a:b].mean(dtype=np.float64) for a, b in ((32, 48), (0, 32), (48, 56), (56, 64))
    ]
    np.testing.assert_allclose(second.weights[1:5, 3], means)


@pytest.mark.parametrize("fields", [{"classes": 0}, {"features_only": True}])
def test_networks_without_a_classifier(fields):
    found = feature_reuse(build(**fields))
    assert [stage.readers[-1] for stage in found] == ["transition", "2"]


def test_normalization_multiplies_by_gamma():
    net = build()
    plain = feature_reuse(net)[0].weights
    gamma = parameters(net)["features.stage1.layer2.norm1.gamma"]
    gamma.set_data(-mx.nd.array(np.repeat([2, 3], [16, K])))
    scaled = feature_reuse(net, normalization=True)[0].weights
    np.testing.assert_allclose(scaled[:2, 1], plain[:2, 1] * [2, 3])
    np.testing.assert_allclose(scaled[:, 2], plain[:, 2])
    np.testing.assert_allclose(feature_reuse(net)[0].weights, plain)


def test_scales():
    weights = np.array([[1.0, 2.0], [np.nan, 8.0]])
    found = FeatureReuse("stage1", ("input", "1"), ("1", "2"), weights)
    np.testing.assert_allclose(found.scaled(), [[1, 0.25], [np.nan, 1]])
    np.testing.assert_allclose(found.scaled("stage"), weights / 8)
    np.testing.assert_allclose(found.scaled(None), weights)
    with pytest.raises(ValueError, match=r"scale \(='row'\) must be one of"):
        found.scaled("row")


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="csp_resnet50 has no dense stages"):
        feature_reuse(gluondense.get_model("csp_resnet50"))
    with pytest.raises(ValueError, match="Dense has no known dense stages"):
        feature_reuse(mx.gluon.nn.Dense(3))


def test_the_classifier_of_a_trained_network_uses_the_last_feature_maps(shared):
    """The paper's observation, on published weights of CIFAR-10."""
    net = gluondense.get_model("densenet40_k12_bc_cifar10")
    gluondense.load_weights(net, shared / "data/weights/densenet-bc-40-12-cifar10.pth.tar")
    last = feature_reuse(net)[-1]
    assert last.readers[-1] == "classifier"
    classifier = last.scaled()[:, -1]
    assert classifier[-1] == 1
    assert classifier[:4].max() < 0.2
