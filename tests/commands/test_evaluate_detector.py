"""`gluondense evaluate` of a detector's run, on its own and on other images."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from support.detection_data import CLASSES, make_voc
from support.detection_tiny import TINY_DETECTION

from gluondense.commands.evaluate import main
from gluondense.commands.export import main as export
from gluondense.data.detection.dataset import open_detection
from gluondense.evaluation import evaluate_model, open_model
from gluondense.training import fit
from gluondense.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run and the row of its best epoch."""
    folder = tmp_path_factory.mktemp("detector")
    data = make_voc(folder / "boxes", count=12, validation=5)
    names = (data / "ImageSets/Main/val.txt").read_text().split()
    (data / "ImageSets/Main/test.txt").write_text("\n".join(names[:2]))
    config = TINY_DETECTION.with_fields(data_dir=str(data), lr=0.02, letterbox=True)
    result = fit(config, folder / "run", progress=False)
    return folder / "run", result.best


def evaluate(*args: object) -> dict:
    path = args[-1]
    assert main([str(arg) for arg in (*args[:-1], "--json", path)]) == 0
    return json.loads(path.read_text())


def test_a_run_has_the_figures_of_its_log(run, tmp_path, capsys):
    folder, best = run
    page = tmp_path / "page.html"
    metrics = evaluate(folder, "--report", page, "-j", 0, tmp_path / "metrics.json")
    assert metrics["mean_ap50"] == pytest.approx(best["test_map"], abs=1e-6)
    assert (metrics["images"], metrics["split"], metrics["resize"]) == (5, "val", "letterbox")
    assert tuple(metrics["classes"]) == CLASSES
    assert capsys.readouterr().out.startswith("5 images of detection (val): mAP@0.5 ")
    assert "Most mistakes" in page.read_text(encoding="utf-8")
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert '"name":"objectness loss"' in report


def test_a_run_finds_the_boxes_that_it_found_in_training(run):
    folder, _ = run
    model = open_model(str(folder), [mx.cpu()])
    data = open_detection(model.config.data_dir, class_names=model.class_names)
    found = evaluate_model(model, data, [mx.cpu()]).summary.predictions
    saved = RunFolder(folder).predictions()
    assert (saved["detections"][..., 0] >= 0).sum() > 20
    np.testing.assert_allclose(found.detections, saved["detections"], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found.truth, saved["truth"])


def test_another_split_and_other_images(run, tmp_path):
    folder, _ = run
    metrics = evaluate(folder, "--split", "test", "-j", 0, tmp_path / "metrics.json")
    assert (metrics["images"], metrics["split"]) == (2, "test")
    other = make_voc(tmp_path / "other", count=8, validation=3)
    args = folder, "--data-dir", other, "--split", "val", "-j", 0, tmp_path / "metrics.json"
    assert evaluate(*args)["images"] == 3


def test_images_that_are_all_unreadable_are_an_error(run, tmp_path, capsys):
    data = make_voc(tmp_path / "broken", count=4, validation=3)
    for file in (data / "JPEGImages").iterdir():
        file.write_bytes(b"broken")
    args = [str(run[0]), "--data-dir", str(data), "-j0", "--report", str(tmp_path / "page.html")]
    assert main(args) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: none of the 3 images of detection can be read: repair them")


def leaves(value) -> list:
    """Return the numbers in nested objects and lists of JSON; NaN for null."""
    if isinstance(value, (dict, list)):
        items = value.values() if isinstance(value, dict) else value
        return [leaf for item in items for leaf in leaves(item)]
    return [np.nan if value is None else value]


def test_an_export_has_the_figures_of_its_run(run, tmp_path):
    folder, _ = run
    expected = evaluate(folder, "-j", 0, tmp_path / "run.json")
    prefix = tmp_path / "exported"
    assert export([str(folder), "--out", str(prefix), "--preprocess"]) == 0
    args = prefix, "--data-of", folder, "-j", 0, tmp_path / "export.json"
    found = evaluate(*args)
    for name in ("classes", "coco", "recall_by_size", "threshold"):
        np.testing.assert_allclose(leaves(found[name]), leaves(expected[name]), rtol=1e-3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--crops", "10"), "--crops (=10) must be 1 for a detector"),
        (("--dataset", "digits"), "has learned boxes, but digits has one class per image"),
        (("--split", "train", "--data-dir", "nowhere"), "no file or folder nowhere"),
    ],
)
def test_what_does_not_fit_is_one_line(run, flags, message, capsys):
    assert main([str(run[0]), *flags, "-j", "0"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
