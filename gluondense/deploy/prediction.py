# SPDX-License-Identifier: Apache-2.0
"""Predictions for image files: one class per image, several labels, or boxes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis.label_metrics import DEFAULT_THRESHOLD
from ..analysis.tasks import ACTIVATIONS, TASKS, check_classes, task_of
from ..data.detections import THRESHOLD
from ..data.overrides import adjust
from ..data.preprocessing import Preprocessing
from ..errors import check, check_known, check_range

if TYPE_CHECKING:
    import mxnet as mx

    from .detection import Detection

TOP = 5  # classes of an image


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image in descending order, with their probabilities.

    Parameters
    ----------
    image
        Path of the image.
    labels, probabilities
        Names and probabilities.
    present, thresholds
        For multi-label predictions: whether the probability of each label reaches its threshold,
        and the thresholds. None for classes.
    """

    image: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    present: tuple[bool, ...] | None = None
    thresholds: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are not None, ready for JSON."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}


def predict(
    net: Any,
    images: Iterable[str | os.PathLike[str]],
    input_shape: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    top: int | None = None,
    invert: bool | None = None,
    ctx: mx.Context | None = None,
    preprocessing: Preprocessing | None = None,
    task: str | None = None,
    thresholds: Sequence[float] | None = None,
    threshold: float | None = None,
) -> list[Prediction] | list[Detection]:
    """Classify image files, or predict several labels or the boxes of each.

    Parameters
    ----------
    net
        A network that returns logits (N, classes), or a loaded export with any pre- and
        post-processing, also one of :mod:`gluondense.runtime`.
    images
        Paths. All files are read before the first is classified.
    input_shape, mean, std, invert
        Fields of the preprocessing to change: (N, C, H, W), of which H and W are the size;
        normalization; whether to invert the pixels.
    class_names
        A label for each class; by default those of the export, else the indices of the classes.
    top
        Number of classes to return; by default 5, for multi-label networks all. For detectors,
        the largest number of boxes; by default all.
    ctx
        Device of the network; MXNet's current context by default.
    preprocessing
        How an image becomes the network's input; by default that of the export, run or published
        weights. If none of them knows it, ``input_shape``, ``mean`` and ``std`` are necessary, and
        both sides of an image are resized.
    task, thresholds
        ``"classification"``, or ``"multi_label"`` with the probability from which on each label is
        present; by default those of the export or run, else ``"classification"`` and 0.5. Or
        ``"detection"``.
    threshold
        For detectors: smallest probability of a box, by default 0.5.

    Returns
    -------
    list
        A :class:`Prediction` of each image, or of detectors a :class:`.detection.Detection`, whose
        boxes are in pixels of the original image.

    Raises
    ------
    FileNotFoundError
        If an image is missing.
    ValueError
        If an image cannot be decoded, an argument is invalid, the preprocessing is unknown, or the
        network returns features.

    Examples
    --------
    >>> import gluondense, tempfile
    >>> from PIL import Image
    >>> net = gluondense.get_model("densenet_tutorial", classes=7)
    >>> net.initialize()
    >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
    ...     Image.new("L", (40, 30)).save(file.name)
    ...     result = predict(net, [file.name], (1, 1, 64, 64), (0.5,), (0.5,), top=3)
    >>> len(result[0].labels)
    3
    """
    check("top", top, "at least 1", top is None or top >= 1)
    files = [os.fspath(image) for image in images]
    metadata = getattr(net, "metadata", None)
    known = preprocessing or getattr(metadata or net, "preprocessing", None)
    size = tuple(input_shape[2:]) if input_shape is not None else None
    found = adjust(known, mean=mean, std=std, input_size=size, invert=invert)
    if found is None:
        raise ValueError("the network's preprocessing is unknown: pass preprocessing=.")
    task = task or task_of(net)
    check_known("task", task, TASKS)
    names = class_names or getattr(metadata, "class_names", None)
    if task == "detection":
        names = names or getattr(net, "class_names", None)
        limit = THRESHOLD if threshold is None else threshold
        check_range("threshold", limit, 0, 1)
        from .detection import detect

        return detect(net, files, found, names, limit, top, ctx)
    check("threshold", threshold, "None unless the network is a detector", threshold is None)
    inputs = [found.pixels(file)[None] for file in files]
    if not getattr(metadata, "preprocess", False):
        inputs = [found.normalize(pixels) for pixels in inputs]
    if thresholds is None:
        thresholds = getattr(metadata or net, "thresholds", None)
    predictions = []
    for file, data in zip(files, inputs):
        probabilities = _probabilities(net, data, task, ctx)[0]
        if task == "multi_label":
            predictions.append(_labels(file, probabilities, names, top, thresholds))
        else:
            predictions.append(_top_classes(file, probabilities, names, top or TOP))
    return predictions


def _probabilities(net: Any, data: np.ndarray, task: str, ctx: mx.Context | None) -> np.ndarray:
    """Return the probabilities (N, classes) of a batch."""
    if getattr(net, "takes_arrays", False):  # of gluondense.runtime, which needs no MXNet
        outputs = net(data)
        check_classes(net, outputs)
        return outputs if net.metadata.output == "probabilities" else ACTIVATIONS[task](outputs)
    import mxnet as mx

    from ..analysis.predictions import to_probabilities

    return to_probabilities(net, net(mx.nd.array(data, ctx=ctx, dtype=data.dtype)), task).asnumpy()


def _top_classes(
    file: str, probabilities: np.ndarray, class_names: Sequence[str] | None, top: int
) -> Prediction:
    order = np.argsort(-probabilities, kind="stable")[:top].tolist()
    labels = tuple(class_names[index] if class_names else str(index) for index in order)
    return Prediction(file, labels, tuple(float(probabilities[index]) for index in order))


def _labels(
    file: str,
    probabilities: np.ndarray,
    class_names: Sequence[str] | None,
    top: int | None,
    thresholds: Sequence[float] | None,
) -> Prediction:
    """Return the labels in descending order of their probabilities, all unless ``top`` is given."""
    found = _top_classes(file, probabilities, class_names, top or len(probabilities))
    order = np.argsort(-probabilities, kind="stable")[: len(found.labels)]
    if thresholds is None:
        thresholds = (DEFAULT_THRESHOLD,) * len(probabilities)
    rule = f"one for each of the {len(probabilities)} labels"
    check("thresholds", tuple(thresholds), rule, len(thresholds) == len(probabilities))
    limits = np.asarray(thresholds)
    present = tuple((probabilities >= limits)[order].tolist())
    return dataclasses.replace(found, present=present, thresholds=tuple(limits[order].tolist()))
