"""Reading VOC folders: counts of a published data set, coordinates, damaged annotations."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image
from support.detection_data import annotation_xml, make_voc, object_xml

from gluondense.data.detection.dataset import open_detection
from gluondense.data.detection.voc import read_xml

TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
NO_SIZE = "<annotation>{}</annotation>"


@pytest.fixture
def voc(tmp_path):
    return make_voc(tmp_path / "voc")


def test_bccd_has_its_published_counts(shared, capsys):
    folder = shared / "data/bccd"
    whole = open_detection(folder, train="trainval", val="test")
    assert whole.train_count + whole.test_count == 364
    counts = {name: whole.with_part(name).test_count for name in ("train", "val", "test")}
    assert counts == {"train": 205, "val": 87, "test": 72}
    assert whole.info.class_names == ("Platelets", "RBC", "WBC")
    boxes = [len(part.annotations.boxes) for part in (whole.train, whole.test)]
    # Its authors count 4,888; two are boxes without area.
    assert sum(boxes) + len(whole.problems) == 4888
    assert [problem.kind for problem in whole.problems] == ["empty", "empty"]
    counts = whole.train.annotations.counts() + whole.test.annotations.counts()
    assert counts.tolist() == [361, 4155 - 2, 372]
    assert whole.summary() == "292 train, 72 test images with 4886 boxes of 3 classes"
    printed = capsys.readouterr().err
    assert "BloodImage_00338.xml object 13 (RBC: 503, 336, 503, 336) has no area" in printed
    assert "BloodImage_00343.xml object 4 (RBC" in printed
    data, rows, name = whole.test.read(0)
    with Image.open(name) as image:
        assert image.size == (640, 480)
    assert data[:2] == b"\xff\xd8"
    assert rows.shape[1] == 6


def test_coordinates_count_from_zero_with_exclusive_ends(tmp_path):
    path = tmp_path / "a.xml"
    body = (
        "<size><width>9</width><height>7</height></size><object><name> cat </name>"
        "<difficult>1</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3.5</xmax>"
        "<ymax>7</ymax></bndbox></object>"
    )
    path.write_text(NO_SIZE.format(body))
    size, (box,), _ = read_xml(path)
    assert size == (7, 9)
    assert box[:3] == ("cat", (0, 1, 3.5, 7), True)


def test_images_and_boxes_in_the_order_of_the_split(voc):
    found = open_detection(voc)
    assert (found.train_count, found.test_count, found.part) == (4, 2, "val")
    assert found.train.size(1) == (70, 95)
    assert [name.endswith(f"{i}.png") for i, name in enumerate(map(found.train.name, range(4)))]
    classes = found.train.boxes(2)[:, 4].astype(int)
    assert [found.info.class_names[label] for label in classes] == ["blue", "green", "red"]
    assert found.info.counts == tuple(found.train.annotations.counts().tolist())
    assert found.train.most_boxes == 3
    assert found.with_part("train").test_count == 4
    with pytest.raises(ValueError, match="has no split 'tets'"):
        found.with_part("tets")


def test_without_a_validation_split_one_is_made(voc, capsys):
    (voc / "ImageSets/Main/val.txt").unlink()
    found = open_detection(voc, validation_share=0.25)
    assert (found.train_count, found.test_count) == (3, 1)
    again = open_detection(voc, val="val", validation_share=0.25, training=False)
    assert again.test.name(0) == found.test.name(0)
    assert not set(found.train.annotations.names) & set(found.test.annotations.names)
    shutil.rmtree(voc / "ImageSets")
    assert open_detection(voc).train_count + open_detection(voc).test_count == 6
    assert open_detection(voc, training=False).test_count == 6
    assert capsys.readouterr().err == ""


def test_a_test_split_is_not_used_for_validation(voc, capsys):
    (voc / "ImageSets/Main/val.txt").rename(voc / "ImageSets/Main/test.txt")
    found = open_detection(voc, validation_share=0.25)
    assert (found.train_count, found.part, found.test_count) == (3, "val", 1)
    names = {*found.train.annotations.names, *found.test.annotations.names}
    tested = found.with_part("test")
    assert (tested.part, tested.test_count) == ("test", 2)
    assert not names & set(tested.test.annotations.names)
    assert open_detection(voc, training=False).part == "test"
    assert open_detection(voc, val="test").train_count == 4
    assert capsys.readouterr().err == ""


def test_several_voc_folders(tmp_path, capsys):
    for year in ("VOC2007", "VOC2012"):
        make_voc(tmp_path / f"all/{year}", 4 if year == "VOC2007" else 6)
    found = open_detection(tmp_path / "all")
    assert (found.train_count, found.test_count) == (2 + 4, 4)
    one = open_detection(tmp_path / "all", train="VOC2012/train", val="VOC2007/train+VOC2007/val")
    assert (one.train_count, one.test_count) == (4, 4)
    short = open_detection(tmp_path / "all", train="train", val="val")
    assert (short.train_count, short.part) == (2 + 4, "VOC2007/val+VOC2012/val")
    assert capsys.readouterr().err == ""


def test_images_that_are_trained_and_evaluated_are_named(voc, capsys):
    open_detection(voc, val="train")
    assert "4 images of the training split are also evaluated" in capsys.readouterr().err


def test_size_of_the_file_where_the_annotation_has_none(voc):
    for size in ("", "<size><width>0</width><height>0</height></size>"):
        objects = object_xml("red", 1, 1, 20, 20)
        (voc / "Annotations/0.xml").write_text(NO_SIZE.format(size + objects))
        assert open_detection(voc).train.size(0) == (60, 100)
    with Image.open(voc / "JPEGImages/0.png") as image:
        image.save(voc / "JPEGImages/0.jpg", exif=TURNED)
    assert open_detection(voc).train.size(0) == (100, 60)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation>", "is not XML"),
        ("", "is not XML"),
        ("<html></html>", "has the root 'html', not annotation"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "has a document type"),
        (NO_SIZE.format("<object><name>red</name></object>"), "object 1 has no name or no bndbox"),
        (NO_SIZE.format("<object><bndbox/></object>"), "object 1 has no name or no bndbox"),
        (NO_SIZE.format("<object><name>a</name><bndbox/></object>"), "has no xmin in bndbox"),
        (annotation_xml("a", ("x", 3), ""), "has height 'x' in size; write a number"),
        (annotation_xml("a", ("nan", 3), ""), "has height 'nan' in size; write a number"),
        (annotation_xml("a", ("1e99", 3), ""), "has height '1e99' in size"),
        (b"<annotation>\xff</annotation>", "is not UTF-8"),
        (None, "no annotation"),
    ],
)
def test_unreadable_annotations(voc, text, words, capsys):
    path = voc / "Annotations/1.xml"
    path.unlink()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = open_detection(voc)
    assert found.train_count == 3
    (problem,) = found.problems
    assert problem.kind == "annotation"
    assert words in problem.message
    assert str(path) in problem.message
    assert problem.message in capsys.readouterr().err
    with pytest.raises(ValueError, match="or leave such images out: `bad` skip"):
        open_detection(voc, bad="error")


def test_what_is_missing_is_named(tmp_path, voc):
    with pytest.raises(ValueError, match="name a folder"):
        open_detection(None)
    with pytest.raises(FileNotFoundError, match=r"no .*/nothing"):
        open_detection(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="`image_dir`"):
        open_detection(voc, tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"voc has no split 'tset' \(it has train, val\)"):
        open_detection(voc, val="tset")
    with pytest.raises(ValueError, match=r"no split 'trian'; did you mean 'train'\? \(it has"):
        open_detection(voc, train="trian")
    (voc / "ImageSets/Main/train.txt").rename(voc / "ImageSets/Main/learn.txt")
    with pytest.raises(ValueError, match=r"no split 'train' \(it has learn, val\)"):
        open_detection(voc)
    (voc / "ImageSets/Main/val.txt").rename(voc / "ImageSets/Main/test.txt")
    with pytest.raises(ValueError, match=r"no split 'train' \(it has learn, test\)"):
        open_detection(voc)
    (voc / "ImageSets/Main/test.txt").rename(voc / "ImageSets/Main/val.txt")
    (voc / "ImageSets/Main/learn.txt").write_text("../../etc/passwd\n")
    with pytest.raises(ValueError, match=r"learn.txt line 1 is not the name of an image"):
        open_detection(voc, train="learn")
    (voc / "ImageSets/Main/val.txt").write_text("")
    with pytest.raises(ValueError, match=r"split 'val' of .*voc has no usable image"):
        open_detection(voc, training=False, class_names=("red",))


def test_classes_of_a_model(voc):
    found = open_detection(voc, class_names=("red", "green", "blue", "black"))
    assert found.info.class_names == ("red", "green", "blue", "black")
    assert found.train.boxes(0)[0, 4] == 2
    np.testing.assert_array_equal(found.train.annotations.counts()[3], 0)
