# SPDX-License-Identifier: Apache-2.0
"""Read SVHN, digits of house numbers, from the .mat files of its cropped digits.

References
----------
Netzer et al.: "Reading Digits in Natural Images with Unsupervised Feature Learning",
http://ufldl.stanford.edu/housenumbers/
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ...download.file import cache_folder
from ...errors import in_one_line

TRAIN, EXTRA, TEST = (f"{part}_32x32.mat" for part in ("train", "extra", "test"))


def load(
    data_dir: str | os.PathLike[str] | None = None, root: str | os.PathLike[str] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images uint8 (N, 32, 32, 3) and labels int32 (N,): training, then test.

    If the file of the 531,131 additional training images exists, they are included, as in the
    papers' results. The arrays then need 2 GB. ``data_dir`` contains the ``.mat`` files; ``root``
    is that of :func:`gluondense.data.load_dataset`, which lists the errors too.
    """
    if data_dir is None:
        data_dir = cache_folder("datasets", root) / "svhn"
    folder = Path(data_dir)
    parts = [TRAIN] + [EXTRA] * (folder / EXTRA).is_file()
    images, labels = (np.concatenate(column) for column in zip(*(_read(folder / p) for p in parts)))
    return (images, labels, *_read(folder / TEST))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    # Imported here because few runs need SciPy.
    from scipy.io import loadmat

    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}; get {TRAIN}, {TEST} and {EXTRA} from "
            "http://ufldl.stanford.edu/housenumbers/ and give their folder as `data_dir`"
        )
    try:
        content = loadmat(path)
        images, labels = content["X"], content["y"].ravel()
    except Exception as error:  # SciPy raises any exception for a damaged file
        raise ValueError(
            f"{path} is not a valid .mat file of SVHN ({in_one_line(error)}); get it again"
        ) from None
    if images.shape[:3] != (32, 32, 3) or images.shape[3] != len(labels) or labels.max() > 10:
        raise ValueError(
            f"{path} has X {images.shape} and y {labels.shape}, not SVHN's cropped digits"
        )
    # In the files the label of the digit 0 is 10.
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), (labels % 10).astype(np.int32)
