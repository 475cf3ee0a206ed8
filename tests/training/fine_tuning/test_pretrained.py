from __future__ import annotations

import shutil
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from support.training_tiny import TINY

from gluondense.data import DATASETS, load_dataset
from gluondense.data.preprocessing import DPN, Preprocessing
from gluondense.files import sha256
from gluondense.models import build_model
from gluondense.training import checkpoint, fit
from gluondense.training import run as run_module
from gluondense.training.distributed.workers import Workers
from gluondense.training.fine_tuning import pretrained
from gluondense.training.fine_tuning.pretrained import (
    adopt_model,
    adopt_preprocessing,
    find_initial_weights,
    load_initial_weights,
)
from gluondense.training.run import Run
from gluondense.weights.save import save_weights

PLAIN = TINY.with_fields(model_args={**TINY.model.args, "dropout": 0.0})
OWN = Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", crop_ratio=0.9, input_size=8)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run whose weights others start from."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    config = PLAIN.with_fields(epochs=1, mean=OWN.mean, std=OWN.std, seed=5)
    fit(config, folder, progress=False)
    return folder


def values(net):
    return {n: p.list_data()[0].asnumpy() for n, p in net._collect_params_with_prefix().items()}


def build(config, monkeypatch=None, class_names=None):
    if class_names:
        data = load_dataset(config.data.dataset)
        data = replace(data, info=replace(data.info, class_names=class_names))
        monkeypatch.setattr(run_module, "open_data", lambda config, **_: data)
    run = Run(adopt_preprocessing(config), Workers())
    initial = values(run.net)
    run.load_initial_weights()
    return run, initial, values(run.net)


def test_a_run_with_the_same_classes_gives_all_of_its_parameters(first, capsys):
    run, _, loaded = build(PLAIN.with_fields(pretrained=str(first)))
    expected = values(checkpoint.load(first).network())
    assert all(np.array_equal(loaded[name], value) for name, value in expected.items())
    assert run.pretrained["output"] == "loaded"
    assert run.pretrained["parameters"] == len(expected)
    assert (run.preprocessing.mean, run.preprocessing.std) == (OWN.mean, OWN.std)
    said = capsys.readouterr().out
    digest = sha256(checkpoint.load(first).folder / "model.params")
    assert f"run first, epoch 1 (SHA-256 {digest[:12]}), the output too, loaded for 5 clas" in said
    assert "mean 0.1, 0.2, 0.3, std 0.4, 0.5, 0.6" in said


@pytest.mark.parametrize("names", [tuple("abcde"), tuple("abc")])
def test_other_classes_get_a_new_output_also_if_they_are_as_many(first, monkeypatch, names):
    config = PLAIN.with_fields(pretrained=str(first))
    run, initial, loaded = build(config, monkeypatch, names)
    expected = values(checkpoint.load(first).network())
    for name, value in loaded.items():
        source = initial if name.startswith("output.") else expected
        np.testing.assert_array_equal(value, source[name], err_msg=name)
    assert run.pretrained["output"] == "new"
    assert run.pretrained["parameters"] == len(expected) - 2


def test_other_channels_are_converted(first):
    config = PLAIN.with_fields(pretrained=str(first), dataset="digits")
    run, _, loaded = build(config)
    before = values(checkpoint.load(first).network())["features.stem.conv.weight"]
    np.testing.assert_allclose(
        loaded["features.stem.conv.weight"], before.sum(axis=1, keepdims=True), rtol=1e-5
    )
    assert run.preprocessing.mean == (0.2,)


def test_a_tuned_run_says_its_origin_and_resumes_without_it(first, tmp_path):
    origin = shutil.copytree(first, tmp_path / "origin")
    config = PLAIN.with_fields(
        pretrained=str(origin), optimizer="adamw", lr=1e-3, head_epochs=1, layer_decay=0.5
    )
    fit(config, tmp_path / "straight", progress=False)
    fit(config.with_fields(max_steps=3), tmp_path / "tuned", progress=False)
    shutil.rmtree(origin)
    for steps in (7, 0):
        limited = config.with_fields(max_steps=steps)
        fit(limited, tmp_path / "tuned", resume=True, progress=False)
    tuned, straight = (
        checkpoint.load(tmp_path / name / "checkpoints" / "last") for name in ("tuned", "straight")
    )
    assert tuned.pretrained == straight.pretrained
    assert tuned.pretrained["name"] == "run origin, epoch 1"
    assert tuned.preprocessing == straight.preprocessing
    assert tuned.preprocessing.mean == OWN.mean
    theirs = values(straight.network())
    for name, value in values(tuned.network()).items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    report = (tmp_path / "tuned" / "report.html").read_text()
    assert "parameters of run origin, epoch 1 (SHA-256" in report
    assert str(tmp_path) not in report
    with pytest.raises(ValueError, match="holds a run with `pretrained`"):
        fit(PLAIN, tmp_path / "tuned", resume=True, progress=False)


def saved_file(path, preprocessing=None):
    net = build_model(PLAIN.model.name, classes=7, **PLAIN.model.args)
    net.initialize()
    net(mx.nd.zeros((1, 3, 8, 8)))
    if path.suffix == ".params":
        net.save_parameters(str(path))
    else:
        net.preprocessing = preprocessing
        save_weights(net, path)
    return net


def test_a_file_gives_its_preprocessing_unless_fields_are_given(tmp_path):
    path = tmp_path / "own.safetensors"
    saved_file(path, OWN)
    config = PLAIN.with_fields(pretrained=str(path))
    data = adopt_preprocessing(config.with_fields(resize=None)).data
    assert (data.mean, data.std, data.interpolation) == (OWN.mean, OWN.std, "bicubic")
    assert (data.crop_ratio, data.resize, data.invert) == (0.9, 8, False)
    data = adopt_preprocessing(config.with_fields(resize=16), {"crop_ratio", "resize"}).data
    assert (data.mean, data.crop_ratio, data.resize) == (OWN.mean, 0.875, 16)
    changed = adopt_preprocessing(config.with_fields(resize=16)).data
    assert (changed.resize, changed.crop_ratio) == (16, 0.9)
    plain = adopt_preprocessing(config.with_fields(normalize=False)).data
    assert (plain.mean, plain.std) == ((0.0,) * 3, (1.0,) * 3)


def test_a_file_of_unknown_preprocessing_leaves_that_of_the_data_and_says_so(tmp_path, capsys):
    path = tmp_path / "own.params"
    net = saved_file(path)
    config = adopt_preprocessing(PLAIN.with_fields(pretrained=str(path)))
    assert config.data.mean == DATASETS["synthetic"].mean
    assert adopt_preprocessing(config) is config
    _, _, loaded = build(config)
    assert "preprocessing: that of the weights is unknown" in capsys.readouterr().out
    stem = "features.stem.conv.weight"
    np.testing.assert_array_equal(loaded[stem], values(net)[stem])


def test_published_weights_by_tag_name_and_default(tmp_path, monkeypatch):
    saved_file(tmp_path / "file.params")
    monkeypatch.setattr(pretrained, "fetch_weights", lambda row: tmp_path / "file.params")
    for source, name in (
        ("default", "densenet121.tv_in1k"),
        ("ra_in1k", "densenet121.ra_in1k"),
        ("densenet121.ra_in1k", "densenet121.ra_in1k"),
    ):
        found = find_initial_weights(PLAIN.with_fields(pretrained=source).model)
        assert (found.name, len(found.class_names)) == (name, 1000)
    data = adopt_preprocessing(PLAIN.with_fields(model="dpn68", pretrained="default")).data
    assert (data.mean, data.interpolation, data.resize) == (DPN.mean, "bicubic", 8)
    config = adopt_model(PLAIN.with_fields(pretrained="dpn92.mx_in1k"))
    assert config.model.name == "dpn92"
    net = build_model(PLAIN.model.name, classes=5, **PLAIN.model.args)
    net.initialize()
    found = find_initial_weights(PLAIN.with_fields(pretrained="default").model)
    facts = load_initial_weights(net, found, load_dataset("synthetic").info, [mx.cpu()])
    assert facts["name"] == "densenet121.tv_in1k"
    assert facts["output"] == "new"


def test_a_run_gives_its_network(first):
    config = adopt_model(TINY.with_fields(model="dpn68", model_args={}, pretrained=str(first)))
    args = {k: v for k, v in PLAIN.model.args.items() if k != "dropout"}  # 0 is the row's
    assert (config.model.name, config.model.args) == (PLAIN.model.name, args)
    assert config.model.pretrained == str(first)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("no/such/run", OSError, "there is no file or run no/such/run"),
        ("missing.pth", OSError, "there is no file or run missing.pth"),
        ("default", ValueError, "csp_densenet121 has no published weights: set `pretrained`"),
        ("tv_in1", ValueError, "has no weights 'tv_in1'; did you mean 'tv_in1k'"),
        ("dpn92.mx_in1k", ValueError, "not of densenet121: set `model` to dpn92"),
    ],
)
def test_weights_that_do_not_exist_are_named(source, error, message):
    model = "csp_densenet121" if source == "default" else PLAIN.model.name
    with pytest.raises(error, match=message):
        find_initial_weights(PLAIN.with_fields(model=model, pretrained=source).model)


def test_none_is_no_weights():
    config = PLAIN.with_fields(pretrained="none")
    assert find_initial_weights(config.model) is None
    assert adopt_preprocessing(config) is config
