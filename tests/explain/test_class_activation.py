"""Class activation maps: exact, equal to an independent implementation, finite."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.exported_networks import TINY, VARIANTS, build

import gluondense
from gluondense.explain import cam, overlay
from gluondense.explain.class_activation import _gradients
from gluondense.explain.cut import stage_names
from gluondense.explain.methods import METHODS, grad_cam, grad_cam_plus_plus

NETWORKS = (
    *("densenet", "densenet-mean_max", "densenet-grey", "cifar-bc", "tutorial", "csp-last"),
    *("csp-both", "csp-listing", "dpn-se", "dpn-mean_max", "dpn-listing", "residual"),
)


def images(net, *size, count=2):
    shape = count, net.spec.in_channels, *size
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def tiny():
    return build()


@pytest.mark.parametrize("variant", NETWORKS)
def test_every_network_has_maps_by_every_method(variant):
    net = build(*VARIANTS[variant])
    x = images(net, 71, 66)
    logits = net(mx.nd.array(x)).asnumpy()
    exact = net.spec.pool == "avg"
    for method in METHODS[not exact :]:
        found = cam(net, x, [1, 4], method)
        assert found.maps.shape[0] == 2
        assert found.heat.shape == (2, 71, 66)
        assert np.isfinite(found.maps).all()
        assert found.heat.min() >= 0
        assert found.heat.max() <= 1
        np.testing.assert_allclose(found.logits, logits, rtol=1e-4, atol=1e-4)
        if method == "cam":
            bias = net.output.bias.data().asnumpy()[[1, 4]]
            means = found.maps.mean(axis=(1, 2)) + bias
            np.testing.assert_allclose(means, logits[[0, 1], [1, 4]], rtol=1e-4, atol=1e-4)
    if not exact:
        with pytest.raises(ValueError, match="use 'gradcam'"):
            cam(net, x, method="cam")


def test_grad_cam_is_the_positive_part_of_cam(tiny):
    x = images(tiny, 65, 70)
    exact, found = (cam(tiny, x, method=method) for method in ("cam", "gradcam"))
    cells = exact.maps[0].size
    np.testing.assert_allclose(
        found.maps, np.maximum(exact.maps, 0) / cells, rtol=1e-4, atol=1e-6 * found.maps.max()
    )
    np.testing.assert_allclose(found.heat, exact.heat, rtol=1e-3, atol=1e-5)
    assert found.heat.max() == 1


def test_single_images_and_several_classes(tiny):
    x = images(tiny, 64, 64)
    default = cam(tiny, x)
    assert default.method == "cam"
    assert default.targets.tolist() == default.logits.argmax(axis=1).tolist()
    single = cam(tiny, mx.nd.array(x[1]), 3, "gradcam++", "stage1")
    several = cam(tiny, x, [[0, 1], [3, 3]], "gradcam++", "stage1")
    assert single.maps.shape == several.maps.shape[2:]
    assert single.heat.shape == (64, 64)
    assert several.heat.shape == (2, 2, 64, 64)
    for index in (0, 1):
        np.testing.assert_allclose(several.maps[1, index], single.maps, rtol=1e-5)


def test_nothing_of_the_network_changes(tiny):
    x = mx.nd.array(images(tiny, 64, 64))
    with mx.autograd.record():
        loss = tiny(x).sum()
    loss.backward()
    parameters = {k: p for k, p in tiny.collect_params().items() if p.grad_req != "null"}
    before = {k: (p.data().asnumpy(), p.grad().asnumpy()) for k, p in parameters.items()}
    for method in METHODS:
        cam(tiny, x, 0, method)
    for name, parameter in parameters.items():
        assert (parameter.data().asnumpy() == before[name][0]).all()
        assert (parameter.grad().asnumpy() == before[name][1]).all()


def test_stages_are_those_of_features(tiny):
    assert stage_names(tiny) == ["stem", "stage1", "transition1", "stage2", "norm", "relu"]
    x = images(tiny, 64, 64)
    last = cam(tiny, x, 1, "gradcam")
    assert (cam(tiny, x, 1, "gradcam", "relu").maps == last.maps).all()
    assert cam(tiny, x, 1, stage="stem").maps.shape == (2, 16, 16)
    with pytest.raises(ValueError, match="unknown stage 'stage3'; did you mean"):
        cam(tiny, x, stage="stage3")
    with pytest.raises(ValueError, match="use 'gradcam'"):
        cam(tiny, x, method="cam", stage="stage1")


def test_wrong_arguments(tiny):
    x = images(tiny, 64, 64)
    with pytest.raises(ValueError, match="unknown method 'gradcam#'"):
        cam(tiny, x, method="gradcam#")
    for target in (5, -1, [0], [[1, 2]], 1.0, ["a", "b"]):
        with pytest.raises(ValueError, match=r"target \(=.* from 0 to 4"):
            cam(tiny, x, target)
    with pytest.raises(ValueError, match=r"must be \(C, H, W\) or"):
        cam(tiny, x[0, 0])
    with pytest.raises(ValueError, match="takes images of shape"):
        cam(tiny, x[:, :1])
    broken = build()
    broken.output.bias.set_data(mx.nd.full((5,), np.nan))
    with pytest.raises(ValueError, match="not finite"):
        cam(broken, x)
    with pytest.raises(ValueError, match="Dense has no feature maps to explain"):
        cam(mx.gluon.nn.Dense(3), x)
    features = gluondense.get_model("densenet121", features_only=True, **TINY)
    with pytest.raises(ValueError, match="has no feature maps to explain"):
        cam(features, x)


@pytest.mark.parametrize("compute", [grad_cam, grad_cam_plus_plus])
@pytest.mark.parametrize("gradient", [0.0, 1e-30, -1e-30, 1.0, -1.0, 1e20])
@pytest.mark.parametrize("activation", [0.0, 1e-30, -1.0, 1.0, 1e20])
def test_methods_are_finite(compute, gradient, activation):
    """The usual form of Grad-CAM++ divides by 2 g² + S g³, which is 0 in most of these cases."""
    activations = np.full((1, 3, 2, 2), activation / 1e3, np.float32)
    activations[0, 1] = 0
    maps = compute(activations, np.full((1, 3, 2, 2), gradient / 1e3, np.float32))
    assert np.isfinite(maps).all()
    assert (maps >= 0).all()


def test_grad_cam_plus_plus_is_the_papers_formula():
    rng = np.random.default_rng(0)
    activations = np.maximum(rng.standard_normal((2, 5, 3, 4)), 0)
    gradients = rng.standard_normal((2, 5, 3, 4))
    total = activations.sum(axis=(2, 3), keepdims=True)
    with np.errstate(invalid="ignore"):
        alpha = gradients**2 / (2 * gradients**2 + total * gradients**3)  # eq. 19
    weights = (alpha * np.maximum(gradients, 0)).sum(axis=(2, 3))  # eq. 11
    expected = np.maximum((weights[:, :, None, None] * activations).sum(axis=1), 0)
    np.testing.assert_allclose(grad_cam_plus_plus(activations, gradients), expected)


@pytest.mark.parametrize("factor", [1e-4, 1e3, 6e4])
def test_gradients_of_float16_neither_underflow_nor_overflow(factor):
    """Networks of float16 need a GPU; elementwise operators show the gradients on a CPU too."""
    features = mx.nd.ones((1, 2, 64, 64), dtype="float16")
    features.attach_grad()
    with mx.autograd.record(train_mode=False):
        output = (features * factor).mean(axis=(2, 3))
    found = _gradients(output, features, np.array([1]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 1], factor / 64**2, rtol=2e-3)
    assert (found[0, 0] == 0).all()


def test_maps_without_a_positive_value_have_no_heat(tiny):
    net = build()
    net.output.weight.set_data(-mx.nd.ones(net.output.weight.shape))
    for method in METHODS:
        found = cam(net, images(net, 64, 64), 1, method)
        assert (found.heat == 0).all()


def test_overlay_shows_the_image_where_the_map_is_cold():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 1), np.uint8)
    heat = np.zeros((6, 5))
    heat[2, 3] = 1
    found = overlay(pixels, heat, strength=1)
    assert found.shape == (6, 5, 3)
    assert found[2, 3].tolist() == [122, 4, 3]
    found[2, 3] = pixels[2, 3]
    assert (found == pixels).all()
    with pytest.raises(ValueError, match="must have one size"):
        overlay(pixels, heat[1:])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "preprocess": True,
            "mean": (0.5,) * 3,
            "std": (0.2,) * 3,
            "output": "probabilities",
            "params_dtype": "float16",
        },
    ],
    ids=["plain", "with-ends"],
)
def test_portable_exports_have_the_networks_maps(tiny, options, tmp_path):
    gluondense.export(tiny, tmp_path / "tiny", input_shape=(1, 3, 64, 64), **options)
    exported = gluondense.load_exported(tmp_path / "tiny")
    pixels = np.random.default_rng(5).integers(0, 256, (2, 65, 70, 3), np.uint8)
    x = ((pixels.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.2).astype(np.float32)
    for method in METHODS:
        expected = cam(tiny, x, 3, method)
        found = cam(exported, pixels if options else x, 3, method)
        atol = (5e-3 if options else 1e-5) * np.abs(expected.maps).max()
        np.testing.assert_allclose(found.maps, expected.maps, rtol=0, atol=atol)
        assert found.heat.shape == (2, 65, 70)
        assert found.grid == expected.grid
    with pytest.raises(ValueError, match="an export has only its last feature map"):
        cam(exported, pixels if options else x, stage="stage1")


def test_other_exports_say_what_is_possible(tiny, tmp_path):
    gluondense.export(tiny, tmp_path / "tiny", input_shape=(1, 3, 64, 64), target="onednn")
    exported = gluondense.load_exported(tmp_path / "tiny")
    with pytest.raises(ValueError, match=r"target='onednn' has no feature maps .* the run"):
        cam(exported, images(tiny, 64, 64))


def test_networks_of_other_zoos():
    from mxnet.gluon.model_zoo import vision

    net = vision.resnet18_v2(classes=4)
    net.initialize()
    x = np.random.default_rng(0).standard_normal((1, 3, 65, 97)).astype(np.float32)
    found = cam(net, x)
    assert found.method == "cam"
    assert found.maps.shape == (1, 3, 4)
    bias = net.output.bias.data().asnumpy()[found.targets]
    np.testing.assert_allclose(found.maps.mean() + bias, found.logits.max(), rtol=1e-4)


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.parametrize("size", [(224, 224), (193, 161)])
def test_equal_to_hooks_on_torchvision(size, tmp_path):
    torch = pytest.importorskip("torch", reason="`make test-parity` installs the peers")
    from support import peers

    peer = peers.randomize(peers.torchvision("densenet121"), "explain")
    torch.save(peer.state_dict(), tmp_path / "peer.pth")
    net = gluondense.get_model("densenet121")
    gluondense.load_weights(net, tmp_path / "peer.pth")
    x = np.random.default_rng(0).standard_normal((1, 3, *size)).astype(np.float32)
    target = int(peer(torch.from_numpy(x)).argmax())
    for module, stage in (("features.norm5", None), ("features.denseblock3", "stage3")):
        expected = torch_maps(torch, peer, module, torch.from_numpy(x), target)
        for method, wanted in expected.items():
            if method == "cam" and stage:
                continue
            found = cam(net, x, target, method, stage).maps
            assert found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
            assert wanted.max() > 0


def torch_maps(torch, model, module, x, target):
    """The three methods by PyTorch's hooks and autograd, with the papers' formulas."""
    kept = []
    handle = model.get_submodule(module).register_forward_hook(lambda _, __, out: kept.append(out))
    # torchvision's last ReLU works in place, on what the hook keeps.
    logits = torch.nn.functional.linear(
        torch.nn.functional.adaptive_avg_pool2d(torch.relu(model.features(x)), 1).flatten(1),
        model.classifier.weight,
        model.classifier.bias,
    )
    handle.remove()
    features = kept[0]
    if module.endswith("norm5"):
        features = torch.relu(features)
        logits = model.classifier(features.mean(dim=(2, 3)))
    (g,) = torch.autograd.grad(logits[0, target], features)
    a = features.detach().double()
    g = g.double()
    total = a.sum(dim=(2, 3), keepdim=True)
    alpha = torch.where(g > 0, g**2 / (2 * g**2 + total.clamp(min=0) * g**3), torch.zeros_like(g))
    weights = {
        "cam": model.classifier.weight[target].detach().double()[None, :],
        "gradcam": g.mean(dim=(2, 3)),
        "gradcam++": (alpha * g.clamp(min=0)).sum(dim=(2, 3)),
    }
    maps = {}
    for method, weight in weights.items():
        if weight.shape[1] == a.shape[1]:
            found = (weight[:, :, None, None] * a).sum(dim=1)
            maps[method] = (found if method == "cam" else found.clamp(min=0)).numpy()
    return maps
