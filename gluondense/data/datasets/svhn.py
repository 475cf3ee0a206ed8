"""SVHN, house numbers, from its cropped digits' .mat files.

References
----------
Netzer et al.: "Reading Digits in Natural Images with Unsupervised Feature Learning",
http://ufldl.stanford.edu/housenumbers/
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ...download import cache_folder

TRAIN, EXTRA, TEST = (f"{part}_32x32.mat" for part in ("train", "extra", "test"))


def load(
    data_dir: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images uint8 (N, 32, 32, 3) and labels int32 (N,): training, then test.

    The 531,131 additional training images are taken, too, where their file is: the papers' figures
    are those of both. With them the arrays need 2 GB.

    Parameters
    ----------
    data_dir
        Folder with the ``.mat`` files.
    root
        Where to look without: ``$MXNET_HOME/datasets`` by default.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If one is not what it should be.
    """
    if data_dir is None:
        data_dir = cache_folder("datasets", root) / "svhn"
    folder = Path(data_dir)
    parts = [TRAIN] + [EXTRA] * (folder / EXTRA).is_file()
    images, labels = (np.concatenate(column) for column in zip(*(_read(folder / p) for p in parts)))
    return (images, labels, *_read(folder / TEST))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    # Imported here, for few runs need it.
    from scipy.io import loadmat

    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}; get {TRAIN}, {TEST} and {EXTRA} of "
            "http://ufldl.stanford.edu/housenumbers/ and give their folder as --data-dir"
        )
    try:
        content = loadmat(path)
        images, labels = content["X"], content["y"].ravel()
    except Exception as error:  # scipy raises what it meets: of a damaged file that is anything
        raise ValueError(f"{path} is no sound .mat file of SVHN ({error})") from None
    if images.shape[:3] != (32, 32, 3) or images.shape[3] != len(labels) or labels.max() > 10:
        raise ValueError(
            f"{path} holds X {images.shape} and y {labels.shape}, not SVHN's cropped digits"
        )
    # The files call the digit 0 class 10.
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), (labels % 10).astype(np.int32)
