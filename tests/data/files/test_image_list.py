from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.images import make_folders

from gluondense.data.files.image_list import (
    list_flat,
    list_folders,
    list_from_file,
    read_list_file,
)
from gluondense.data.files.sources import FolderSource


def test_read_list_file(tmp_path):
    path = tmp_path / "a.lst"
    path.write_text("5\t2.000000\tcat/a b.jpg\n\n7\t0\tdog/c.jpg\n")
    assert list(read_list_file(path)) == [(5, 2.0, "cat/a b.jpg"), (7, 0.0, "dog/c.jpg")]
    for line in ("5 2 a.jpg", "5\ttwo\ta.jpg", "5\t1\t2\ta.jpg"):
        path.write_text(line + "\n")
        with pytest.raises(ValueError, match=r"line 1 of .* is not number, label and path"):
            list(read_list_file(path))


def names_of(images):
    return [images.name(index) for index in range(len(images))]


def test_each_real_folder_of_a_class_is_visited_once(tmp_path, capsys):
    make_folders(tmp_path / "train", classes=2, each=1)
    make_folders(tmp_path / "elsewhere", classes=1, each=1)
    class0 = tmp_path / "train/class0"
    (class0 / "loop").symlink_to(class0)
    (class0 / "up").symlink_to(tmp_path / "train")  # has the images of other classes
    (class0 / "more").symlink_to(tmp_path / "elsewhere")
    images = list_folders(tmp_path / "train")
    assert names_of(images) == ["class0/0.jpg", "class0/more/class0/0.jpg", "class1/0.jpg"]
    assert images.labels.tolist() == [0, 0, 1]
    error = capsys.readouterr().err
    assert f"skipped {class0}/loop (leads to {class0}, already listed) and 1 more\n" in error
    assert error.count("\n") == 1


def test_a_link_to_a_folder_that_contains_it_is_not_followed(tmp_path, capsys):
    make_folders(tmp_path / "train", classes=2, each=1)
    make_folders(tmp_path / "val", classes=2, each=1)
    make_folders(tmp_path / "pool", classes=2, each=1)
    (tmp_path / "train/class0/data").symlink_to(tmp_path)  # would make val training images
    (tmp_path / "train/class2").symlink_to(tmp_path / "pool/class0")
    (tmp_path / "pool/class0/pool").symlink_to("..")
    images = list_folders(tmp_path / "train")
    assert names_of(images) == ["class0/0.jpg", "class1/0.jpg", "class2/0.jpg"]
    line = (
        f"skipped {tmp_path}/train/class0/data (leads to {tmp_path}, which contains it) and 1 more"
    )
    assert line in capsys.readouterr().err


def test_images_keep_the_real_path_beside_a_link_to_their_folder(tmp_path):
    make_folders(tmp_path / "train/class0", classes=1, each=1)
    (tmp_path / "train/class0/a").symlink_to("class0")
    (tmp_path / "train/class0/b").mkdir()
    (tmp_path / "train/class0/b/deep").mkdir()
    (tmp_path / "train/class0/b/deep/1.jpg").touch()
    (tmp_path / "train/class0/c").symlink_to("b/deep")
    assert names_of(list_folders(tmp_path / "train")) == [
        "class0/b/deep/1.jpg",
        "class0/class0/0.jpg",
    ]


def test_linked_folders_are_listed_as_others(tmp_path):
    make_folders(tmp_path / "real", classes=1, each=1)
    (tmp_path / "train").symlink_to("real")
    (tmp_path / "real/class1").symlink_to("class0")
    assert names_of(list_folders(tmp_path / "train")) == ["class0/0.jpg", "class1/0.jpg"]


def test_only_regular_files_are_images(tmp_path, capsys):
    make_folders(tmp_path / "train", classes=1, each=1)
    class0 = tmp_path / "train/class0"
    os.mkfifo(class0 / "pipe.jpg")
    (class0 / "null.jpg").symlink_to(os.devnull)
    (class0 / "linked.jpg").symlink_to("0.jpg")
    (class0 / "broken.jpg").symlink_to("nowhere")  # listed, so that training names it
    (class0 / "itself.jpg").symlink_to("itself.jpg")
    expected = ["0.jpg", "broken.jpg", "itself.jpg", "linked.jpg"]
    assert [Path(name).name for name in names_of(list_folders(tmp_path / "train"))] == expected
    stems = {Path(name).stem: 0 for name in expected}
    assert [os.fsdecode(name) for name in list_flat(class0, stems)[0]] == expected
    line = f"warning: skipped {class0}/null.jpg (not a regular file) and 1 more\n"
    assert capsys.readouterr().err == 2 * line


def test_a_fifo_in_a_list_file_is_refused_when_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "a.lst").write_text("0\t0\tpipe.jpg\n")
    images = list_from_file(tmp_path, tmp_path / "a.lst")
    with pytest.raises(ValueError, match=r"pipe\.jpg is not a regular file"):
        FolderSource(images).read(0)
