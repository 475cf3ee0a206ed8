# SPDX-License-Identifier: Apache-2.0
"""Files whose names no scheme knows: the error, and a mapping of one's own."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.reference import randomize

import gluondense
from gluondense.weights import NamingScheme, load_weights
from gluondense.weights.naming.scheme import TORCH
from gluondense.weights.naming.unknown import nearest_network

MODEL = "densenet40_k12_bc_cifar10"
RULES = {
    "features.stem.conv": "backbone.first",
    "features.stage{i}.layer{j}.{unit}": "backbone.part{i}.{j-1}.{unit}",
    "features.transition{i}.{unit}": "backbone.pool{i}.{unit}",
    "features.norm": "backbone.last",
    "output": "head",
}


def rename(module: str) -> str | None:
    """Map our modules to the file's, as ``RULES`` does."""
    for ours, theirs in (
        ("features.stem.conv", "backbone.first"),
        ("features.stage", "backbone.part"),
        ("features.transition", "backbone.pool"),
        ("features.norm", "backbone.last"),
    ):
        if module.startswith(ours):
            head, *rest = module.replace(ours, theirs).split(".layer")
            if not rest:
                return head
            number, _, unit = rest[0].partition(".")
            return f"{head}.{int(number) - 1}.{unit}"
    return "head" if module == "output" else None


@pytest.fixture(scope="module")
def net():
    return randomize(gluondense.get_model(MODEL))


@pytest.fixture(scope="module")
def arrays(net):
    """The network's values under names that no library has."""
    scheme = NamingScheme("mine", "me", tuple(RULES.items()), TORCH)
    parameters = net._collect_params_with_prefix()
    return {
        theirs: parameters[ours].data().asnumpy()
        for ours, (theirs,) in scheme.names(parameters).items()
    }


@pytest.fixture
def path(arrays, tmp_path):
    return write(tmp_path / "mine.params", arrays)


def write(path, arrays):
    mx.nd.save(str(path), {name: mx.nd.array(array) for name, array in arrays.items()})
    return path


def message_of(net, path, **options) -> str:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        load_weights(net, path, **options)
    return str(caught.value)


def parameter_names(net, arrays) -> dict[str, str]:
    return dict(zip(net._collect_params_with_prefix(), arrays))


@pytest.mark.parametrize("kind", ["dict", "function", "scheme", "parameters"])
def test_a_mapping_of_ones_own(net, arrays, path, kind):
    naming = {
        "dict": RULES,
        "function": rename,
        "scheme": NamingScheme("mine", "me", tuple(RULES.items()), TORCH, preprocessing=None),
        "parameters": parameter_names(net, arrays),
    }[kind]
    other = gluondense.get_model(MODEL)
    report = load_weights(other, path, naming=naming)
    assert report.naming == ("mine" if kind == "scheme" else "custom")
    assert len(report.loaded) == len(arrays)
    assert report.preprocessing is None
    x = mx.nd.array(np.random.default_rng(0).normal(size=(2, 3, 32, 32)))
    np.testing.assert_array_equal(other(x).asnumpy(), net(x).asnumpy())


def test_names_of_gluon(net, tmp_path):
    """Suffixes are those of the file."""
    scheme = NamingScheme("mine", "me", tuple(RULES.items()))
    parameters = net._collect_params_with_prefix()
    names = scheme.names(parameters)
    arrays = {names[ours][0]: parameters[ours].data().asnumpy() for ours in parameters}
    path = write(tmp_path / "gluon.params", arrays)
    assert "backbone.last.gamma" in arrays
    assert load_weights(gluondense.get_model(MODEL), path, naming=RULES).naming == "custom"


def test_arrays_that_are_no_parameters_can_be_ignored(arrays, tmp_path):
    path = write(tmp_path / "more.params", {**arrays, "ema.decay": np.zeros(1)})
    net = gluondense.get_model(MODEL)
    assert "1 unexpected: ema.decay" in message_of(net, path, naming=RULES)
    scheme = NamingScheme("mine", "me", tuple(RULES.items()), TORCH, ignored=("ema.*",))
    assert load_weights(net, path, naming=scheme).ignored == ("ema.decay",)


def test_the_error_shows_names_beside_the_nearest_network(path):
    message = message_of(gluondense.get_model("densenet121"), path)
    assert message.startswith(f"{path} has 197 arrays, which match no naming scheme of any network")
    assert f"nearest to those of {MODEL}: " in message
    assert "backbone.first.weight (24, 3, 3, 3) where ours is features.stem.conv.weight" in message
    assert "head.bias (10,) where ours is output.bias" in message
    assert "docs/weights.md" in message
    assert len(message) < 700


def test_the_nearest_network():
    first, second = ("first", {"b": (1,)}), ("second", {"c": (1,)})
    assert nearest_network({"a": (1,)}, [first, second]) == first
    assert nearest_network({"a": (1,)}, [("other", {"b": (2,)}), second]) == second
    assert nearest_network({"a": (1,)}, [("other", {"b": (2,)})]) is None


def test_names_in_another_order(arrays, tmp_path):
    """Safetensors files are sorted by size; names are paired by shape and kind."""
    path = write(tmp_path / "sorted.params", dict(sorted(arrays.items(), reverse=True)))
    message = message_of(gluondense.get_model(MODEL), path)
    assert "backbone.first.weight (24, 3, 3, 3) where ours is features.stem.conv.weight" in message
    pair = "backbone.part1.0.norm1.weight (24,) where ours is features.stage1.layer1.norm1.gamma"
    assert pair in message
    assert "head.bias (10,) where ours is output.bias" in message


def test_the_nearest_network_has_its_own_fields(path):
    net = gluondense.get_model(MODEL, block_config=(6, 6, 5))
    assert f"nearest to those of {MODEL}: " in message_of(net, path)
    assert "head.bias (10,) where ours is output.bias" in message_of(net, path)


@pytest.mark.parametrize(
    ("naming", "words"),
    [
        ({"features.stage{i}.{path}": "part{j}"}, "target 'part{j}' uses 'j'"),
        ({**RULES, "output": "classifier"}, "2 missing: output.weight, output.bias"),
        ({"output": 3}, "`naming` maps 'output' to 3"),
        (7, "naming (=7) must be a key of"),
        (lambda module: None, "missing: features.stem.conv.weight"),
    ],
)
def test_errors_of_mappings(path, naming, words):
    assert words in message_of(gluondense.get_model(MODEL), path, naming=naming)
