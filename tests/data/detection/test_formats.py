"""COCO and CSV: the same data as in VOC's layout, and what is wrong with damaged files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.detection_data import (
    CLASSES,
    coco_content,
    csv_text,
    make_coco,
    make_csv,
    make_images,
    make_voc,
)

from gluondense.data.detection.dataset import open_detection
from gluondense.text import read_json

HEADER = "path,x1,y1,x2,y2,class,split"


def check_equal(found, expected):
    assert found.info.class_names == expected.info.class_names == CLASSES
    assert found.info.counts == expected.info.counts
    assert found.part == expected.part == "val"
    for part, other in ((found.train, expected.train), (found.test, expected.test)):
        assert len(part) == len(other)
        for index in range(len(part)):
            np.testing.assert_array_equal(part.boxes(index), other.boxes(index))
            assert part.size(index) == other.size(index)
            assert part.read(index).data == other.read(index).data


@pytest.mark.parametrize("make", [make_coco, make_csv])
def test_all_formats_give_the_same_boxes(tmp_path, make, capsys):
    expected = open_detection(make_voc(tmp_path / "voc"))
    check_equal(open_detection(make(tmp_path / "other")), expected)
    assert capsys.readouterr().err == ""


def test_bccd_in_the_other_formats(shared, tmp_path, capsys):
    voc = open_detection(shared / "data/bccd", val="test")
    images = {}
    for source in (voc.train, voc.test):
        for index in range(len(source)):
            rows = source.boxes(index)[:, :5].tolist()
            boxes = [(voc.info.class_names[int(label)], *corners) for *corners, label in rows]
            name = source.annotations.path(index).name
            images[name] = source.size(index), boxes
    (tmp_path / "boxes.csv").write_text(csv_text(images, voc.test_count))
    found = open_detection(tmp_path / "boxes.csv", shared / "data/bccd/JPEGImages")
    assert (found.train_count, found.test_count) == (205, 72)
    for part, other in ((found.train, voc.train), (found.test, voc.test)):
        np.testing.assert_array_equal(part.annotations.boxes, other.annotations.boxes)
        np.testing.assert_array_equal(part.annotations.first, other.annotations.first)
        np.testing.assert_array_equal(part.annotations.sizes, other.annotations.sizes)


def write_coco(folder, change=lambda content: None, count=3):
    content = coco_content(make_images(folder, count))
    change(content)
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder / "boxes.json"


def test_a_single_json_file_is_split(tmp_path):
    path = write_coco(tmp_path / "a", count=10)
    found = open_detection(path, validation_share=0.3)
    assert (found.train_count, found.test_count) == (7, 3)
    assert open_detection(path, training=False).test_count == 10
    other = open_detection(path, validation_share=0.3, split_seed=1)
    assert set(other.test.annotations.names) != set(found.test.annotations.names)
    moved = tmp_path / "b.json"
    moved.write_text(path.read_text())
    assert open_detection(moved, tmp_path / "a", training=False).test_count == 10


@pytest.mark.parametrize("make", [make_coco, lambda folder: write_coco(folder, count=10)])
def test_a_json_file_is_read_once(tmp_path, make, monkeypatch):
    path, files = make(tmp_path / "data"), []

    def read(file):
        files.append(file)
        return read_json(file)

    monkeypatch.setattr("gluondense.data.detection.coco.read_json", read)
    found = open_detection(path)
    assert found.train_count > found.test_count > 0
    assert len(files) == len(set(files)) == (2 if path.is_dir() else 1)


def test_folders_of_roboflow(tmp_path):
    for split in ("train", "valid", "test"):
        content = coco_content(make_images(tmp_path / split, 4))
        group = {"id": 0, "name": "colors", "supercategory": "none"}
        for category in content["categories"]:
            category["supercategory"] = "colors"
        content["categories"].insert(0, group)
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(content))
    found = open_detection(tmp_path)
    assert found.info.class_names == CLASSES
    assert (found.train_count, found.part, found.test_count) == (4, "valid", 4)
    assert found.with_part("test").test.name(0).endswith("test/0.png")
    assert open_detection(tmp_path, val="val").part == "valid"


def test_years_of_coco_are_part_of_the_names_where_there_are_several(tmp_path):
    root = make_coco(tmp_path / "coco")
    path = root / "annotations/instances_val2017.json"
    path.with_name("instances_val2014.json").write_text(path.read_text())
    found = open_detection(root, train="train2017", val="val2017")
    assert (found.train_count, found.test_count) == (4, 2)


def test_crowds_are_difficult(tmp_path):
    path = write_coco(tmp_path / "a", lambda content: content["annotations"][0].update(iscrowd=1))
    assert open_detection(path, training=False).test.boxes(0)[0, 5] == 1


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"bbox": [1, 2, 3]}, "annotation", r"annotation 0 has the bbox [1, 2, 3]; write [x"),
        ({"bbox": None}, "annotation", "annotation 0 has the bbox None"),
        ({"bbox": [0, 0, float("nan"), 1]}, "annotation", "has the bbox [0, 0, nan, 1]"),
        ({"bbox": [0, 0, "1", 1]}, "annotation", "has the bbox [0, 0, '1', 1]"),
        ({"bbox": [0, 0, 10**30, 1]}, "annotation", "has the bbox [0, 0, 1000"),
        ({"image_id": 99}, "annotation", "annotation 0 names image 99, which is not there"),
        ({"image_id": [1]}, "annotation", "annotation 0 names image [1], which is not there"),
        ({"bbox": [5, 5, 0, 9]}, "empty", "annotation 0 (blue: 5, 5, 5, 14) has no area"),
        ({"bbox": [5, 5, -2, 9]}, "inverted", "(blue: 5, 5, 3, 14) ends before it begins"),
        ({"category_id": 99}, "class", "(category 99: "),
        ({"category_id": [1]}, "class", "(category [1]: "),
    ],
)
def test_bad_annotations_of_coco(tmp_path, change, kind, words):
    path = write_coco(tmp_path / "a", lambda content: content["annotations"][0].update(change))
    (problem,) = open_detection(path, training=False).problems
    assert problem.kind == kind
    assert words in problem.message
    assert str(path) in problem.message
    with pytest.raises(ValueError, match="or leave such"):
        open_detection(path, training=False, bad="error")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.pop("images"), "has no list of objects 'images' as COCO's"),
        (lambda content: content.update(annotations=[3]), "has no list of objects 'annotations'"),
        (lambda content: content["images"][0].pop("id"), "an image without id or file_name"),
        (lambda content: content["images"][1].update(id=7), "two images with the id 7"),
        (lambda content: content["categories"][0].pop("name"), "a category without an integer id"),
        (lambda content: content["categories"][0].update(id=1), "two categories of the id or"),
    ],
)
def test_a_json_file_that_is_not_cocos(tmp_path, change, words):
    path = write_coco(tmp_path / "a", change)
    with pytest.raises(ValueError, match=words) as caught:
        open_detection(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.png", "a\n.png"])
def test_images_outside_of_the_folder_are_left_out(tmp_path, name):
    path = write_coco(tmp_path / "a", lambda content: content["images"][0].update(file_name=name))
    found = open_detection(path, training=False)
    assert found.test_count == 2
    assert "which leaves the image folder" in found.problems[0].message


def write_csv(tmp_path, *rows, header="path,x1,y1,x2,y2,class"):
    make_images(tmp_path / "a")
    path = tmp_path / "a/boxes.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_other_columns_and_images_without_boxes(tmp_path):
    header = "filename,width,height,class,xmin,ymin,xmax,ymax,difficult"
    rows = "0.png,100,60,red,1,2,3.5,9,1", "0.png,100,60,red,5,5,8,8,0", "1.png,95,70,,,,,,"
    found = open_detection(write_csv(tmp_path, *rows, header=header), training=False)
    assert found.test.boxes(0).tolist() == [[1, 2, 3.5, 9, 0, 1], [5, 5, 8, 8, 0, 0]]
    assert found.test.boxes(1).shape == (0, 6)
    assert found.test.size(1) == (70, 95)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("1.png,x,2,3,4,red", "row 3 has 'x' in column 'x1'; write a number"),
        ("1.png,1,,3,4,red", "row 3 has '' in column 'y1'; write a number"),
        ("1.png,1,2,nan,4,red", "row 3 has 'nan' in column 'x2'"),
        ("1.png,1,2,3,4,", "row 3 has no class in column 'class'; write one"),
        ("9.png,1,2,3,4,red", "9.png, which does not exist"),
        ("1.png,3,2,1,4,red", "row 3 (red: 3, 2, 1, 4) ends before it begins"),
    ],
)
def test_bad_rows(tmp_path, row, words):
    path = write_csv(tmp_path, "0.png,1,2,3,4,red", row)
    (problem,) = open_detection(path, training=False).problems
    assert words in problem.message
    assert str(path) in problem.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; its first row names the columns"),
        ("path,x1,y1,x2,y2\n", "has a header but no rows"),
        ("path,x1,y1,x2,y2\na,1,2,3,4\n", "row 1 has no column 'class' or 'label' .its columns"),
        ("path,x1,y1,x2,y2,class\n/a.png,1,2,3,4,a\n", "row 2 has the absolute path"),
        ("path,x1,y1,x2,y2,class\n../a.png,1,2,3,4,a\n", "row 2 has the path ../a.png, which"),
        ("path,x1,y1,x2,y2,class,split\na,1,2,3,4,a,trian\n", "row 2 has an unknown split"),
        (
            "path,x1,y1,x2,y2,class,split\na,1,2,3,4,a,val\na,1,2,3,4,a,train\n",
            "row 3 has a in split train, row 2 has it in val; use one",
        ),
    ],
)
def test_a_csv_file_that_is_not_of_boxes(tmp_path, text, words):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        open_detection(path)
    assert str(path) in str(caught.value)


def test_data_of_another_kind(tmp_path):
    (tmp_path / "a.txt").touch()
    for path in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(ValueError, match="has no boxes in a known form: name a folder in VOC"):
            open_detection(path)


@pytest.mark.parametrize("make", [make_coco, make_csv, make_voc])
def test_an_unknown_split_is_named_with_the_data(tmp_path, make):
    path = make(tmp_path / "data")
    with pytest.raises(ValueError, match=r"data.* has no split 'tset' \(it has train, val\)"):
        open_detection(path, val="tset")


def test_a_file_without_splits_has_none(tmp_path):
    path = write_csv(tmp_path, "0.png,1,2,3,4,red")
    for names in ({"val": "test"}, {"train": "all"}):
        with pytest.raises(ValueError, match=r"boxes.csv has no split .* \(it has no splits\)"):
            open_detection(path, **names)


@pytest.mark.parametrize(("empty", "other"), [("train", "val"), ("val", "train")])
def test_data_without_boxes_is_not_trained_on(tmp_path, empty, other):
    path = write_csv(tmp_path, f"0.png,,,,,,{empty}", f"1.png,1,2,3,4,red,{other}", header=HEADER)
    with pytest.raises(ValueError, match=rf"split '{empty}' of .*boxes.csv has no usable box"):
        open_detection(path, class_names=("red",))
    assert open_detection(path, training=False, class_names=("red",)).test_count == 1
