"""The same files read by GluonCV and pycocotools give the same boxes."""

from __future__ import annotations

import numpy as np
import pytest
from support.detection_data import CLASSES, make_coco, make_voc

from gluondense.data.detection.dataset import open_detection
from gluondense.environment.process import import_gluoncv


def test_voc_of_gluoncv(tmp_path):
    make_voc(tmp_path / "VOC2007")
    for path in (tmp_path / "VOC2007/JPEGImages").iterdir():  # it reads .jpg
        path.rename(path.with_suffix(".jpg"))
    gluoncv = import_gluoncv()

    class Colors(gluoncv.data.VOCDetection):
        CLASSES = CLASSES

    peer = Colors(str(tmp_path), splits=((2007, "train"),))
    found = open_detection(tmp_path / "VOC2007").train
    assert len(found) == len(peer) == 4
    for index in range(4):
        image, rows = peer[index]
        assert image.shape[:2] == found.size(index)
        boxes = found.boxes(index)
        # GluonCV subtracts 1 from the ends too; ours are exclusive.
        np.testing.assert_array_equal(boxes[:, :4] - [0, 0, 1, 1], rows[:, :4])
        np.testing.assert_array_equal(boxes[:, 4:], rows[:, 4:6])


def test_coco_of_pycocotools(tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    root = make_coco(tmp_path / "coco")
    peer = coco.COCO(str(root / "annotations/instances_train2017.json"))
    found = open_detection(root).train
    names = {row["id"]: row["name"] for row in peer.loadCats(peer.getCatIds())}
    assert len(found) == len(peer.imgs)
    for index, image in enumerate(peer.imgs):
        boxes = found.boxes(index)
        rows = peer.loadAnns(peer.getAnnIds(image))
        corners = boxes[:, [0, 1]], boxes[:, [2, 3]] - boxes[:, [0, 1]]
        np.testing.assert_array_equal(np.hstack(corners), [row["bbox"] for row in rows])
        expected = [CLASSES.index(names[row["category_id"]]) for row in rows]
        np.testing.assert_array_equal(boxes[:, 4], expected)
