"""Fixtures of the tests that start multi-model-server."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support.paths import SHARED
from support.served import write_archives


@pytest.fixture(scope="package")
def image_files(tmp_path_factory):
    """Photographs of the shared folder, if it exists, or generated images."""
    found = sorted((SHARED / "data" / "imagenet-sample").rglob("*.JPEG"))[:24]
    if found:
        return found
    folder, random = tmp_path_factory.mktemp("image_files"), np.random.default_rng(0)
    for number in range(24):
        small = random.integers(0, 256, (9, 12, 3)).astype("uint8")
        found.append(folder / f"{number}.jpg")
        Image.fromarray(small).resize((400, 300)).save(found[-1])
    return found


@pytest.fixture(scope="package")
def store(tmp_path_factory, native_operator):
    """A folder with an archive of every family and target."""
    return write_archives(tmp_path_factory.mktemp("store"))
