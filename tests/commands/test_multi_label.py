# SPDX-License-Identifier: Apache-2.0
"""Several labels per image from the command line: train, evaluate, predict, export, archive."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import math
import shutil

import mxnet as mx
import numpy as np
import pytest
from benchmarking.servers import model_server
from PIL import Image
from support.multi_label_tiny import CONFIG, NAMES, draw

import gluondense
from gluondense.deploy import archive, predict
from gluondense.deploy.serving.service import Service
from gluondense.deploy.serving.unpack import unpack
from gluondense.training import checkpoint
from gluondense.training.run_folder import RunFolder

IMAGES, TEST_IMAGES = 120, 60
PARTS = "train", "val"


def call(name: str, *arguments, code: int = 0) -> None:
    main = importlib.import_module(f"gluondense.commands.{name}").main
    assert main([str(argument) for argument in arguments]) == code


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A CSV file of images with a column per label, blank where unknown, and patients."""
    folder = tmp_path_factory.mktemp("images")
    rows = []
    for split, count, seed in (("train", IMAGES, 0), ("val", TEST_IMAGES, 1)):
        for index, (image, labels) in enumerate(zip(*draw(count, seed))):
            name = f"{split}{index}.png"
            Image.fromarray(image[..., 0]).save(folder / name)
            values = ["" if math.isnan(value) else int(value) for value in labels]
            rows.append([name, split, f"{split} {index // 2}", *values])
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "split", "patient", *NAMES], *rows])
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    """A finished run of the command."""
    out = tmp_path_factory.mktemp("runs") / "labels"
    fields = {**CONFIG.model.args, "block_config": "[1, 1]"}
    settings = [f"--set={name}={value}" for name, value in fields.items()]
    call(
        "train.folder",
        *(table, "--multi-label", "--label-columns", ",".join(NAMES), "--group", "patient"),
        *("--model", CONFIG.model.name, *settings, "--input-size", 8, "--crop-ratio", 1),
        *("--augment", "none", "--epochs", 3, "--batch-size", 20, "--lr", 0.05),
        *("--num-data-workers", 0, "--label-smoothing", 0, "--no-progress", "--out", out),
    )
    return out


@pytest.fixture(scope="module")
def export(run, tmp_path_factory):
    """Export the run to a target; return the prefix."""
    folder = tmp_path_factory.mktemp("exports")

    def write(target: str, *flags) -> str:
        prefix = folder / f"{target}{len(list(folder.iterdir()))}"
        call("export", run, "--target", target, "--out", prefix, *flags)
        return str(prefix)

    return write


def evaluated(tmp_path, model, *flags) -> dict:
    call("evaluate", model, "--json", tmp_path / "found.json", "-j", 0, *flags)
    return json.loads((tmp_path / "found.json").read_text())


def test_evaluate_gives_the_metrics_of_the_best_epoch_with_intervals(run, tmp_path, capsys):
    found = evaluated(tmp_path, run, "--report", tmp_path / "page.html")
    saved = checkpoint.load(run)
    assert found["mean_auroc"] == pytest.approx(saved.metrics["test_auroc"], abs=1e-6)
    assert found["mean_average_precision"] == pytest.approx(saved.metrics["test_ap"], abs=1e-6)
    low, high = found["mean_auroc_interval"]
    assert low <= found["mean_auroc"] <= high
    assert "draw whole groups" in found["intervals"]
    assert [row["threshold"] for row in found["labels"].values()] == list(saved.thresholds)
    assert [row["unknown"] > 0 for row in found["labels"].values()] == [True] * 3
    assert tuple(found["labels"]) == NAMES
    assert (found["images"], found["crops"]) == (60, 1)
    out = capsys.readouterr().out
    assert f"60 images of folder: mean AUROC {found['mean_auroc']:.3f} (" in out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<tr><td>left</td>" in page
    assert page.count("plotly-graph-div") == 3


def test_images_that_are_all_unreadable_are_an_error(run, table, tmp_path, capsys):
    copy = tmp_path / "labels.csv"
    shutil.copy(table, copy)
    for file in table.parent.glob("*.png"):
        (tmp_path / file.name).write_bytes(b"broken")
    flags = ("--data-dir", copy, "-j", 0, "--json", tmp_path / "found.json")
    call("evaluate", run, *flags, code=2)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: none of the 60 images of folder can be read: repair them")


def test_class_folders_have_not_several_labels(run, tmp_path, capsys):
    call("evaluate", run, "--data-dir", tmp_path, code=2)
    assert capsys.readouterr().err == (
        f"error: --data-dir {tmp_path} must be a .csv file: the run has several labels per image, "
        "which class folders can't give.\n"
    )


@pytest.mark.parametrize(
    ("target", "flags"),
    [
        ("portable", ()),
        ("portable", ("--output", "probabilities", "--preprocess")),
        ("onednn", ("--output", "probabilities")),
        ("onnx", ("--output", "probabilities", "--preprocess")),
    ],
)
def test_every_export_gives_the_sigmoids_of_the_run(run, export, table, tmp_path, target, flags):
    prefix = export(target, *flags)
    block = gluondense.load_exported(prefix)
    saved = checkpoint.load(run)
    assert block.metadata.task == "multi_label"
    assert block.metadata.thresholds == pytest.approx(saved.thresholds)
    files = [table.parent / f"val{index}.png" for index in range(5)]
    wanted, found = predict(saved.network(), files, class_names=NAMES), predict(block, files)
    for expected, prediction in zip(wanted, found):
        assert prediction.labels == expected.labels
        assert prediction.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
        assert prediction.present == expected.present
    same = evaluated(tmp_path, prefix, "--data-of", run)
    assert same["mean_auroc"] == pytest.approx(saved.metrics["test_auroc"], abs=1e-6)
    if "probabilities" in flags:
        _, _, height, width = block.metadata.input_shape
        pixels = np.full((1, height, width, 3), 90, np.uint8)
        inputs = pixels if "--preprocess" in flags else saved.preprocessing.normalize(pixels)
        logits = saved.network()(mx.nd.array(saved.preprocessing.normalize(pixels)))
        outputs = block(mx.nd.array(inputs, dtype=inputs.dtype)).asnumpy()
        assert outputs == pytest.approx(logits.sigmoid().asnumpy(), abs=1e-5)


def test_int8_is_verified_on_the_answers_of_each_label(run, export, capsys):
    prefix = export("int8", "--max-changed", 0.5)
    quantization = gluondense.load_exported(prefix).metadata.quantization
    assert 0.5 <= quantization["agreement"] <= 1
    assert quantization["agreement"] * IMAGES * 3 == pytest.approx(
        round(quantization["agreement"] * IMAGES * 3)
    )
    assert "Mean AUROC over all 60 test images of folder: " in capsys.readouterr().out


def test_predict_prints_all_labels_with_probability_and_answer(run, table, capsys):
    images = [table.parent / "val0.png", table.parent / "val1.png"]
    call("predict", run, *images, "--json")
    rows = json.loads(capsys.readouterr().out)
    thresholds = dict(zip(NAMES, checkpoint.load(run).thresholds))
    for row in rows:
        assert sorted(row["labels"]) == sorted(NAMES)
        assert row["probabilities"] == sorted(row["probabilities"], reverse=True)
        assert row["thresholds"] == [thresholds[name] for name in row["labels"]]
        for probability, limit, present in zip(
            row["probabilities"], row["thresholds"], row["present"]
        ):
            assert present == (probability >= limit)
    arrays = RunFolder(run).predictions()
    first = dict(zip(rows[0]["labels"], rows[0]["probabilities"]))
    assert [first[name] for name in NAMES] == pytest.approx(arrays["probabilities"][0], abs=1e-5)
    call("predict", run, images[0], "--top", 1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    answer = "yes" if rows[0]["present"][0] else "no "
    assert lines[1].endswith(f"{answer}  from {rows[0]['thresholds'][0]:.2%}")


@pytest.mark.filterwarnings("ignore:Cannot decide type")
def test_the_service_answers_with_all_labels_as_predict_does(export, table, tmp_path):
    prefix = export("portable")
    folder = tmp_path / "model"
    folder.mkdir()
    unpack(archive(prefix, tmp_path / "labels.mar"), folder)
    service = Service(folder, None, batch_size=2)
    files = [table.parent / "val0.png", table.parent / "val1.png"]
    answers = service.answer([{"body": file.read_bytes()} for file in files])
    for answer, wanted in zip(answers, predict(gluondense.load_exported(prefix), files)):
        assert [row["class"] for row in answer] == list(wanted.labels)
        assert [row["present"] for row in answer] == list(wanted.present)
        found = [row["probability"] for row in answer]
        assert found == pytest.approx(wanted.probabilities, abs=1e-5)
    (top,) = service.answer([{"body": files[0].read_bytes(), "top": b"1"}])
    assert top == answers[0][:1]


@pytest.mark.serve
def test_the_real_server_answers_as_predict_does(export, table, tmp_path, native_operator):
    pytest.importorskip("mms", reason="the extra `serve` is not installed")
    if not shutil.which("java"):
        pytest.skip("there is no Java")
    prefix = export("native", "--preprocess", "--output", "probabilities")
    for name in ("store", "server"):
        (tmp_path / name).mkdir()
    call("archive", prefix, tmp_path / "store" / "labels.mar")
    files = [table.parent / f"val{index}.png" for index in range(8)]
    wanted = predict(gluondense.load_exported(prefix), files)
    with model_server(tmp_path / "store", tmp_path / "server") as server:
        done = server.register("labels.mar", batch_size=4, max_batch_delay=50)
        assert done.status == 200, done.body
        for file, expected in zip(files, wanted):
            answer = server.predict("labels", file.read_bytes()).json()
            assert [row["class"] for row in answer] == list(expected.labels)
            assert [row["present"] for row in answer] == list(expected.present)
            found = [row["probability"] for row in answer]
            assert found == pytest.approx(expected.probabilities, abs=1e-5)


@pytest.mark.slow
def test_chest_xrays_from_one_command_to_an_archive(shared, tmp_path):
    data = shared / "data" / "chest-xray"
    if not data.is_dir():
        pytest.skip(f"no chest X-rays at {data}")
    run = tmp_path / "chest"
    call(
        "train.folder",
        *(data / "labels.csv", "--image-dir", data / "images", "--path-column", "image"),
        *("--label-columns", "findings", "--empty-label", "No Finding", "--multi-label"),
        *("--group", "patient", "--split-column", "none", "--input-size", 64, "--crop-ratio", 1),
        *("--model", "densenet121", "--set=block_config=[1,2,2,1]", "--augment", "flip"),
        *("--epochs", 4, "--no-progress", "--out", run),
    )
    with open(run / "split.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    patients = {part: {row["group"] for row in rows if row["split"] == part} for part in PARTS}
    assert not patients["train"] & patients["val"]
    found = evaluated(tmp_path, run)
    assert found["mean_auroc"] > 0.52
    assert len(found["labels"]) == 14
    for row in found["labels"].values():
        if row["auroc_interval"] is not None:
            assert row["auroc_interval"][0] < row["auroc"] < row["auroc_interval"][1]
    assert "<tr><td>Effusion</td>" in (run / "report.html").read_text(encoding="utf-8")
    prefix = tmp_path / "exports" / "chest"
    call("export", run, "--out", prefix, "--output", "probabilities", "--preprocess")
    same = evaluated(tmp_path, prefix, "--data-of", run)
    assert same["mean_auroc"] == pytest.approx(found["mean_auroc"], abs=1e-4)
    call("archive", prefix, tmp_path / "chest.mar")


def test_one_class_an_image_is_not_evaluated_as_several_labels(run, tmp_path, capsys):
    call("evaluate", run, "--dataset", "synthetic", "-j", 0, code=2)
    assert "has learned several labels per image, but synthetic has one" in capsys.readouterr().err


def test_thresholds_of_an_export_are_checked(run, tmp_path):
    net = checkpoint.load(run).network()
    arguments = net, tmp_path / "net", (1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"thresholds .* must be one for each of the 3 labels"):
        gluondense.export(*arguments, thresholds=(0.5,))
    with pytest.raises(ValueError, match=r"thresholds .* must be in \(0, 1\)"):
        gluondense.export(*arguments, thresholds=(0.5, 0.5, 1.0))
    with pytest.raises(ValueError, match="unknown task 'multilabel'; did you mean 'multi_label'"):
        gluondense.export(*arguments, task="multilabel")
    with pytest.raises(ValueError, match="must be None unless an image has several labels"):
        gluondense.export(*arguments, task="classification", thresholds=np.full(3, 0.5))
    files = gluondense.export(*arguments, task="classification")
    assert gluondense.load_exported(files.prefix).metadata.thresholds is None


def test_task_and_thresholds_of_a_prediction_are_checked(run, tmp_path):
    net, path = checkpoint.load(run).network(), tmp_path / "image.png"
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(ValueError, match=r"thresholds .* must be one for each of the 3 labels"):
        predict(net, [path], thresholds=(0.5,))
    with pytest.raises(ValueError, match="unknown task 'multilabel'; did you mean 'multi_label'"):
        predict(net, [path], task="multilabel")


def test_earlier_exports_have_one_class_an_image():
    from gluondense.deploy.metadata import ExportMetadata

    fields = {field.name: field.default for field in dataclasses.fields(ExportMetadata)}
    assert fields["task"] == "classification"
    assert fields["thresholds"] is None
