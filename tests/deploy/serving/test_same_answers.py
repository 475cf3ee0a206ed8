"""A run, its export, predict and multi-model-server give each image the same class."""

from __future__ import annotations

import importlib
import shutil

import pytest
from support.images import encoded, make_folders, noisy_image
from support.paths import ROOT, SHARED
from support.training_tiny import TINY

from gluondense.training import fit

pytestmark = pytest.mark.serve


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on images of four colours, of odd sizes."""
    root = tmp_path_factory.mktemp("answers")
    for split in ("train", "val"):
        make_folders(root / "data" / split, each=8, size=(45, 75))
    for number, size in enumerate([(31, 90), (90, 31), (17, 19)]):
        for label in range(4):
            path = root / "data" / "val" / f"class{label}" / f"odd{number}.png"
            path.write_bytes(encoded(noisy_image(label, size, 100 + number), "PNG"))
    images = {"dataset": "imagenet", "data_dir": str(root / "data"), "resize": 24}
    config = TINY.with_fields(batch_size=8, data_workers=1, augment=("flip",), **images)
    fit(config, root / "run", progress=False)
    return root


def test_every_answer_agrees_at_all_aspect_ratios(run, monkeypatch, native_operator):
    pytest.importorskip("mms", reason="the extra `serve` is not installed")
    if not shutil.which("java"):
        pytest.skip("there is no Java")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "dev"))
    compare = importlib.import_module("same_answers").compare
    folders = [str(run / "data" / "val")]
    sample = SHARED / "data" / "imagenet-sample"
    if sample.is_dir():
        folders.append(str(sample))
    rows = list(compare(str(run / "run"), folders, limit=40))
    assert len(rows) == len(folders) + 3
    for row in rows:
        assert row["count"] == 40
        assert set(row["different"].values()) == {0}
    accuracies = [set(row["top1"].values()) for row in rows[:4]]
    assert all(len(values) == 1 for values in accuracies)
    assert accuracies[0] != {None}
