from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.training_steps import batch, network
from support.training_tiny import TINY

from gluondense.data.loaders.to_input import ToInput
from gluondense.training import TrainConfig, checkpoint, fit
from gluondense.training.fine_tuning.cached_features import FeatureLoader, Output, compute_features

PROBE = TINY.with_fields(
    model_args={**TINY.model.args, "dropout": 0.0}, augment=(), lr=0.5, epochs=3
).with_fields(drop_last=False, batch_size=30)


def last(folder):
    net = checkpoint.load(folder / "checkpoints" / "last").network()
    return {n: p.data().asnumpy() for n, p in net._collect_params_with_prefix().items()}


def test_cached_features_train_the_output_as_frozen_layers_do(tmp_path, capsys):
    cached = fit(PROBE.with_fields(cache_features=True), tmp_path / "cached", progress=False)
    assert "features of 250 images computed in" in capsys.readouterr().out
    frozen = fit(PROBE.with_fields(freeze=("features",)), tmp_path / "frozen", progress=False)
    assert cached.last["test_loss"] == pytest.approx(frozen.last["test_loss"], rel=1e-4)
    theirs = last(tmp_path / "frozen")
    for name, value in last(tmp_path / "cached").items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_cached_run_resumes_exactly_and_its_checkpoint_is_the_whole_network(tmp_path):
    config = PROBE.with_fields(cache_features=True)
    fit(config, tmp_path / "straight", progress=False)
    for steps in (3, 0):
        limited = config.with_fields(max_steps=steps)
        fit(limited, tmp_path / "resumed", resume=steps == 0, progress=False)
    mine, theirs = last(tmp_path / "resumed"), last(tmp_path / "straight")
    for name, value in mine.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    net = checkpoint.load(tmp_path / "straight").network()
    assert net(mx.nd.zeros((2, 3, 8, 8))).shape == (2, 5)


@pytest.mark.parametrize("name", ["dense", "dpn", "csp"])
def test_output_of_the_features_is_that_of_the_network(name):
    net = network(name, False)
    x, _ = batch(net, size=256 if name == "dpn" else 32)
    output = Output(net)
    output.hybridize()
    expected = net(x).asnumpy()
    np.testing.assert_allclose(output(net.features(x)).asnumpy(), expected, rtol=1e-4, atol=1e-5)
    assert set(output.collect_params().values()) == set(net.output.collect_params().values())


def test_each_epoch_has_another_order_of_the_same_rows():
    rows = np.arange(10, dtype=np.float32)[:, None]
    loader = FeatureLoader(rows, np.arange(10), 4, shuffle=True, seed=3)
    first, second = ([f for f, _ in loader.batches(epoch)] for epoch in (0, 1))
    assert [len(part) for part in first] == [4, 4, 2]
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))
    assert sorted(np.concatenate(second).ravel()) == list(range(10))
    (rest,) = (f for f, _ in loader.batches(1, start=2))
    np.testing.assert_array_equal(rest, second[2])
    assert all(np.array_equal(f[:, 0], labels) for f, labels in loader.batches(2))


def test_unreadable_training_images_are_replaced_by_the_next_and_others_are_kept():
    net = network("dense", False)
    x, _ = batch(net, images=4)
    labels = np.array([-1, 2, -1, -1], np.int32)
    loader = [(x.asnumpy(), labels)]
    features, found = compute_features(net, loader, ToInput(), mx.cpu(), repair=False)
    np.testing.assert_array_equal(found, labels)
    repaired, found = compute_features(net, loader, ToInput(), mx.cpu(), repair=True)
    np.testing.assert_array_equal(found, [2, 2, 2, 2])
    np.testing.assert_array_equal(repaired, features[[1, 1, 1, 1]])
    with pytest.raises(ValueError, match="none of the training images can be read"):
        compute_features(net, [(x.asnumpy(), labels * 0 - 1)], ToInput(), mx.cpu(), repair=True)


@pytest.mark.parametrize(
    "fields", [{"augment": ("flip",)}, {"mixup": 0.2}, {"head_epochs": 1}, {"kvstore": "dist_sync"}]
)
def test_what_changes_with_each_epoch_does_not_go_with_cached_features(fields):
    with pytest.raises(ValueError, match=f"`{next(iter(fields))}` .* doesn't go with it"):
        TrainConfig.of("densenet121", cache_features=True, **fields)
