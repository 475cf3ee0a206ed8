from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from support.training_tiny import TINY

from gluondense.data.transforms.batch import resize
from gluondense.explain import cam
from gluondense.explain.class_activation import normalized
from gluondense.training import fit, load, write_report
from gluondense.training.run_folder import RunFolder

LOCAL = "/home/somebody"
EVIL = '<script>console.error("escaped?")</script>'


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run whose first class has a name that is HTML, with paths in its configuration."""
    folder = tmp_path_factory.mktemp("runs") / "report"
    fit(TINY, folder, progress=False)
    names = ("data_dir", "rec_train", "rec_val", "ground_truth")
    RunFolder(folder).start(TINY.with_fields(**{name: f"{LOCAL}/{name}" for name in names}))
    path = folder / "checkpoints" / "best" / "model.json"
    facts = json.loads(path.read_text())
    facts["class_names"][0] = EVIL
    del facts["content_sha256"]  # as in an earlier version's
    path.write_text(json.dumps(facts))
    return folder


def test_report_is_one_file_that_needs_nothing_else(run):
    page = write_report(run).read_text(encoding="utf-8")
    body = page[page.index("<body>") :]
    assert page.count("<script") == body.count("<script") + 1
    assert EVIL not in page
    assert "&lt;script&gt;console" in body
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", body)
    arrays = RunFolder(run).predictions()
    explained = len(arrays["explained_maps"])
    assert explained > 8
    assert body.count("<img ") == 24 + len(arrays["worst"]) + 2 * explained
    for fact in ("densenet121 on synthetic", "block_config", "best test accuracy", "mxnet"):
        assert fact in body
    assert str(run) not in page
    assert LOCAL not in page


def test_report_renders_in_a_browser_without_a_console_error(run, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium: apt install chromium")
    command = [
        *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}"),
        *("--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom"),
        write_report(run).as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    body = done.stdout[done.stdout.index("<body>") :]
    assert len(re.findall(r'class="[^"]*js-plotly-plot', body)) == 3
    for drawn in ("heatmaplayer", "barlayer", "scatterlayer"):
        assert f'class="{drawn}' in body
    assert "test accuracy" in body


def test_report_of_a_run_without_an_epoch(tmp_path):
    RunFolder(tmp_path).start(TINY)
    with pytest.raises(FileNotFoundError, match="no finished epoch"):
        write_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no run"):
        write_report(tmp_path / "nothing")


def test_explanations_are_stored_and_belong_to_their_images(run):
    arrays = RunFolder(run).predictions()
    saved = load(run)
    right = arrays["top_classes"][:, 0] == arrays["labels"]
    assert right[arrays["correct"]].all()
    assert not right[arrays["wrong"]].any()
    images = [*arrays["correct_images"], *arrays["wrong_images"]]
    images = np.stack([*images, *arrays["worst_images"][:8]])
    pixels = resize(images, saved.preprocessing.size)
    found = cam(saved.network(), saved.preprocessing.normalize(pixels))
    assert found.size == (8, 8)
    bytes_ = np.rint(normalized(found.maps) * 255)
    # Pixels are normalized in another batch, whose sums are rounded in another order.
    assert np.abs(arrays["explained_maps"] - bytes_).max() <= 1
    expected = [[*found.grid.step], [*found.grid.start], [8, 8]]
    assert arrays["explained_grid"].tolist() == expected
    assert not set(arrays["wrong"]) & set(arrays["worst"][:8])


def test_the_report_shows_what_the_folder_has(run, tmp_path, monkeypatch):
    """Without computing it again; a run that was stopped, or is of 0.1.0, gets it afterwards."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    folder = RunFolder(copy)
    arrays = folder.predictions()
    with monkeypatch.context() as patch:
        patch.delattr("gluondense.training.tasks.classification.Classification.explain")
        page = write_report(copy).read_text(encoding="utf-8")
    assert "Most confident mistakes" in page
    del arrays["explained_maps"]
    arrays["first_images"] = arrays.pop("sample_images")
    for name in ("sample", "correct", "correct_images", "wrong", "wrong_images"):
        del arrays[name]
    folder.save_predictions(arrays)
    assert "Most confident mistakes" not in write_report(copy, explain=False).read_text(
        encoding="utf-8"
    )
    assert "explained_maps" not in folder.predictions()
    assert "Most confident mistakes" in write_report(copy).read_text(encoding="utf-8")
    assert len(folder.predictions()["explained_maps"]) >= 8
