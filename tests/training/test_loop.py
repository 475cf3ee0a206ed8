from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from support.training_tiny import TINY

from gluondense import native
from gluondense.data import load_dataset
from gluondense.training import TrainConfig, checkpoint, fit, loop
from gluondense.training import run as run_module
from gluondense.training.data import balance_classes, describe_weights, make_test_loader
from gluondense.training.distributed.workers import Workers
from gluondense.training.observers.files import RunFiles, restore
from gluondense.training.observers.moving_average import MovingAverage
from gluondense.training.precision import DynamicLossScale
from gluondense.training.run import Run
from gluondense.training.run_folder import RunFolder
from gluondense.training.tasks.classification import Classification

COLUMNS = (
    *("epoch", "step", "lr", "train_loss", "train_acc", "test_acc", "test_loss"),
    *("images_per_s", "epoch_s", "wall_s", "cpu_s", "test_top5"),
)
CLASSIFIED = ("test_acc", "test_loss", "test_top5")


def parameters(folder):
    return mx.nd.load(str(folder / "checkpoints" / "last" / "model.params"))


def assert_equal_runs(one, other):
    mine, theirs = parameters(one), parameters(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        np.testing.assert_array_equal(value.asnumpy(), theirs[name].asnumpy(), err_msg=name)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "straight"
    return folder, fit(TINY, folder, progress=False)


@pytest.fixture
def interrupt_at(monkeypatch):
    """Make a run get a signal right after the step of the given number."""

    def patch(step, signum=signal.SIGTERM):
        before = loop._train_batch

        def train_batch(run, *batch):
            before(run, *batch)
            if run.state.step == step:
                os.kill(os.getpid(), signum)

        monkeypatch.setattr(loop, "_train_batch", train_batch)

    return patch


def test_run_folder_is_complete(straight):
    folder, result = straight
    assert (result.epoch, result.step, result.stopped_by) == (2, 10, None)
    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert tuple(rows[0]) == COLUMNS
    assert float(rows[1]["test_acc"]) == pytest.approx(result.test_accuracy)
    assert float(rows[1]["wall_s"]) > float(rows[0]["wall_s"]) > 0
    for name in ("last", "best"):
        kept = {path.name for path in (folder / "checkpoints" / name).iterdir()}
        assert kept == {"model.json", "model.params", "trainer.states"}
    assert TrainConfig.from_dict(json.loads((folder / "config.json").read_text())) == TINY


def test_logged_accuracy_is_that_of_the_saved_network(straight):
    folder, result = straight
    saved = checkpoint.load(folder / "checkpoints" / "last")
    net, hits = saved.network(), 0
    sources = TINY.data, load_dataset("synthetic"), saved.preprocessing, Workers()
    for images, labels in make_test_loader(*sources):
        inputs = mx.nd.array(saved.preprocessing.normalize(images))
        hits += (net(inputs).asnumpy().argmax(axis=1) == labels).sum()
    assert hits / 50 == pytest.approx(result.test_accuracy)


def test_same_seed_gives_the_same_run_and_another_seed_another(straight, tmp_path):
    fit(TINY, tmp_path / "again", progress=False)
    assert_equal_runs(straight[0], tmp_path / "again")
    fit(TINY.with_fields(seed=1), tmp_path / "other", progress=False)
    with pytest.raises(AssertionError):
        assert_equal_runs(straight[0], tmp_path / "other")


def test_each_step_draws_other_random_numbers(tmp_path, monkeypatch):
    draws, seeds, targets = [], [], Classification.targets

    def draw(self, images, labels, rng, epochs_left):
        draws.append(rng.random())
        return targets(self, images, labels, rng, epochs_left)

    monkeypatch.setattr(Classification, "targets", draw)
    monkeypatch.setattr(loop, "seed_all", lambda *key: seeds.append(key))
    fit(TINY, tmp_path, progress=False)
    assert len(set(draws)) == len(set(seeds)) == 10


def test_recomputation_changes_no_bit_of_a_run(straight, tmp_path):
    fit(TINY.with_fields(memory_efficient=True), tmp_path, progress=False)
    assert_equal_runs(straight[0], tmp_path)


STOCHASTIC = {"block_config": (2, 2), "dropout": 0.0, "drop_path": 0.4}


@pytest.mark.parametrize(
    "fields",
    [
        {"accumulate": 3, "memory_efficient": True},
        {"dtype": "bfloat16", "model_args": {**TINY.model.args, "dropout": 0.0}},
        {"model_args": {**TINY.model.args, **STOCHASTIC}},
        {"model_args": {**TINY.model.args, "dropout_after": "3x3"}, "memory_efficient": True},
    ],
    ids=str,
)
def test_special_runs_resume_exactly(tmp_path, fields):
    config = TINY.with_fields(**fields)
    fit(config, tmp_path / "straight", progress=False)
    fit(config.with_fields(epochs=1), tmp_path / "resumed", progress=False)
    fit(config, tmp_path / "resumed", resume=True, progress=False)
    assert_equal_runs(tmp_path / "straight", tmp_path / "resumed")


def test_training_images_grow_and_the_run_resumes_exactly(tmp_path, monkeypatch, interrupt_at):
    config, shapes, train_batch = TINY.with_fields(train_sizes=(6, 10)), [], loop._train_batch

    def noted(run, batch):
        shapes.append((run.state.epoch, *batch.images[0].shape[2:]))
        train_batch(run, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train_batch", noted)
        fit(config, tmp_path / "straight", progress=False)
    assert set(shapes) == {(0, 6, 6), (1, 10, 10)}
    assert checkpoint.load(tmp_path / "straight").input_shape == (1, 3, 8, 8)  # as is evaluated
    interrupt_at(7)
    assert fit(config, tmp_path / "resumed", progress=False).step == 7
    fit(config, tmp_path / "resumed", resume=True, progress=False)
    assert_equal_runs(tmp_path / "straight", tmp_path / "resumed")


def test_loss_scale_continues_where_it_was(tmp_path):
    def build(scale):
        run = Run(TINY, Workers())
        run.loss_scale = scale
        return run

    RunFiles(RunFolder(tmp_path)).on_save(build(DynamicLossScale(32.0, 7)))
    resumed = build(DynamicLossScale())
    restore(resumed, RunFolder(tmp_path))
    assert resumed.loss_scale.state() == {"loss_scale": 32.0, "good_steps": 7}


def test_one_epoch_and_one_resumed_equal_two_straight(straight, tmp_path):
    fit(TINY.with_fields(epochs=1), tmp_path, progress=False)
    result = fit(TINY, tmp_path, resume=True, progress=False)
    assert result.epoch == 2
    assert_equal_runs(straight[0], tmp_path)


def test_run_stopped_within_an_epoch_goes_on_at_the_next_batch(tmp_path, interrupt_at, monkeypatch):
    config = TINY.with_fields(model_args={**TINY.model.args, "dropout": 0.0}, mixup=0.2)
    fit(config, tmp_path / "straight", progress=False)
    with monkeypatch.context():
        interrupt_at(7)
        result = fit(config, tmp_path / "stopped", progress=False)
        assert (result.stopped_by, result.epoch, result.step) == (signal.SIGTERM, 1, 7)
    monkeypatch.undo()
    result = fit(config, tmp_path / "stopped", resume=True, progress=False)
    assert (result.stopped_by, result.epoch, result.step) == (None, 2, 10)
    assert_equal_runs(tmp_path / "straight", tmp_path / "stopped")
    mine, theirs = RunFolder(tmp_path / "straight").rows(), RunFolder(tmp_path / "stopped").rows()
    for name in ("epoch", "step", "lr", "train_loss", "train_acc", "test_acc", "test_loss"):
        assert [row[name] for row in mine] == [row[name] for row in theirs], name


def test_run_stopped_while_evaluating_evaluates_on_resume(straight, tmp_path, interrupt_at):
    interrupt_at(5)
    stopped = fit(TINY, tmp_path, progress=False)
    assert (stopped.epoch, stopped.step, stopped.test_accuracy) == (0, 5, None)
    result = fit(TINY, tmp_path, resume=True, progress=False)
    assert result.epoch == 2
    assert_equal_runs(straight[0], tmp_path)


def test_run_of_some_steps_that_is_stopped_while_evaluating_is_not_at_its_end(
    tmp_path, interrupt_at
):
    interrupt_at(3)
    config = TINY.with_fields(max_steps=3)
    stopped = fit(config, tmp_path, progress=False)
    assert (stopped.step, stopped.last) == (3, {})
    assert (stopped.ended_by, stopped.stopped_by) == (None, signal.SIGTERM)
    result = fit(config, tmp_path, resume=True, progress=False)
    assert (result.step, result.ended_by) == (3, "max_steps")
    assert result.test_accuracy is not None


def test_signal_while_evaluating_saves_the_trained_epoch(straight, tmp_path, monkeypatch):
    before = Classification.evaluate

    def evaluate(self, net, batches, *args):
        os.kill(os.getpid(), signal.SIGTERM)
        return before(net, batches, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Classification, "evaluate", evaluate)
        result = fit(TINY, tmp_path, progress=False)
    assert (result.stopped_by, result.epoch, result.step) == (signal.SIGTERM, 0, 5)
    assert (result.last, result.best_epoch) == ({}, None)
    assert checkpoint.load(tmp_path).progress["batch"] == 5
    fit(TINY, tmp_path, resume=True, progress=False)
    assert_equal_runs(straight[0], tmp_path)


def test_longer_run_resumes_with_the_new_schedule(tmp_path):
    config = TINY.with_fields(schedule="cosine", epochs=1)
    fit(config, tmp_path, progress=False)
    fit(config.with_fields(epochs=2, lr=0.2), tmp_path, resume=True, progress=False)
    rows = RunFolder(tmp_path).rows()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert RunFolder(tmp_path).config().optimizer.lr == 0.2


def test_changes_of_a_resumed_run_are_said(tmp_path, capsys):
    fit(TINY.with_fields(epochs=1), tmp_path, progress=False)
    capsys.readouterr()
    config = TINY.with_fields(batch_size=20, resize=6, epochs=2, lr=0.2, seed=3)
    fit(config, tmp_path, resume=True, progress=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if "resuming" in line]
    assert lines == [
        "resuming at step 10, batch_size 20 (was 40), lr 0.2 (was 0.05), epochs 2 (was 1), "
        "seed 3 (was 0), input_size (6, 6) (was (8, 8))"
    ]
    fit(config, tmp_path, resume=True, progress=False)
    assert capsys.readouterr().out == "resuming at step 20\n"


def test_an_average_that_starts_on_resume_starts_at_the_checkpoint(tmp_path):
    fit(TINY.with_fields(epochs=1), tmp_path, progress=False)
    run = Run(TINY.with_fields(ema=0.999), Workers())
    average = MovingAverage(run.net, 0.999)
    restore(run, RunFolder(tmp_path), average)
    for name, value in parameters(tmp_path).items():
        np.testing.assert_array_equal(average.arrays[name].asnumpy(), value.asnumpy())


@pytest.mark.parametrize("change", [{"batch_size": 20}, {"resize": 6}])
def test_change_within_an_epoch_is_refused(tmp_path, interrupt_at, change):
    interrupt_at(2)
    fit(TINY, tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"`\w+_size` can't change from .* within an epoch"):
        fit(TINY.with_fields(**change), tmp_path, resume=True, progress=False)


@pytest.mark.parametrize("order", [False, True])
def test_resume_with_other_classes_is_refused(tmp_path, monkeypatch, order):
    fit(TINY.with_fields(epochs=1), tmp_path, progress=False)
    data = load_dataset("synthetic")
    first, *names = data.info.class_names
    names = (*names, first) if order else ("cat", *names)
    other = replace(data, info=replace(data.info, class_names=names))
    monkeypatch.setattr("gluondense.training.run.open_data", lambda config, split: other)
    before = (tmp_path / "checkpoints/last/model.json").read_bytes()
    message = "the order differs: class 0 is" if order else f"the data lacks '{first}'; the model"
    with pytest.raises(ValueError, match=message):
        fit(TINY, tmp_path, resume=True, progress=False)
    assert (tmp_path / "checkpoints/last/model.json").read_bytes() == before


def test_another_number_of_images_is_said_and_within_an_epoch_refused(
    tmp_path, monkeypatch, capsys
):
    fit(TINY.with_fields(epochs=1), tmp_path, progress=False)
    data = load_dataset("synthetic")
    count = data.train_count
    images, labels = data.train_images[40:], data.train_labels[40:]
    fewer = replace(data, train_images=images, train_labels=labels)
    with monkeypatch.context() as patch:
        patch.setattr("gluondense.training.run.open_data", lambda config, split: fewer)
        fit(TINY.with_fields(max_steps=5), tmp_path, resume=True, progress=False)
    assert f", train images {count - 40} (was {count})\n" in capsys.readouterr().out
    with pytest.raises(ValueError, match=f"has {count} training images and had {count - 40} when"):
        fit(TINY, tmp_path, resume=True, progress=False)


@pytest.mark.parametrize("excluded", [False, True])
def test_weight_decay_excludes_batch_normalization_and_biases_if_asked(excluded):
    run = Run(TINY.with_fields(no_decay_bn=excluded), Workers())
    for name, parameter in run.net.collect_params().items():
        decays = not (excluded and name.endswith(("gamma", "beta", "bias")))
        assert parameter.wd_mult == float(decays), name


def test_two_devices_train_like_one(tmp_path, monkeypatch):
    config = TINY.with_fields(model_args={**TINY.model.args, "dropout": 0.0}, epochs=1)
    monkeypatch.setattr(run_module, "find_devices", lambda gpus: [mx.cpu(0), mx.cpu(1)])
    fit(config, tmp_path / "one", progress=False)
    result = fit(config.with_fields(epochs=2), tmp_path / "one", resume=True, progress=False)
    fit(config.with_fields(epochs=2), tmp_path / "two", progress=False)
    assert result.epoch == 2
    for name, value in parameters(tmp_path / "one").items():
        other = parameters(tmp_path / "two")[name].asnumpy()
        np.testing.assert_allclose(value.asnumpy(), other, rtol=1e-4, atol=1e-5, err_msg=name)


def test_nan_loss_stops_with_the_step_and_keeps_the_checkpoint(tmp_path):
    fit(TINY.with_fields(epochs=1), tmp_path, progress=False)
    kept = (tmp_path / "checkpoints" / "last" / "model.params").read_bytes()
    with pytest.raises(FloatingPointError, match=r"The loss became (nan|inf) at step \d+: lower"):
        fit(TINY.with_fields(lr=1e30, epochs=9), tmp_path, resume=True, progress=False)
    assert (tmp_path / "checkpoints" / "last" / "model.params").read_bytes() == kept
    assert checkpoint.load(tmp_path / "checkpoints" / "last").epoch == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_args": {**TINY.model.args, "dropout": 0.1}}, "holds a run with `model_args`"),
        ({"model": "densenet169"}, "holds a run with `model` 'densenet121', not 'densenet169'"),
        ({"dataset": "digits"}, "holds a run with `dataset`"),
    ],
)
def test_resume_of_another_run_is_refused(straight, change, message):
    with pytest.raises(ValueError, match=message):
        fit(TINY.with_fields(**change), straight[0], resume=True)


def test_checkpoint_of_another_model_is_refused(tmp_path, straight):
    other = TINY.with_fields(model_args={**TINY.model.args, "block_config": (1, 2)})
    RunFolder(tmp_path).start(other)
    shutil.copytree(straight[0] / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(ValueError, match=r"another model: its block_config is \(1, 1\), not"):
        fit(other, tmp_path, resume=True)


def test_folder_with_a_run_is_never_overwritten(straight):
    with pytest.raises(FileExistsError, match="already holds a run"):
        fit(TINY, straight[0])


def test_resume_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        fit(TINY, tmp_path / "nothing", resume=True)


def test_output_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Cannot write to the folder .* give another `out_dir`"):
        fit(TINY, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpus": (99,)}, "GPU 99 can't be used: .* Omit `gpus` to use the CPU"),
        ({"resize": 1}, "Images of 1x1 are too small for densenet121, which needs 2x2"),
        ({"train_sizes": (8, 1)}, r"train_sizes \(=1\) must be at least 2, the smallest image of"),
        ({"model": "densnet121"}, "did you mean 'densenet121'"),
        ({"model_args": {"growth": 3}}, "no field 'growth'"),
        ({"batch_size": 201}, "batch_size"),
        ({"dtype": "float16"}, "`dtype` float16 needs GPUs"),
        ({"accumulate": 41}, "must have an image for each of the 41 parts of `accumulate`"),
        (
            {"memory_efficient": "very"},
            r"memory_efficient \(='very'\) must be True, False or one of none",
        ),
    ],
)
def test_bad_configuration_leaves_no_folder(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        fit(TINY.with_fields(**change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_log_and_checkpoint_survive_a_kill_between_them(tmp_path):
    fit(TINY.with_fields(epochs=1), tmp_path, progress=False)
    folder = RunFolder(tmp_path)
    folder.append({**folder.rows()[0], "epoch": 2})  # logged, but killed before the checkpoint
    fit(TINY, tmp_path, resume=True, progress=False)
    assert [row["epoch"] for row in folder.rows()] == [1, 2]


def test_without_a_compiler_mxnet_trains_alone_and_it_is_said(tmp_path, monkeypatch, capsys):
    def fail(operator):
        raise native.CompilerError("there is no C++ compiler")

    monkeypatch.setattr("gluondense.native.backend.load", fail)
    fit(TINY.with_fields(epochs=1), tmp_path / "run", progress=False)
    assert "MXNet's own operators, which are slower: there is no C" in capsys.readouterr().out
    monkeypatch.undo()
    fit(TINY.with_fields(epochs=1, native=False), tmp_path / "same", progress=False)
    assert_equal_runs(tmp_path / "run", tmp_path / "same")


@pytest.mark.parametrize("steps", [3, 5, 8])
def test_run_of_some_steps_is_evaluated_reported_and_continued_exactly(straight, tmp_path, steps):
    result = fit(TINY.with_fields(max_steps=steps), tmp_path, progress=False)
    assert (result.step, result.epoch, result.ended_by) == (steps, steps // 5, "max_steps")
    assert result.last["epoch"] == result.last["step"] / 5 == steps / 5
    assert 0 <= result.test_accuracy <= result.best_accuracy <= 1
    assert f"{steps / 5:g} of 2 epochs" in (tmp_path / "report.html").read_text()
    saved = checkpoint.load(tmp_path / "checkpoints" / "last")
    assert (saved.step, saved.metrics["epoch"]) == (steps, steps / 5)
    again = fit(TINY.with_fields(max_steps=steps), tmp_path, resume=True, progress=False)
    assert again.step == steps
    assert again.last["test_acc"] == result.last["test_acc"]
    fit(TINY, tmp_path, resume=True, progress=False)
    assert_equal_runs(straight[0], tmp_path)
    assert [row["epoch"] for row in RunFolder(tmp_path).rows()] == [1, 2]


def test_run_ends_after_epochs_without_a_better_result(tmp_path, monkeypatch):
    accuracies = iter([0.1, 0.3, 0.2, 0.3, 0.9])
    monkeypatch.setattr(
        Classification,
        "metrics",
        lambda self, _: {"test_acc": next(accuracies), "test_loss": 1.0, "test_top5": 1.0},
    )
    config = TINY.with_fields(epochs=9, patience=2)
    result = fit(config, tmp_path, progress=False)
    assert (result.epoch, result.best_epoch, result.ended_by) == (4, 2, "patience")
    assert fit(config, tmp_path, resume=True, progress=False).epoch == 4
    longer = fit(config.with_fields(patience=3, max_steps=25), tmp_path, resume=True)
    assert (longer.epoch, longer.best_epoch, longer.ended_by) == (5, 5, "max_steps")


def test_patience_begins_after_the_epochs_of_the_head(tmp_path, monkeypatch):
    monkeypatch.setattr(Classification, "metrics", lambda self, _: dict.fromkeys(CLASSIFIED, 0.5))
    config = TINY.with_fields(epochs=9, patience=1, head_epochs=2)
    assert fit(config, tmp_path, progress=False).epoch == 3


def test_validation_images_that_are_all_unreadable_are_said(tmp_path, monkeypatch):
    def unreadable(self, epoch, start):
        for images, labels in batches(self, epoch, start):
            yield images, np.full_like(labels, -1)

    run = Run(TINY, Workers())
    batches = type(run.test_loader)._batches
    monkeypatch.setattr(run.test_loader, "_batches", unreadable.__get__(run.test_loader))
    with pytest.raises(ValueError, match="none of the 50 validation images can be read"):
        loop.train(run, [])


def test_a_run_is_overwritten_on_request_and_other_files_stay(tmp_path, straight):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FloatingPointError):
        fit(TINY.with_fields(lr=1e30), tmp_path, progress=False)
    with pytest.raises(FileExistsError, match="replace it with `overwrite`"):
        fit(TINY, tmp_path, progress=False)
    fit(TINY, tmp_path, progress=False, overwrite=True)
    assert_equal_runs(straight[0], tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weighted_and_smoothed_loss_is_torchs(smoothing):
    torch = pytest.importorskip("torch")
    rng, weights = np.random.default_rng(0), (0.5, 2.0, 1.0, 0.0, 1.5)
    config = TINY.with_fields(label_smoothing=smoothing, class_weights=weights)
    task = Classification(config.task, load_dataset("synthetic").info, [mx.cpu()])
    labels = rng.integers(0, 5, 12)
    logits = rng.normal(size=(12, 5)).astype(np.float32)
    _, targets = task.targets(np.zeros((12, 3, 8, 8), np.float32), labels, rng, 9)
    output = mx.nd.array(logits)
    output.attach_grad()
    with mx.autograd.record():
        loss = task.loss(output, *task.loss_targets([output], [mx.nd.array(targets)]))
    loss.backward()
    theirs = torch.tensor(logits, requires_grad=True)
    criterion = torch.nn.CrossEntropyLoss(
        weight=torch.tensor(weights), label_smoothing=smoothing, reduction="none"
    )
    expected = criterion(theirs, torch.tensor(labels))
    expected.sum().backward()
    np.testing.assert_allclose(loss.asnumpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output.grad.asnumpy(), theirs.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_balanced_classes_weigh_as_scikit_learns():
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    data = load_dataset("synthetic")
    labels = np.repeat(np.arange(5), [80, 60, 30, 20, 10]).astype(np.int32)
    data = replace(data, train_labels=labels)
    task = balance_classes(TINY.with_fields(class_weights="balanced").task, data)
    expected = compute("balanced", classes=np.arange(5), y=labels)
    np.testing.assert_allclose(task.class_weights, expected)
    said = describe_weights(task, data.info)
    assert said == "class weights: 0.5 (pattern 0) to 4 (pattern 4)"
    few = replace(data, train_labels=labels // 2)
    with pytest.raises(ValueError, match="the class pattern 3 has no training image"):
        balance_classes(TINY.with_fields(class_weights="balanced").task, few)
    with pytest.raises(ValueError, match="`class_weights` has 2 numbers for 5 classes"):
        Run(TINY.with_fields(class_weights=(1, 2)), Workers())
