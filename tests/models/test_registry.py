from __future__ import annotations

import dataclasses
import inspect

import mxnet as mx
import numpy as np
import pytest
from support.reference import images, randomize

import gluondense
from gluondense import environment, get_model, get_spec, list_models, register_with_gluoncv
from gluondense.detection import list_detectors
from gluondense.models import SPECS

SMALL = {"stem": "cifar", "block_config": (2, 2), "growth_rate": 6, "num_init_features": 10}


def test_list_models_is_sorted_and_takes_patterns():
    assert list_models() == sorted(SPECS)
    assert list_models("dpn9?") == ["dpn92", "dpn98"]
    assert list_models("csp_*_listing") == [
        f"csp_densenet{depth}_listing" for depth in (121, 161, 169, 201)
    ]
    assert list_models("densenet100_k12_bc_*0") == [
        "densenet100_k12_bc_cifar10",
        "densenet100_k12_bc_cifar100",
    ]
    assert list_models("resnet*") == []


def test_names_are_found_in_any_case():
    net = get_model("CSP_DenseNet121", classes=7)
    assert net.model_name == "csp_densenet121"
    assert net.prefix == "csp_densenet121_"
    assert net.spec == get_spec("csp_densenet121", classes=7)


def test_specs_are_frozen_and_hashable():
    spec = get_spec("dpn92")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.classes = 3
    assert len({spec, get_spec("dpn92"), get_spec("dpn92", groups=16)}) == 2
    assert get_spec("dpn92").classes == 1000


@pytest.mark.parametrize("name", list_models())
def test_each_row_has_a_function(name):
    function = getattr(gluondense, name)
    assert function.__name__ == name
    assert name in gluondense.__all__
    assert name in inspect.getdoc(function)


def test_functions_build_what_get_model_builds():
    net = gluondense.densenet121(classes=7, in_channels=5, **SMALL)
    assert net.spec == get_spec("densenet121", classes=7, in_channels=5, **SMALL)
    assert gluondense.dpn68(features_only=True).features_only
    with pytest.raises(ValueError, match="no field 'clases'"):
        gluondense.densenet121(clases=7)


def test_prefix_begins_the_names_in_symbols():
    net = get_model("densenet121", prefix="left_", **SMALL)
    arguments = net(mx.sym.var("data")).list_arguments()
    assert arguments[:2] == ["data", "left_stem_conv_weight"]
    assert all(name.startswith("left_") for name in arguments[1:])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: get_model("densnet121"), ["'densnet121'", "did you mean 'densenet121'"]),
        (lambda: get_spec("CSP_densenet-121"), ["'csp_densenet121'", "list_models()"]),
        (lambda: get_model("vgg"), ["unknown model 'vgg'", "list_models()"]),
        (lambda: get_model(121), ["unknown model 121"]),
        (
            lambda: get_model("dpn92", dropot=0.1),
            ["dpn92 has no field 'dropot'", "did you mean 'dropout'", "increments"],
        ),
        (lambda: get_model("dpn92", growth_rate=7), ["dpn92 has no field 'growth_rate'"]),
        (lambda: get_spec("densenet121", fusion="both"), ["densenet121 has no field 'fusion'"]),
    ],
)
def test_unknown_names_and_fields_get_the_closest_ones(call, words):
    with pytest.raises(ValueError, match=r"no field|unknown model") as error:
        call()
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("field", "values"),
    {
        "classes": [-1, -3, 2.0, True, "10", None],
        "in_channels": [0, 1.5],
        "num_init_features": [0, False],
        "stem": ["imagenet7", None],
        "dropout": [1, -0.1, "0.2", True, float("nan")],
        "dropout_after": ["1x1", None, True],
        "drop_path": [1, -0.1, "0.2", True, float("nan")],
        "eps": [0, -1e-5, "1e-5", float("nan")],
        "attention": ["cbam", False, ""],
        "final_norm": [0, None, "yes"],
        "pool": ["max", None],
        "layout": ["NCWH", None, 1],
        "growth_rate": [0, 3.0],
        "block_config": [(), (3, 0), (3, 2.5), 6, "66", ((1,),)],
        "bn_size": [-1, 0.5, None],
        "compression": [0, 1.1, -0.5, "half", float("nan")],
        "use_bias": [1, "no"],
        "fusion": ["middle", None],
        "partial_ratio": [0, 1, 1.5, -0.5, "half", float("nan")],
        "transition_widths": ["quartered"],
        "keep_input": [1, None],
        "downsample": [0, "yes"],
    }.items(),
)
def test_each_field_has_its_rule(field, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"^{field} \(=") as error:
            get_spec("csp_densenet121", **{field: value})
        assert repr(value) in str(error.value)
        assert "\n" not in str(error.value)


OTHER_FAMILIES = {
    "densenet121": {"blur_pool": [1, None, "yes"]},
    "dpn92": {
        "act": ["gelu", None],
        "num_blocks": [(), (3, 4), (3, 4, 20, 0), 3, (3, 4, 20, 1.5)],
        "increments": [(), (16,), (16, 32, 24, -1), 16],
        "bottleneck_width": [0, 100, 96.0],
        "residual_width": [0, None],
        "groups": [0, True],
    },
    "rdnet_tiny": {
        "num_blocks": [(), (1, 1), (1, 1, 0, 1), 4],
        "growth_rates": [(), (64,), (64, 104, 128, 0.5), "abcd"],
        "num_layers": [0, 1.5, None],
        "compression": [0, 1.1, "half"],
        "squeeze_excite_from": [0, None],
        "attention": ["se", "path"],
        "final_norm": [True],
        "pool": ["mean_max"],
    },
    "csp_resnet50": {
        "num_blocks": [(), (3, 3, 5), (3, 3, 5, 0), 3],
        "widths": [(), (64,), (128, 256, 512, 0.5), "abcd"],
        "expand_ratio": [0, -1, "2", True, float("nan"), float("inf")],
        "partial_ratio": [0, 1, None],
        "bottleneck_ratio": [0, float("inf"), None],
        "groups": [0, 1.0],
        "slope": [1, -0.1, "0.1", float("nan")],
    },
    "csp_darknet53": {
        "num_blocks": [(), (1, 2), (1, 2, 8, 8, 0), 3],
        "widths": [(), (64,), (64, 128, 256, 512, 0.5)],
        "bottleneck_ratios": [(), (0.5,), (1, 1, 1, 1, 0), 0.5, (1, 1, 1, 1, float("nan"))],
        "expand_ratios": [(), (0.5,), (1, 1, 1, 1, -1), "11111"],
        "partial_ratio": [-0.1, 1, None],
        "slope": [1, -0.1, "0.1"],
    },
    "darknet53": {"attention": ["path", "cbam"]},
    "peleenet": {
        "attention": ["path"],
        "growth_rate": [1, 0, 2.0],
        "block_config": [(), (3, 0, 1, 1), 6],
        "bn_sizes": [(), (1, 2), (1, 2, 4, 0), 4],
        "partial_ratio": [1, -0.5, "half"],
    },
}


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, rules in OTHER_FAMILIES.items() for field in rules]
)
def test_each_field_of_the_other_families_has_its_rule(name, field):
    for value in OTHER_FAMILIES[name][field]:
        with pytest.raises(ValueError, match=r" \(=.*must be") as error:
            get_spec(name, **{field: value})
        assert field in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("stem", ["cifar", "half", "pelee"])
def test_a_stem_without_max_pooling_has_none_to_blur(stem):
    with pytest.raises(ValueError, match=rf"blur_pool \(=True\) must be False.*stem='{stem}'"):
        get_spec("densenetblur121d", stem=stem)


def test_groups_must_divide_the_bottleneck():
    with pytest.raises(ValueError, match=r"bottleneck_width \(=96\) must be divisible by groups"):
        get_spec("dpn92", groups=50)


def test_every_field_has_a_rule_and_a_test():
    (mark,) = test_each_field_has_its_rule.pytestmark
    tested = {field for field, _ in mark.args[1]}.union(*OTHER_FAMILIES.values())
    fields = {field.name for spec in SPECS.values() for field in dataclasses.fields(spec)}
    assert tested == fields


@pytest.fixture
def gluoncv_models():
    """Yield GluonCV's table of models and restore it afterwards."""
    models = environment.import_gluoncv().model_zoo.model_zoo._models
    before = dict(models)
    yield models
    models.clear()
    models.update(before)


def test_gluoncv_finds_the_networks(gluoncv_models):
    import gluoncv

    theirs = gluoncv_models["densenet121"]
    added = register_with_gluoncv()
    both = {*(f"densenet{n}" for n in (121, 161, 169, 201)), "darknet53"}
    assert set(list_models()) - set(added) == both
    assert gluoncv_models["densenet121"] is theirs
    net = gluoncv.model_zoo.get_model("csp_densenet121", classes=5)
    assert net.spec == get_spec("csp_densenet121", classes=5)
    assert register_with_gluoncv() == []


def test_gluoncv_override(gluoncv_models):
    import gluoncv

    others = set(gluoncv_models) - set(list_models())
    assert register_with_gluoncv(override=True) == sorted(list_models() + list_detectors())
    net = gluoncv.model_zoo.get_model("densenet121", classes=5)
    assert net.spec == get_spec("densenet121", classes=5)
    assert others < set(gluoncv_models)


def test_networks_of_equal_fields_are_equal():
    x = mx.nd.array(images(2, 3, 8, 8))
    logits = [randomize(get_model(name, classes=7, **SMALL))(x) for name in ("densenet121",) * 2]
    np.testing.assert_array_equal(*(y.asnumpy() for y in logits))
