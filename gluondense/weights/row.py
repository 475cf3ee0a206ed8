# SPDX-License-Identifier: Apache-2.0
"""A row of the catalog of published weights."""

from __future__ import annotations

import dataclasses

from ..data.preprocessing import IMAGENET, Preprocessing

BICUBIC = dataclasses.replace(IMAGENET, interpolation="bicubic")
HUB_FILE = "pytorch_model.bin"


@dataclasses.dataclass(frozen=True)
class Weights:
    """Published weights of one network.

    Parameters
    ----------
    model, tag
        The network's name; its weights' author or recipe, and training data, as timm has it.
    urls
        URLs of the file, tried in this order; none if it is in the package.
    sha256
        The file's SHA-256: 64 digits, or the first ones if the publisher gives no more. Empty if it
        is in the file's Git LFS pointer on the Hugging Face Hub.
    top1, top5
        Published accuracies in %; None if the source has none.
    preprocessing, license
        The preprocessing of the images; the license of the publisher's repository.
    eps, classes
        The eps of the batch normalizations in training; the number of outputs.
    dataset
        The key in ``gluondense.data.DATASETS`` of the data whose classes the outputs are.
    """

    model: str
    tag: str
    urls: tuple[str, ...]
    sha256: str
    top1: float
    top5: float | None
    preprocessing: Preprocessing = BICUBIC
    license: str = "Apache-2.0"
    eps: float = 1e-5
    classes: int = 1000
    dataset: str = "imagenet"

    @property
    def name(self) -> str:
        """The key in ``WEIGHTS``."""
        return f"{self.model}.{self.tag}"

    @property
    def file_name(self) -> str:
        """Name in the cache and in mirrors: the publisher's, but ``NAME.bin`` for the Hub's.

        ``NAME.safetensors`` in the package.
        """
        if not self.urls:
            return f"{self.name}.safetensors"
        name = self.urls[0].rsplit("/", 1)[-1]
        return f"{self.name}.bin" if name == HUB_FILE else name
