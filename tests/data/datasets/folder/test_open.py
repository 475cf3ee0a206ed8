"""Data that can be opened, and the one line about data that can not."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from support.folders import make_csv, make_images

from gluondense.data.datasets.folder.csv_file import Columns
from gluondense.data.datasets.folder.open import open_folder
from gluondense.data.datasets.folder.split_file import write_split
from gluondense.data.preprocessing import IMAGENET

FINDINGS = Columns(labels=("findings",), several_labels=True)
BINARY = Columns(labels=("x", "y"), several_labels=True)


def layout(root, **splits):
    """Write class folders ``root/split/class/number.png``; "" is no split."""
    names = [
        f"{split}/{name}/{number}.png".lstrip("/")
        for split, classes in splits.items()
        for name, count in classes.items()
        for number in range(count)
    ]
    make_images(root, names)
    return root


def message(*args, **options):
    """The one line about data that cannot be opened."""
    with pytest.raises((ValueError, OSError)) as caught:
        open_folder(*args, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


def splits_of(data):
    """Names of the images of each split."""
    names = np.array([data.table.images.name(index) for index in range(len(data.table))])
    return {str(split): set(names[data.table.splits == split]) for split in {*data.table.splits}}


def test_class_folders_are_split(tmp_path):
    data = open_folder(layout(tmp_path, **{"": {"cat": 10, "dog": 5}}))
    assert data.info.name == "folder"
    assert data.info.class_names == ("cat", "dog")
    assert data.info.counts == (8, 4)
    assert (data.train_count, data.test_count) == (12, 3)
    assert np.bincount(data.test_labels).tolist() == [2, 1]
    found = splits_of(data)
    assert found["train"] | found["val"] == {f"cat/{i}.png" for i in range(10)} | {
        f"dog/{i}.png" for i in range(5)
    }
    image = data.test.read(0)
    assert image.label == data.test_labels[0]
    assert image.name.startswith(str(tmp_path / "cat"))
    assert data.read_test_images([0], replace(IMAGENET, input_size=8)).any()


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_folders_of_splits_stay_as_they_are(tmp_path, name, capsys):
    parts = {"train": {"a": 2, "b": 3}, name: {"a": 1, "b": 1}, "test": {"a": 4}}
    layout(tmp_path, **parts)
    (tmp_path / "notes").mkdir()
    data = open_folder(tmp_path)
    assert capsys.readouterr().err == (
        f"warning: {tmp_path}/notes is no split (train, val, test) and is not read\n"
    )
    found = splits_of(data)
    assert {split: len(names) for split, names in found.items()} == {
        "train": 5,
        "val": 2,
        "test": 4,
    }
    assert found["val"] == {f"{name}/a/0.png", f"{name}/b/0.png"}
    assert data.with_part("test").test_count == 4
    assert data.summary() == "5 train, 2 val, 4 test images of 2 classes"


def test_train_and_test_alone_split_off_a_validation(tmp_path):
    data = open_folder(layout(tmp_path, train={"a": 5, "b": 5}, test={"a": 1, "b": 1}))
    assert data.summary() == "8 train, 2 val, 2 test images of 2 classes"
    assert all(name.startswith("train/") for name in splits_of(data)["val"])


def test_a_folder_called_train_may_be_a_class(tmp_path):
    data = open_folder(layout(tmp_path, **{"": {"train": 5, "plane": 5}}))
    assert data.info.class_names == ("plane", "train")


def test_images_without_splits_are_evaluated_as_a_whole(tmp_path):
    data = open_folder(layout(tmp_path, **{"": {"cat": 3, "dog": 2}}), training=False)
    assert data.test_count == 5
    assert data.train is None
    with pytest.raises(ValueError, match=r"has no split 'test'; it has no splits\."):
        data.with_part("test")


def test_csv_files_with_splits_and_groups(tmp_path):
    text = "\n".join(
        f"images/{i}.png, {'ab'[i % 2]}, {('train', 'valid', 'TEST')[i % 6 // 2]}, p{i % 6 // 2}"
        for i in range(12)
    )
    path = make_csv(tmp_path, text, "path, kind, part, patient")
    columns = Columns(labels=("kind",), split="part", group="patient")
    data = open_folder(path, columns=columns)
    assert data.summary() == "4 train, 4 val, 4 test images of 2 classes"
    assert set(data.test_groups) == {"p1"}
    assert data.with_part("test").test_groups.tolist() == ["p2"] * 4
    assert data.test.read(0).name == f"{tmp_path}/images/2.png ({path} row 4)"


def test_a_group_is_never_in_two_splits(tmp_path):
    text = "\n".join(f"{i}.png,{'ab'[i % 2]},p{i // 4}" for i in range(40))
    path = make_csv(tmp_path, text, "path,label,patient")
    data = open_folder(path, columns=Columns(group="patient"))
    groups = {split: set(data.table.split(split).groups) for split in ("train", "val")}
    assert not groups["train"] & groups["val"]
    assert (data.train_count, data.test_count) == (32, 8)


def test_labels_between_bars(tmp_path):
    rows = ["fluid|air", "air", "none", " fluid | mass", "mass", "none"] * 3
    text = "\n".join(f"{i}.png,{row}" for i, row in enumerate(rows))
    path = make_csv(tmp_path, text, "path,findings")
    columns = Columns(labels=("findings",), several_labels=True, empty_label="none")
    data = open_folder(path, columns=columns)
    assert data.info.class_names == ("air", "fluid", "mass")
    assert data.table.labels.dtype == np.float32
    assert data.table.labels[:6].tolist() == [
        [1, 1, 0],
        [1, 0, 0],
        [0, 0, 0],
        [0, 1, 1],
        [0, 0, 1],
        [0, 0, 0],
    ]
    assert data.info.counts == tuple(data.train_labels.sum(axis=0))
    assert data.info.known == (data.train_count,) * 3
    image = data.train.read(0)
    assert image.label.tolist() == data.train_labels[0].tolist()
    assert data.train.label_shape == (3,)


def test_columns_of_0_and_1_may_be_unknown(tmp_path):
    text = "\n".join(f"{i}.png,{x},{y}" for i, (x, y) in enumerate([("1", ""), ("0.0", "1.0")] * 5))
    path = make_csv(tmp_path, text, "path,x,y")
    data = open_folder(path, columns=BINARY)
    assert np.array_equal(data.table.labels[:2], [[1, np.nan], [0, 1]], equal_nan=True)
    assert data.info.class_names == ("x", "y")
    assert sum(data.info.known) == 4 + 8


@pytest.mark.parametrize(
    ("columns", "header", "rows"),
    [
        (Columns(), "path,label", ["a", "b"]),
        (Columns(labels=("x", "y"), several_labels=True), "path,x,y", ["1,", "0,1"]),
        (Columns(group="g"), "path,label,g", ["a,p1", "b,p2", "a,p3", "b,p4"]),
    ],
)
def test_a_split_file_gives_the_same_data_back(tmp_path, columns, header, rows):
    text = "\n".join(f"d/é {i}.png,{rows[i % len(rows)]}" for i in range(12))
    path = make_csv(tmp_path / "data", text, header)
    data = open_folder(path, columns=columns, split_seed=3)
    write_split(tmp_path / "split.csv", data.table)
    make_csv(tmp_path / "data", "new.png,1,1,1", header)  # what is added later is not read
    again = open_folder(path, columns=columns, split_file=tmp_path / "split.csv")
    assert splits_of(again) == splits_of(data)
    assert again.info == data.info
    assert np.array_equal(again.table.labels, data.table.labels, equal_nan=True)
    assert (again.table.groups is None) == (columns.group is None)


def test_a_split_file_of_names_that_are_not_utf_8(tmp_path):
    layout(tmp_path / "data", **{"": {"a": 5, "b": 5}})
    (tmp_path / "data/a/0.png").rename(str(tmp_path / "data/a/") + "/\udce9.png")
    data = open_folder(tmp_path / "data")
    write_split(tmp_path / "split.csv", data.table)
    again = open_folder(tmp_path / "data", split_file=tmp_path / "split.csv")
    assert splits_of(again) == splits_of(data)


GOOD = "a.png,cat\nb.png,cat\nc.png,dog\nd.png,dog"


@pytest.mark.parametrize(
    ("text", "header", "columns", "line"),
    [
        ("", "", {}, "{csv} is empty; its first row names the columns, such as path,label"),
        ("", "path,label", {}, "{csv} has a header but no rows"),
        (
            GOOD,
            "path,lable",
            {},
            "{csv} row 1 has no column 'label'; did you mean 'lable'? (its columns: path, lable); "
            "rename one, or name it with `label_columns`",
        ),
        (
            GOOD,
            "image,label",
            {},
            "{csv} row 1 has no column 'path' (its columns: image, label); rename one, or name "
            "it with `path_column`",
        ),
        (
            GOOD,
            "path,label",
            {"group": "patient"},
            "{csv} row 1 has no column 'patient' (its columns: path, label); rename one, or name "
            "it with `group_column`",
        ),
        (
            GOOD,
            "path,label",
            {"split": "fold"},
            "{csv} row 1 has no column 'fold' (its columns: path, label); rename one, or name "
            "it with `split_column`",
        ),
        (
            "a.png;cat",
            "path;label",
            {},
            "{csv} row 1 is 'path;label'; separate the columns by commas",
        ),
        (GOOD, "path,path", {}, "{csv} row 1 has two columns 'path'; rename one"),
        ("a.png,cat\nb.png,cat,2", "path,label", {}, "{csv} row 3 has 3 cells, the header has 2"),
        (
            'a.png,cat\nb.png,"cat',
            "path,label",
            {},
            "{csv} row 3 is not CSV: unexpected end of data",
        ),
        ("a.png,cat\n ,cat", "path,label", {}, "{csv} row 3 has no path in column 'path'"),
        (
            'a.png,cat\n"b\n.png",cat',
            "path,label",
            {},
            "{csv} row 3 has a line break in the path 'b\\n.png'",
        ),
        ("a.png,cat\nb.png,", "path,label", {}, "{csv} row 3 has no label in column 'label'"),
        (
            "a.png,cat\n\na.png,dog",
            "path,label",
            {},
            "{csv} row 4 has the path a.png, as row 2 has; remove one",
        ),
        (
            "a.png,cat\nx/../a.png,dog",
            "path,label",
            {},
            "{csv} row 3 has the path x/../a.png, as row 2 has; remove one",
        ),
        (
            "a.png,cat\n../b.jpg,cat",
            "path,label",
            {},
            "{csv} row 3 has the path ../b.jpg, which leaves the image folder",
        ),
        (
            "/etc/passwd,cat",
            "path,label",
            {},
            "{csv} row 2 has the absolute path /etc/passwd; paths are relative to the image folder",
        ),
        (
            "a.png,cat\nmissing.jpg,cat",
            "path,label",
            {},
            "{csv} row 3 names {root}/missing.jpg, which does not exist; correct it, or name the "
            "images' folder: `image_dir`",
        ),
        (
            "a.png,cat\nb.png,cat\nc.png,cat",
            "path,label",
            {},
            "{csv} has the class 'cat' only; training needs images of two or more",
        ),
        (
            GOOD + "\ne.png,eel",
            "path,label",
            {},
            "class 'eel' has one image ({csv} row 6); training and validation need one each: "
            "add images or remove the class",
        ),
        (
            "a.png,cat,p1\nb.png,cat,p1\nc.png,dog,p2\nd.png,dog,p3",
            "path,label,p",
            {"group": "p"},
            "class 'cat' is in one group only, 'p1' ({csv} row 2); training and validation need "
            "one each",
        ),
        (
            "a.png,cat,train\nb.png,cat,val\nc.png,dog,train\nd.png,dog,train",
            "path,label,split",
            {},
            "class 'dog' has images in train only ({csv} row 4); training and validation need the "
            "same classes",
        ),
        (
            "a.png,cat,train\nb.png,cat,val\nc.png,dog,test\nd.png,eel,val",
            "path,label,split",
            {},
            "class 'dog' has images in test only ({csv} row 4; 1 more); training and validation "
            "need the same classes",
        ),
        (
            "a.png,cat,train\nb.png,cat,vla",
            "path,label,split",
            {},
            "{csv} row 3 has an unknown split 'vla'; did you mean 'val'? (known: train, "
            "val, test, training, valid, validation, dev, testing).",
        ),
        ("a.png,cat,val", "path,label,split", {}, "{csv} has no images of split train"),
        ("a.png,cat,test", "path,label,split", {}, "{csv} has no training images"),
        (
            "a.png,cat,train,p1\nb.png,cat,val,p1",
            "path,label,split,p",
            {"group": "p"},
            "{csv} row 3 has the group 'p1' in val, but row 2 has it in train; correct them, or "
            "let `split_column` none split by group",
        ),
        (
            "a.png,cat,p1\nb.png,cat,",
            "path,label,p",
            {"group": "p"},
            "{csv} row 3 has no group in column 'p'",
        ),
        (
            "a.png,cat|dog",
            "path,label",
            {},
            "{csv} row 2 has several labels, 'cat|dog': set `multi_label`",
        ),
        (
            "a.png,1,0",
            "path,x,y",
            {"labels": ("x", "y")},
            "x, y are several label columns: set `multi_label`",
        ),
        (
            "a.png,1,0\nb.png,-1,0",
            "path,x,y",
            vars(BINARY),
            "{csv} row 3 has '-1' in column 'x'; it must be 1, 0, or blank for unknown",
        ),
        (
            "a.png,fluid\nb.png,",
            "path,findings",
            vars(FINDINGS),
            "{csv} row 3 has no label in column 'findings'; if that means none of the labels, set "
            "`empty_label` to ''",
        ),
        (
            "a.png,none|fluid",
            "path,findings",
            {**vars(FINDINGS), "empty_label": "none"},
            "{csv} row 2 has 'none', which means no label, beside others: 'none|fluid'",
        ),
        (
            "a.png,fluid|",
            "path,findings",
            vars(FINDINGS),
            "{csv} row 2 has an empty label in 'fluid|'",
        ),
        (
            "a.png,none",
            "path,findings",
            {**vars(FINDINGS), "empty_label": "none"},
            "column 'findings' of {csv} has no label, in no row; check `label_columns` and "
            "`empty_label`",
        ),
        (
            "a.png,group\nb.png,group",
            "path,findings",
            vars(FINDINGS),
            "{csv} has a label 'group', which is a column of the run's split.csv: rename it",
        ),
    ],
)
def test_bad_data_is_one_line_with_file_and_row(tmp_path, text, header, columns, line):
    path = make_csv(tmp_path, text, header)
    if not header:
        path.write_text("")
    assert message(path, columns=Columns(**columns)) == line.format(csv=path, root=tmp_path)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            b"path,label\na.png,caf\xe9\n",
            "row 2 is not UTF-8 (byte 0xe9); save the file as CSV UTF-8",
        ),
        (b"path,label\na.png,c\0t\n", "row 2 has a NUL byte; save the file as CSV UTF-8"),
        (
            "path,label\n".encode("utf-16"),
            "row 1 is not UTF-8 (byte 0xff); save the file as CSV UTF-8",
        ),
    ],
)
def test_other_encodings_are_one_line(tmp_path, content, line):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    assert message(path) == f"{path} {line}"


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    path = make_csv(tmp_path, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert open_folder(path).info.class_names == ("cat", "dog")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("linked", ["c.png", "sub"])
def test_links_must_stay_in_the_folder(tmp_path, inside, linked):
    path = make_csv(tmp_path / "data", GOOD.replace("c.png", "sub/c.png"))
    elsewhere = tmp_path / "data/more" if inside else tmp_path / "elsewhere"
    shutil.move(tmp_path / "data/sub", elsewhere)
    if linked == "sub":
        (tmp_path / "data/sub").symlink_to(elsewhere)
    else:
        (tmp_path / "data/sub").mkdir()
        (tmp_path / "data/sub/c.png").symlink_to(elsewhere / "c.png")
    if inside:
        assert open_folder(path).train_count == 2
        return
    assert message(path) == (
        f"{path} row 4 names {tmp_path}/data/sub/c.png, a link to {elsewhere}/c.png, which is "
        f"outside of {tmp_path}/data; copy the image into the folder"
    )


def test_missing_data(tmp_path):
    assert message(tmp_path / "labels.csv") == (
        f"no file {tmp_path}/labels.csv; name a .csv file or a folder of class folders"
    )
    assert message(tmp_path / "nowhere") == (
        f"no folder {tmp_path}/nowhere; name a folder of class folders or a .csv file"
    )
    assert message(tmp_path) == (
        f"{tmp_path} has no class folders; make a folder per class, or list path and label of the "
        "images in a .csv file"
    )


@pytest.mark.parametrize(
    ("flag", "columns"),
    [
        ("`path_column`", {"path": "image"}),
        ("`label_columns`", {"labels": ("kind",)}),
        ("`split_column`", {"split": None}),
        ("`group_column`", {"group": "p"}),
        ("`multi_label`", {"several_labels": True}),
        ("`empty_label`", {"empty_label": ""}),
    ],
)
def test_class_folders_have_no_columns(tmp_path, flag, columns):
    layout(tmp_path, **{"": {"a": 2}})
    line = f"{flag} is for a .csv file of paths and labels, not for class folders"
    assert message(tmp_path, columns=Columns(**columns)) == line
    line = "`image_dir` is for the images of a .csv file, not for class folders"
    assert message(tmp_path, image_dir=tmp_path) == line


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (
            {"": {"a": 3, "b": 1}},
            "class 'b' has one image ({root}/b/0.png); training and validation "
            "need one each: add images or remove the class",
        ),
        (
            {"train": {"a": 2, "b": 2}, "val": {"a": 1}},
            "class 'b' has images in train only "
            "({root}/train/b/0.png); training and validation need the same classes",
        ),
        (
            {"train": {"a": 2}, "val": {"a": 1, "b": 1}},
            "{root}/val/b is not one of the 1 classes (a, …); "
            "training and validation need the same classes",
        ),
        ({"val": {"a": 2}, "test": {"a": 1}}, "{root} has test and val, but no train; add one"),
        (
            {"train": {"a": 2}, "val": {"a": 2}, "valid": {"a": 1}},
            "{root} has two folders of the split val: val and valid; remove one",
        ),
    ],
)
def test_bad_folders_are_one_line(tmp_path, parts, line):
    assert message(layout(tmp_path, **parts)) == line.format(root=tmp_path)


def test_the_same_image_in_two_splits_is_a_warning(tmp_path, capsys):
    layout(tmp_path, train={"a": 3, "b": 3}, val={"a": 2, "b": 2})
    shutil.copy(tmp_path / "train/a/1.png", tmp_path / "val/a/1.png")
    shutil.copy(tmp_path / "train/b/1.png", tmp_path / "train/b/2.png")  # no harm
    open_folder(tmp_path)
    assert capsys.readouterr().err == (
        "warning: 1 image of one split also in another: val/a/1.png (val) is the same file as "
        "train/a/1.png (train); the validation is too optimistic\n"
    )


def test_a_label_of_one_split_is_a_warning(tmp_path, capsys):
    text = "a.png,x,train\nb.png,y|x,train\nc.png,x,val"
    path = make_csv(tmp_path, text, "path,findings,split")
    open_folder(path, columns=FINDINGS)
    assert capsys.readouterr().err == (
        f"warning: label 'y' is 1 in train only ({path} row 3); it cannot be both learned and "
        "evaluated\n"
    )
