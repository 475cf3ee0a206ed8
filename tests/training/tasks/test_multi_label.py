# SPDX-License-Identifier: Apache-2.0
"""Several labels per image: the loss against PyTorch, targets, and a run from data to report."""

from __future__ import annotations

import dataclasses

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from support.multi_label_tiny import CONFIG, NAMES, TEST_IMAGES, make_data

from gluondense.analysis.label_metrics import choose_thresholds, label_metrics
from gluondense.explain import cam
from gluondense.explain.class_activation import normalized
from gluondense.training import checkpoint, fit
from gluondense.training.configuration.sections import TaskConfig
from gluondense.training.run_folder import RunFolder
from gluondense.training.tasks.multi_label import (
    MaskedBinaryCrossEntropy,
    MultiLabel,
    positive_weights,
)


def loss_and_gradient(output, target, weights):
    loss = MaskedBinaryCrossEntropy(np.asarray(weights, np.float32))
    loss.initialize()
    x = mx.nd.array(output)
    x.attach_grad()
    with autograd.record():
        values = loss(x, mx.nd.array(target))
    values.backward()
    return values.asnumpy(), x.grad.asnumpy()


def test_loss_and_gradient_equal_pytorch_with_weights_mask_and_huge_logits():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    output = rng.normal(0, 3, (6, 4)).astype(np.float32)
    output[:4, 0] = 0, 200, -200, 1e4
    output[4:, 0] = -1e4, 0
    target = rng.integers(0, 2, (6, 4)).astype(np.float32)
    target[0, 1] = target[3, 2] = target[5] = np.nan
    target[1, 3] = 0.3  # smoothed or mixed
    weights = np.array([0.5, 1, 7, 2.5], np.float32)
    found, gradient = loss_and_gradient(output, target, weights)

    x = torch.tensor(output, requires_grad=True)
    known = ~torch.tensor(target).isnan()
    criterion = torch.nn.BCEWithLogitsLoss(reduction="none", pos_weight=torch.tensor(weights))
    losses = criterion(x, torch.tensor(np.nan_to_num(target))) * known
    expected = losses.sum(dim=1) / 4
    expected.sum().backward()
    assert found == pytest.approx(expected.detach().numpy(), rel=1e-6, abs=1e-7)
    assert gradient == pytest.approx(x.grad.numpy(), rel=1e-5, abs=1e-7)
    assert found[5] == 0
    assert (gradient[5] == 0).all()


def test_the_gradient_at_a_logit_of_zero_is_exact():
    gradient = loss_and_gradient(np.zeros((1, 2)), np.array([[1.0, 0.0]]), [3.0, 3.0])[1]
    assert gradient.tolist() == [[-0.75, 0.25]]  # half of -3 / 2 and of 1 / 2


def test_positive_weights_balance_labels_within_the_limit():
    info = make_data().info
    weights = positive_weights(info, 100)
    positives, known = np.array(info.counts), np.array(info.known)
    assert weights * positives == pytest.approx(known - positives)
    assert positive_weights(info, 2).max() == 2
    assert positive_weights(info, 1).tolist() == [1, 1, 1]
    one_value = dataclasses.replace(info, counts=(*info.counts[:2], 0))
    with pytest.raises(ValueError, match="label dark is present in 0 of"):
        positive_weights(one_value, 10)


def make_task(**fields) -> MultiLabel:
    return MultiLabel(TaskConfig(name="multi_label", **fields), make_data().info, [mx.cpu()])


def test_targets_keep_unknown_labels_unknown_when_smoothed_and_mixed():
    labels = np.array([[1, 0, np.nan], [0, np.nan, 1]], np.float32)
    images = np.stack([np.zeros((1, 2, 2)), np.ones((1, 2, 2))]).astype(np.float32)
    rng = np.random.default_rng(1)
    mix, targets = make_task(label_smoothing=0.1).targets(images, labels, rng, 1)
    assert mix is None
    expected = np.array([[0.95, 0.05, np.nan], [0.05, np.nan, 0.95]])
    assert np.allclose(targets, expected, equal_nan=True)
    assert targets.dtype == np.float32
    mixing = make_task(mixup=0.4)
    for seed in range(8):
        mix, targets = mixing.targets(images, labels, np.random.default_rng(seed), 1)
        mixed = mix.images(images, images[mix.partners])
        if mixed[0, 0, 0, 0] > 0:  # not its own partner
            assert np.isnan(targets).tolist() == [[False, True, True]] * 2
            assert targets[0, 0] == pytest.approx(1 - mixed[0, 0, 0, 0])
            break
    else:
        pytest.fail("no image was mixed with the other one")


def test_a_teacher_and_single_classes_are_refused():
    with pytest.raises(ValueError, match=r"`teacher` \(.*\) is for one class per image"):
        make_task(teacher="densenet201.tv_in1k")
    info = dataclasses.replace(make_data().info, counts=(), known=())
    with pytest.raises(ValueError, match="folder has one class per image"):
        MultiLabel(TaskConfig(name="multi_label"), info, [mx.cpu()])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "labels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gluondense.training.run.open_data", lambda config, split: make_data())
        fit(CONFIG, folder, progress=False)
    return RunFolder(folder)


def test_a_run_learns_logs_and_keeps_the_best_epoch_by_mean_auroc(run):
    rows = run.rows()
    metrics = ["train_loss", "test_auroc", "test_ap", "test_loss"]
    assert list(rows[0])[3:7] == metrics
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    best = max(rows, key=lambda row: row["test_auroc"])
    saved = checkpoint.load(run.path)
    assert saved.epoch == best["epoch"]
    assert saved.task == "multi_label"
    assert best["test_auroc"] > 0.9


def test_the_checkpoint_keeps_the_thresholds_of_its_predictions(run):
    arrays, data = run.predictions(), make_data()
    assert np.array_equal(arrays["labels"], data.test_labels, equal_nan=True)
    saved = checkpoint.load(run.path)
    expected = choose_thresholds(data.test_labels, arrays["probabilities"])
    assert saved.thresholds == pytest.approx(expected)
    metrics = label_metrics(data.test_labels, arrays["probabilities"])
    assert saved.metrics["test_auroc"] == pytest.approx(metrics.mean_auroc)
    x = (data.test_images / 255 - 0.4) / 0.2
    logits = saved.network()(mx.nd.array(x.transpose(0, 3, 1, 2)))
    assert logits.sigmoid().asnumpy() == pytest.approx(arrays["probabilities"], abs=1e-5)


def test_the_report_shows_each_label_with_intervals_curves_and_images(run):
    body = run.report.read_text(encoding="utf-8")
    body = body[body.index("<body>") :]
    for name in NAMES:
        assert f"<tr><td>{name}</td>" in body
    assert "bootstrap replicates that draw whole groups" in body
    assert body.count("<img ") == 48 + 2 * 16  # the explained ones are drawn twice
    assert body.count("plotly-graph-div") == 4
    assert f"The {TEST_IMAGES} test images after epoch" in body
    assert 'class="right"' in body


def test_the_report_explains_a_label_that_the_image_has(run):
    arrays, saved = run.predictions(), checkpoint.load(run.path)
    index, pixels = arrays["worst"][0], arrays["worst_images"][:1]
    labels, probabilities = arrays["labels"][index], arrays["probabilities"][index]
    present = labels == 1
    label = np.argmax(np.where(present, probabilities, 0) if present.any() else probabilities)
    found = cam(saved.network(), saved.preprocessing.normalize(pixels), int(label))
    expected = np.rint(normalized(found.maps[0]) * 255)
    assert arrays["explained_maps"][8] == pytest.approx(expected, abs=1)
    assert expected.max() == 255


def test_images_that_have_no_label_with_both_values_end_the_run_with_a_reason(
    monkeypatch, tmp_path
):
    data = make_data()
    constant = dataclasses.replace(data, test_labels=np.ones_like(data.test_labels))
    monkeypatch.setattr("gluondense.training.run.open_data", lambda config, split: constant)
    with pytest.raises(ValueError, match="no AUROC: choose other validation images"):
        fit(CONFIG, tmp_path, progress=False)
