"""Record files of gluondense 0.1.0 are read, and today's are the same bytes.

Made by the commit b7bc92e: `make_recordio.py small images --pass-through`, of four images.
"""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image
from support.paths import ROOT

from gluondense.commands import make_recordio
from gluondense.data.datasets.imagenet import decode_images
from gluondense.data.files.sources import RecordSource, record_class_names
from gluondense.data.preprocessing import Preprocessing


@pytest.fixture
def folder(tmp_path):
    with zipfile.ZipFile(ROOT / "tests" / "files" / "records-0.1.0.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path


def test_images_labels_and_classes_are_read(folder):
    source = RecordSource(folder / "small.rec")
    assert record_class_names(folder / "small.rec") == ("cat", "dog")
    names = [line.split("\t")[2] for line in (folder / "small.lst").read_text().splitlines()]
    assert len(source) == len(names) == 4
    for index, name in enumerate(names):
        image = np.asarray(Image.open(folder / "images" / name))
        whole = Preprocessing.stretched((0.0,) * 3, (1.0,) * 3, image.shape[:2])
        np.testing.assert_array_equal(decode_images(source, np.array([index]), whole)[0], image)
        assert source.read(index).label == ("cat", "dog").index(name.split("/")[0])


def test_the_same_bytes_are_written(folder):
    arguments = [str(folder / "again"), str(folder / "images"), "--pass-through", "--no-progress"]
    assert make_recordio.main(arguments) == 0
    for suffix in (".rec", ".idx", ".lst", ".classes.txt"):
        before = (folder / f"small{suffix}").read_bytes()
        assert (folder / f"again{suffix}").read_bytes() == before, suffix
