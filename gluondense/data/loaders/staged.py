# SPDX-License-Identifier: Apache-2.0
"""Several loaders, one after the other, as the epochs go on."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ...errors import check
from .base import Batch, Loader


class StagedLoader(Loader):
    """Loaders of the same images that each yield an equal share of the epochs.

    Such as small images first and larger ones later, which is called progressive resizing.

    Parameters
    ----------
    loaders
        Their batches have the same numbers of images.
    epochs
        Number of epochs, at least that of the loaders; later ones have the last loader.

    Raises
    ------
    ValueError
        If there are fewer epochs than loaders.

    References
    ----------
    Howard, "Training Imagenet in 3 hours for $25", fast.ai 2018; Tan and Le,
    "EfficientNetV2", section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from gluondense.data.loaders.array import ArrayLoader
    >>> arrays = np.zeros((4, 8, 8, 1), np.uint8), np.arange(4)
    >>> options = {"mean": (0.5,), "std": (0.5,)}
    >>> staged = StagedLoader([ArrayLoader(*arrays, 4, resize=n, **options) for n in (4, 8)], 4)
    >>> [next(staged.batches(epoch))[0].shape[2:] for epoch in range(4)]
    [(4, 4), (4, 4), (8, 8), (8, 8)]
    """

    def __init__(self, loaders: Sequence[Loader], epochs: int) -> None:
        rule = f"at least {len(loaders)}, the number of loaders"
        check("epochs", epochs, rule, epochs >= len(loaders))
        self._loaders, self._epochs = loaders, epochs

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self._loaders[0])

    def count(self, index: int) -> int:
        """Return the number of images in a batch, over all its parts."""
        return self._loaders[0].count(index)

    def _batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        stage = min(epoch, self._epochs - 1) * len(self._loaders) // self._epochs
        yield from self._loaders[stage].batches(epoch, start)
