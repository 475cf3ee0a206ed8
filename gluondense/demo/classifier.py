# SPDX-License-Identifier: Apache-2.0
"""A network that answers for one image at a time: its classes, the time, and why."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np

from ..analysis.predictions import task_of
from ..deploy.prediction import Prediction, predict
from ..evaluation.model import open_model
from ..explain.images import explain_images

EXPLAINED = 3  # classes of an image


@dataclass(frozen=True)
class Answer:
    """The prediction for an image, and the latency of the network alone in seconds."""

    prediction: Prediction
    seconds: float


class Classifier:
    """A run, an export or published weights, opened once; answers as ``gluondense predict`` does.

    Parameters
    ----------
    name
        A run's folder, a checkpoint's, an export (its prefix or one of its files), or a name such
        as ``"densenet121.tv_in1k"`` of ``WEIGHTS``.
    **fields
        Fields of the preprocessing to change, see :func:`gluondense.data.overrides.adjust`.

    Raises
    ------
    OSError, ValueError
        If the model cannot be opened or is a detector, its preprocessing is unknown, or a field is
        invalid.
    """

    def __init__(self, name: str, **fields: Any) -> None:
        model = open_model(name, [mx.cpu()]).adjusted(**fields)
        if task_of(model.net) == "detection":
            raise ValueError(
                f"{name} is a detector, but the page shows classes: use `gluondense predict --out`."
            )
        self.model, self.preprocessing = model, model.known_preprocessing()
        self._net = _Timed(model.net)
        self._lock = threading.Lock()  # a block of Gluon is not thread-safe
        # The first call is slower.
        zeros = np.zeros((1, *self.preprocessing.size, self.preprocessing.channels), np.uint8)
        if not model.takes_pixels:
            zeros = self.preprocessing.normalize(zeros)
        self._net(mx.nd.array(zeros, dtype=zeros.dtype))

    def __call__(self, image: str | os.PathLike[str], top: int | None = None) -> Answer:
        """Classify an image file; ``top`` is as in :func:`gluondense.deploy.predict`.

        Raises
        ------
        OSError, ValueError
            If it is not a readable image.
        """
        names, preprocessing = self.model.class_names, self.preprocessing
        with self._lock:
            (found,) = predict(
                self._net, [image], class_names=names, top=top, preprocessing=preprocessing
            )
            assert isinstance(found, Prediction)
            return Answer(found, self._net.seconds)

    def explain(self, image: str | os.PathLike[str]) -> dict[str, np.ndarray]:
        """Return class activation maps over the image, uint8 (H, W, 3), by the most probable class.

        Raises
        ------
        OSError, ValueError
            If it is not a readable image, or the export has no feature maps.
        """
        names, preprocessing = self.model.class_names, self.preprocessing
        with self._lock:
            (found,) = explain_images(self.model.net, [image], preprocessing, names, top=EXPLAINED)
        return dict(zip(found.explained, found.overlays()))


class _Timed:
    """A block that measures its last call, from an input in memory to an output in memory."""

    def __init__(self, net: Any) -> None:
        self._net, self.seconds = net, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._net, name)

    def __call__(self, data: mx.nd.NDArray) -> Any:
        data.wait_to_read()
        began = time.perf_counter()
        outputs = self._net(data)
        for output in outputs if isinstance(outputs, (list, tuple)) else (outputs,):
            output.wait_to_read()
        self.seconds = time.perf_counter() - began
        return outputs
