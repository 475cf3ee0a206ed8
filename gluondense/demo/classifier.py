# SPDX-License-Identifier: Apache-2.0
"""A network that answers for one image at a time, with the time that it took."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mxnet as mx

from ..data.preprocessing import adjust
from ..deploy.artifact import load_exported
from ..deploy.prediction import Prediction, predict
from ..training.checkpoint import load


@dataclass(frozen=True)
class Answer:
    """The prediction for an image, and the latency of the network alone in seconds."""

    prediction: Prediction
    seconds: float


class Classifier:
    """A trained run or an export, opened once; its answers are those of ``gluondense predict``.

    Parameters
    ----------
    name
        A run's folder, a checkpoint's, or an export: its prefix or one of its files.
    invert
        Whether to invert the pixels first; None does as the run or the export says.

    Raises
    ------
    OSError, ValueError
        If the model cannot be opened.
    """

    def __init__(self, name: str, invert: bool | None = None) -> None:
        self.name = name
        if Path(name).is_dir():
            saved: Any = load(name)
            net = saved.network()
            net.hybridize(static_alloc=True, static_shape=True)
            self.model, self.kind = saved.model_name, f"epoch {saved.epoch}"
        else:
            net = load_exported(name)
            saved = net.metadata
            self.model, self.kind = saved.model or Path(name).name, f"target {saved.target}"
        preprocessing = adjust(saved.preprocessing, invert=invert)
        if preprocessing is None:
            raise ValueError(f"{name} was exported without its preprocessing: export it with it.")
        self.preprocessing = preprocessing
        self.input_shape, self.class_names = saved.input_shape, saved.class_names
        self.task, self.thresholds = saved.task, saved.thresholds
        self._net = _Timed(net)
        self._lock = threading.Lock()  # a block of Gluon is not thread-safe
        self._net(_zeros(self._net.metadata, self.input_shape))  # the first call is slower

    def __call__(self, image: str | os.PathLike[str], top: int = 5) -> Answer:
        """Classify an image file.

        Raises
        ------
        OSError, ValueError
            If it is not a readable image, or the network returns no classes.
        """
        with self._lock:
            prediction = predict(
                self._net,
                [image],
                class_names=self.class_names,
                top=top,
                preprocessing=self.preprocessing,
                task=self.task,
                thresholds=self.thresholds,
            )[0]
            return Answer(prediction, self._net.seconds)


def _zeros(metadata: Any, shape: tuple[int, ...]) -> mx.nd.NDArray:
    """Return an input of one image."""
    _, channels, height, width = shape
    if getattr(metadata, "preprocess", False):
        return mx.nd.zeros((1, height, width, channels), dtype="uint8")
    return mx.nd.zeros((1, channels, height, width))


class _Timed:
    """A block that measures its last call, from an input in memory to an output in memory."""

    def __init__(self, net: Any) -> None:
        self._net, self.seconds = net, 0.0
        self.metadata = getattr(net, "metadata", None)

    def __call__(self, data: mx.nd.NDArray) -> Any:
        data.wait_to_read()
        began = time.perf_counter()
        outputs = self._net(data)
        for output in outputs if isinstance(outputs, (list, tuple)) else (outputs,):
            output.wait_to_read()
        self.seconds = time.perf_counter() - began
        return outputs
