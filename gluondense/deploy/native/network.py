# SPDX-License-Identifier: Apache-2.0
"""A native export without MXNet, as a function of NumPy arrays.

Model archives contain a copy of this module, so it imports only modules that archives contain too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...analysis.tasks import ACTIVATIONS
from ...data.preprocessing import Preprocessing
from ...errors import check
from .library import NativeProgram


class NativeNetwork:
    """A native export: its program, with the pre- and post-processing of its graph.

    Parameters
    ----------
    prefix
        Prefix of the export's files, which were compared with their checksums. The library is
        executed.
    metadata
        The content of the export's JSON.

    Raises
    ------
    ValueError
        If the library is of an older gluondense or does not run here, or the graph has operators
        that need MXNet.
    """

    def __init__(self, prefix: str, metadata: Mapping[str, Any]) -> None:
        self._program = NativeProgram(prefix, metadata["sha256"]["library"])
        self._normalization = None
        if metadata["preprocess"]:
            self._normalization = Preprocessing.from_dict(metadata["preprocessing"])
        self._activation = None
        if metadata["output"] == "probabilities":
            self._activation = ACTIVATIONS[metadata["task"]]

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Return the outputs of the export's graph for its input; a ValueError if it is invalid."""
        images = np.asarray(images)
        check("the shape of images", images.shape, "of 4 dimensions", images.ndim == 4)
        if self._normalization is not None:
            images = self._normalization.normalize(images)
        outputs = self._program(images)
        if self._activation is not None:
            outputs = [self._activation(outputs[0])]
        return outputs
