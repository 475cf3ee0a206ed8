"""Every network against implementations that no one here wrote, through the loader of weights.

A peer gets random values, is saved by its own framework and loaded with `load_weights`, so that the
readers and the naming schemes are tested too. In float64 both must agree to nearly all digits,
which shows that they compute the same function; in float32 to what float32 allows. The run writes
its table to the file that `--parity-table` names.
"""

from __future__ import annotations

import json
import platform
from typing import Any

import mxnet as mx
import numpy as np
import pytest

import gluondense
from gluondense.weights.naming.scheme import NamingScheme

pytestmark = [pytest.mark.parity, pytest.mark.slow]
torch = pytest.importorskip("torch", reason="`make test-parity` installs torch, torchvision, timm")
from benchmarking.workers import torch_peer  # noqa: E402  # needs torch
from support import peers  # noqa: E402  # needs torch

SIZES = ((224, 224), (193, 161))
# MXNet keeps the slope of a leaky ReLU in float32, where 0.01 is off by 2e-8, and computes GELU in
# float32, also in networks of float64.
FLOAT32, FLOAT64, LEAKY, GELU = 1e-5, 1e-11, 1e-8, 1e-6
GRADIENT, LEAKY_GRADIENT, GELU_GRADIENT = 1e-9, 1e-6, 1e-5

DENSE = [f"densenet{depth}" for depth in (121, 161, 169, 201)]
DENSE_OF_TIMM = ["densenet264d", "densenetblur121d"]
DPN = ["dpn48b", "dpn68", "dpn68b", "dpn92", "dpn98", "dpn107", "dpn131"]
RDNET = ["rdnet_tiny", "rdnet_small", "rdnet_base", "rdnet_large"]
CSP = {
    "csp_resnet50": "cspresnet50",
    "csp_resnet50d": "cspresnet50d",
    "csp_resnet50w": "cspresnet50w",
    "csp_resnext50": "cspresnext50",
    "csp_darknet53": "cspdarknet53",
    "darknet53": "darknet53",
}
PAIRS = [
    *(("torchvision", name, name) for name in DENSE),
    *(("timm", name, name) for name in DENSE + DENSE_OF_TIMM + DPN + RDNET),
    *(("timm", ours, theirs) for ours, theirs in CSP.items()),
]


def stage_modules(net: gluondense.models.Network) -> list[str]:
    """What torch's peers call the modules that end our stages."""
    name, last = net.model_name, len(net.feature_info)
    if name.startswith("densenet"):
        return [*(f"features.denseblock{i}" for i in range(1, last)), "features.norm5"]
    if name.startswith("dpn"):
        blocks = net.spec.num_blocks
        ends = [f"features.conv{i + 2}_{blocks[i]}" for i in range(last - 1)]
        return [*ends, "features.conv5_bn_ac"]
    if name.startswith("rdnet"):
        blocks = net.spec.num_blocks
        return [f"dense_stages.{sum(blocks[: i + 1]) - 1}" for i in range(last)]
    return [f"stages.{i}" for i in range(last)]


def by_activation(name: str, relu: float, leaky: float, gelu: float) -> float:
    return gelu if name in RDNET else leaky if name in CSP else relu


def stage_maps(model: torch.nn.Module, modules: list[str], x: np.ndarray) -> list[np.ndarray]:
    maps = peers.stage_maps(model, modules, torch.from_numpy(x))
    if modules[-1].endswith("norm5"):
        maps[-1] = np.maximum(maps[-1], 0)  # torchvision's last ReLU is no module
    return maps


def relative(ours: Any, theirs: np.ndarray) -> float:
    """Largest difference over the largest value."""
    ours = ours.asnumpy() if hasattr(ours, "asnumpy") else ours
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def image(size: tuple[int, int], dtype: str, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 3, *size)).astype(dtype)


@pytest.fixture(scope="module")
def table(request):
    """Rows of the page that the run writes when all pairs are through."""
    rows: dict[str, list[tuple[str, ...]]] = {"logits": [], "gradients": []}
    yield rows
    path = request.config.getoption("--parity-table")
    if path and len(rows["logits"]) == len(PAIRS) and len(rows["gradients"]) == len(GRADIENTS):
        with open(path, "w", encoding="utf-8") as file:
            file.write(page(rows))


def page(rows: dict[str, list[tuple[str, ...]]]) -> str:
    """Say in Markdown what the run found."""
    versions = ", ".join(
        f"{module} {__import__(module).__version__}"
        for module in ("gluondense", "mxnet", "numpy", "torch", "torchvision", "timm")
    )
    heads = {
        "logits": ("network", "peer", *(f"logits {h}x{w}" for h, w in SIZES), "stages", "float64"),
        "gradients": ("network", "peer", "parameters", "worst gradient, float64"),
    }
    parts = []
    for name, head in heads.items():
        lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows[name])]
        parts.append("\n".join(lines))
    return PAGE.format(
        logits=parts[0], gradients=parts[1], versions=versions, machine=platform.machine()
    )


PAGE = """\
# Parity

`make test-parity` wrote this page. Each network of a peer gets random weights, affine parameters
and batch statistics, is saved by its own framework, and is loaded with `gluondense.load_weights`;
then both see the same image. The numbers are the largest difference over the largest value.
*Stages* is the worst of the maps after each stage at the odd size. *float64* is the worst of logits
and stages when both compute in double precision: it tells that the functions are the same, and that
what is left in float32 is rounding. (CSPResNets and Darknets differ in the ninth digit because
MXNet keeps the slope of a leaky ReLU in single precision, RDNets in the seventh because it computes
GELU in single precision.)

{logits}

In training mode, with batch statistics, on a batch of 2 at 97x65: the worst of all parameters'
gradients of a random linear function of the logits.

{gradients}

{versions}; CPU, {machine}.
"""


@pytest.mark.parametrize(("library", "ours", "theirs"), PAIRS, ids=map("-".join, PAIRS))
def test_logits_and_stages_are_the_peer_s(library, ours, theirs, tmp_path, table):
    model = peers.randomize(getattr(peers, library)(theirs), theirs)
    path = tmp_path / "peer.pth"
    torch.save(model.state_dict(), path)
    net, features = (gluondense.get_model(ours, features_only=only) for only in (False, True))
    for block in (net, features):
        # Gradients take as much memory as parameters, 1.5 GB each for rdnet_large in float64.
        block.collect_params().setattr("grad_req", "null")
        report = gluondense.load_weights(block, path)
        assert set(report.loaded) == set(block._collect_params_with_prefix())
    modules = stage_modules(net)

    logits, maps = [], []
    for size in SIZES:
        x = image(size, "float32")
        with torch.no_grad():
            expected = model(torch.from_numpy(x)).numpy()
        logits.append(relative(net(mx.nd.array(x)), expected))
    expected_maps = stage_maps(model, modules, x)
    maps = [relative(got, want) for got, want in zip(features(mx.nd.array(x)), expected_maps)]
    assert len(maps) == len(modules) == len(net.feature_info)

    exact = [relative_float64(net, features, model, modules, path)]
    row = [f"{value:.1e}" for value in (*logits, max(maps), *exact)]
    table["logits"].append((ours, f"{library} `{theirs}`", *row))
    assert max(logits) <= FLOAT32
    assert max(maps) <= FLOAT32
    assert max(exact) <= by_activation(ours, FLOAT64, LEAKY, GELU)


@pytest.mark.parametrize("ours", [*DENSE[:1], *DENSE_OF_TIMM[1:], *DPN[:2], *CSP, RDNET[0]])
def test_feature_maps_are_those_of_timm_s_features_only(ours, tmp_path):
    theirs = CSP.get(ours, ours)
    model = peers.randomize(peers.timm(theirs), theirs)
    path = tmp_path / "peer.pth"
    torch.save(model.state_dict(), path)
    x = image((97, 65), "float32")
    rdnet = ours in RDNET  # timm's has no feature map of the stem
    for indices in (range(int(rdnet), 5), (int(rdnet),), (1, 3), (-2, -1), 2):
        # Its backbones rename the parameters, so it must load the file before it makes one.
        options = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}
        selected = list(indices) if isinstance(indices, (tuple, range)) else indices
        if rdnet and isinstance(selected, list):
            selected = [index - (index >= 0) for index in selected]
        backbone = peers.timm(theirs, features_only=True, out_indices=selected, **options).eval()
        with torch.no_grad():
            *expected, last = backbone(torch.from_numpy(x))
            if backbone.feature_info.module_name()[-1] == "features.conv5_3":
                last = model.features.conv5_bn_ac(last)  # missing in its DPN backbones only
        expected = [each.numpy() for each in (*expected, last)]
        net = gluondense.get_model(ours, features_only=True, out_indices=indices)
        report = gluondense.load_weights(net, path)
        assert set(report.loaded) == set(net._collect_params_with_prefix())
        assert [info.channels for info in net.feature_info] == backbone.feature_info.channels()
        assert [info.stride for info in net.feature_info] == backbone.feature_info.reduction()
        maps = net(mx.nd.array(x))
        assert len(maps) == len(expected)
        assert max(map(relative, maps, expected)) <= FLOAT32


def relative_float64(net, features, model, modules, path) -> float:
    """Load the same file into networks of double precision, and compare again."""
    model = model.double()
    torch.save(model.state_dict(), path)
    x = image(SIZES[1], "float64")
    for block in (net, features):
        block.cast("float64")
        gluondense.load_weights(block, path)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    expected_maps = stage_maps(model, modules, x)
    inputs = mx.nd.array(x, dtype="float64")
    pairs = [(net(inputs), expected), *zip(features(inputs), expected_maps)]
    return max(relative(got, want) for got, want in pairs)


GRADIENTS = [("torchvision", "densenet121"), ("timm", "densenetblur121d")]
GRADIENTS += [("timm", "dpn48b"), ("timm", "dpn68"), ("timm", "dpn107")]
GRADIENTS += [("timm", name) for name in ("csp_resnet50", "csp_darknet53", "darknet53")]
GRADIENTS += [("timm", "rdnet_tiny")]


@pytest.mark.parametrize(("library", "name"), GRADIENTS, ids=map("-".join, GRADIENTS))
def test_gradients_are_the_peer_s(library, name, tmp_path, table):
    theirs = CSP.get(name, name)
    model = peers.randomize(getattr(peers, library)(theirs), theirs).double().train()
    path = tmp_path / "peer.pth"
    torch.save(model.state_dict(), path)
    net = gluondense.get_model(name)
    net.cast("float64")
    gluondense.load_weights(net, path)

    x = image((97, 65), "float64", batch=2)
    weights = np.random.default_rng(1).standard_normal((2, 1000))
    (model(torch.from_numpy(x)) * torch.from_numpy(weights)).sum().backward()
    with mx.autograd.record():
        loss = (net(mx.nd.array(x, dtype="float64")) * mx.nd.array(weights, dtype="float64")).sum()
    loss.backward()

    theirs_of = dict(model.named_parameters())
    scheme = gluondense.weights.NAMING_SCHEMES[gluondense.load_weights(net, path).naming]
    parameters = {
        key: parameter
        for key, parameter in net._collect_params_with_prefix().items()
        if parameter.grad_req != "null"
    }
    worst = 0.0
    for key, names in scheme.names(parameters).items():
        expected = np.concatenate([theirs_of.pop(name).grad.numpy() for name in names])
        got = parameters[key].grad().asnumpy()
        worst = max(worst, relative(got, expected.reshape(got.shape)))
    assert not theirs_of
    table["gradients"].append((name, f"{library} `{theirs}`", str(len(parameters)), f"{worst:.1e}"))
    assert worst <= by_activation(name, GRADIENT, LEAKY_GRADIENT, GELU_GRADIENT)


GLUONCV2 = {
    "densenet121": ("densenet121", {}),
    "densenet161": ("densenet161", {}),
    "dpn68": ("dpn68", {}),
    "dpn68b": ("dpn68b", {}),
    "dpn98": ("dpn98", {}),
    "densenet100_k12_bc_cifar10": ("densenet100_k12_bc_cifar10", {}),
    # gluoncv2 gives the networks without bottlenecks the BC ones' stem and compression, by mistake.
    "densenet40_k12_cifar10": (
        "densenet40_k12_cifar10",
        {"num_init_features": 24, "compression": 0.5},
    ),
}


@pytest.mark.parametrize("name", GLUONCV2)
def test_logits_are_gluoncv2_s(name, tmp_path):
    pytest.importorskip("gluoncv2", reason="`make test-parity` installs it")
    from gluoncv2.model_provider import get_model

    theirs, fields = GLUONCV2[name]
    # By default its DPN pools otherwise in testing than in training.
    model = get_model(theirs, **({"for_training": True} if "dpn" in name else {}))
    model.initialize(mx.init.MSRAPrelu())
    size = 32 if "cifar" in name else 224
    x = mx.nd.array(image((size, size), "float32"))
    model(x)
    from support.reference import randomize

    expected = randomize(model)(x).asnumpy()
    path = tmp_path / "peer.params"
    model.save_parameters(str(path))
    net = gluondense.get_model(name, **fields)
    report = gluondense.load_weights(net, path)
    assert report.naming.startswith("gluoncv2")
    assert relative(net(x), expected) <= FLOAT32


PELEE_RULES = (
    ("features.stem.pool.fuse.{unit}", "features.0.last_conv.{unit}"),
    ("features.stem.pool.{conv}.{unit}", "features.0.branches.0.{conv}.{unit}"),
    ("features.stem.{unit}", "features.0.first_conv.{unit}"),
    ("features.stage1.layer{j}.{branch}.{conv}.{unit}", "features.1.{j-1}.{branch}.{conv}.{unit}"),
    (
        "features.stage{i}.layer{j}.{branch}.{conv}.{unit}",
        "features.{i}.{j}.{branch}.{conv}.{unit}",
    ),
    ("features.transition4.conv.{unit}", "features.5.{unit}"),
    ("features.transition{i}.conv.{unit}", "features.{i+1}.0.conv.{unit}"),
    ("output", "output.2"),
)


def test_logits_are_those_of_gluoncv2_s_peleenet(tmp_path):
    pytest.importorskip("gluoncv2", reason="`make test-parity` installs it")
    from gluoncv2.model_provider import get_model
    from support.reference import randomize

    model = get_model("peleenet")
    model.initialize(mx.init.MSRAPrelu())
    x = mx.nd.array(image((224, 224), "float32"))
    model(x)
    expected = randomize(model)(x).asnumpy()
    model.save_parameters(str(tmp_path / "peer.params"))
    net = gluondense.get_model("peleenet")
    naming = NamingScheme("gluoncv2-pelee", "gluoncv2", PELEE_RULES, words={"norm": "bn"})
    gluondense.load_weights(net, tmp_path / "peer.params", naming=naming)
    # It concatenates the stem's two ways in the other order than the authors.
    weight = net._collect_params_with_prefix()["features.stem.pool.fuse.conv.weight"]
    weight.set_data(mx.nd.concat(*weight.data().split(2, axis=1)[::-1], dim=1))
    assert relative(net(x), expected) <= FLOAT32


@pytest.mark.parametrize("name", ["densenet40_k12_bc_cifar10", "densenet100_k12_bc_cifar100"])
def test_logits_are_those_of_the_benchmarks_densenet_bc(name, tmp_path):
    net = gluondense.get_model(name)
    net.initialize(mx.init.MSRAPrelu())
    x = image((32, 32), "float32")
    net(mx.nd.array(x))
    gluondense.weights.save_weights(net, tmp_path / "net.safetensors")
    (tmp_path / "network.json").write_text(json.dumps({"model": name}))
    with torch.inference_mode():
        expected = torch_peer.load(tmp_path)(torch.from_numpy(x)).numpy()
    assert relative(net(mx.nd.array(x)), expected) <= FLOAT32


@pytest.mark.parametrize("name", ["dpn92", "dpn98"])
def test_logits_are_seed_001_s(name, tmp_path):
    module = peers.listing("001", "import torch\n", "四、总结")
    model = peers.randomize(module.dpns[name](), name)
    compare_listing(model, gluondense.get_model(f"{name}_listing"), tmp_path, "oyam-dpn")


@pytest.mark.parametrize(
    ("label", "fusion"), [("stand", "both"), ("fusionfirst", "first"), ("fusionlast", "last")]
)
def test_logits_are_seed_003_s(label, fusion, tmp_path):
    module = peers.listing("003", "import torch\n", "\ndef csp_densenet161")
    model = peers.randomize(module.csp_densenet121(model=label), label)
    net = gluondense.get_model("csp_densenet121_listing", fusion=fusion)
    compare_listing(model, net, tmp_path, "csp-listing")


def compare_listing(model, net, folder, naming) -> None:
    torch.save(model.state_dict(), folder / "peer.pth")
    assert gluondense.load_weights(net, folder / "peer.pth").naming == naming
    x = image((224, 224), "float32")
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    assert relative(net(mx.nd.array(x)), expected) <= FLOAT32


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_other_input_channels_get_the_filters_that_timm_makes(channels, tmp_path):
    from timm.models import adapt_input_conv

    model = peers.randomize(peers.torchvision("densenet121"), "channels")
    torch.save(model.state_dict(), tmp_path / "peer.pth")
    net = gluondense.get_model("densenet121", in_channels=channels)
    gluondense.load_weights(net, tmp_path / "peer.pth")
    expected = adapt_input_conv(channels, model.features.conv0.weight).detach().numpy()
    got = net.features[0][0].weight.data().asnumpy()
    np.testing.assert_allclose(got, expected, rtol=1e-6)
