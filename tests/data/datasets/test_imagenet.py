from __future__ import annotations

import shutil

import pytest
from support.images import make_folders

from gluondense.data.datasets.imagenet import open_images


@pytest.mark.parametrize("empty", [False, True])
def test_validation_without_a_class_of_the_training_set_is_refused(tmp_path, empty):
    for part in ("train", "val"):
        make_folders(tmp_path / part, classes=3, each=1)
    assert open_images(tmp_path).test_count == 3
    shutil.rmtree(tmp_path / "val/class1")
    if empty:
        (tmp_path / "val/class1").mkdir()
    with pytest.raises(
        ValueError, match=r"val has no images of 1 of 3 classes \(class1\); training"
    ):
        open_images(tmp_path)
