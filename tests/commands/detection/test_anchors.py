from __future__ import annotations

import json

import numpy as np
import pytest

from gluondense.__main__ import main
from gluondense.data.detection.dataset import open_detection
from gluondense.detection import DetectorSpec
from gluondense.detection.anchors import find_anchors


def csv_file(folder, sizes):
    """Write a CSV file with a box of each size on its own image of 400 x 200 (width x height)."""
    from PIL import Image

    lines = ["path,x1,y1,x2,y2,class,split"]
    for index, (width, height) in enumerate(sizes):
        Image.new("RGB", (400, 200)).save(folder / f"{index}.png")
        lines.append(f"{index}.png,1,2,{1 + width},{2 + height},cell,train")
    Image.new("RGB", (400, 200)).save(folder / "val.png")
    lines.append("val.png,1,2,9,9,cell,val")
    path = folder / "boxes.csv"
    path.write_text("\n".join(lines))
    return path


SIZES = [(20 * n, 10 * n) for n in range(1, 10)] * 2


@pytest.mark.parametrize(("flags", "scale"), [([], (0.5, 1.0)), (["--letterbox"], (0.5, 0.5))])
def test_anchors_are_sizes_in_the_input(tmp_path, capsys, flags, scale):
    path = csv_file(tmp_path, SIZES)
    assert main(["detection", "anchors", str(path), "--input-size", "192", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "18 boxes of 18 images at 192 pixels"
    expected = np.array(SIZES[:9]) * scale * (192 / 200)
    np.testing.assert_allclose(json.loads(lines[-1]), expected, atol=0.051)
    assert DetectorSpec(anchors=json.loads(lines[-1])).scales[0][0] == 32
    width, height = expected[8].round(1)
    assert lines[3].split()[-1] == f"{width:g}x{height:g}"
    assert lines[4].startswith("mean IoU 1.000 (YOLOv3's anchors for COCO: 0.")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "error: no file or folder nowhere"),
        (["{data}", "--input-size", "100"], "must be positive multiples of 32"),
        (["{data}", "--train-split", "trian"], "trian"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, flags, message):
    path = csv_file(tmp_path, SIZES)
    assert main(["detection", "anchors", *[f.format(data=path) for f in flags]]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_blood_cells(shared, capsys):
    folder = shared / "data" / "bccd"
    assert main(["detection", "anchors", str(folder), "--letterbox"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert " images at 416 pixels" in out[0]
    data = open_detection(folder)
    sizes = data.train.annotations.sizes_in((416, 416), True)
    assert json.loads(out[-1]) == [list(each) for each in find_anchors(sizes)]
    fit = float(out[4].split()[2])
    assert fit > 0.7
