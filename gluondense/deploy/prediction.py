# SPDX-License-Identifier: Apache-2.0
"""Classification of image files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..data.files.image import read_image
from ..data.transforms.batch import normalize
from ..errors import check


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image in descending order, with their probabilities."""

    image: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


def predict(
    net: gluon.HybridBlock,
    images: Iterable[str | os.PathLike[str]],
    input_shape: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    class_names: Sequence[str] | None = None,
    top: int = 5,
    invert: bool = False,
    ctx: mx.Context | None = None,
) -> list[Prediction]:
    """Classify image files.

    Parameters
    ----------
    net
        A network that returns logits (N, classes), or a loaded export with any pre- and
        post-processing.
    images
        Paths. All files are read before the first is classified.
    input_shape
        (N, C, H, W). Images are converted to C channels and resized to (H, W).
    mean, std
        Normalization of pixels scaled to [0, 1], a number per channel.
    class_names
        A label for each class; the index of the class if None.
    top
        Number of classes to return.
    invert
        Whether to invert the pixels first, for dark objects on a light background: Fashion-MNIST
        and digits are light on dark.
    ctx
        Device of the network; MXNet's current context by default.

    Raises
    ------
    FileNotFoundError
        If an image is missing.
    ValueError
        If an image cannot be decoded, an argument is invalid, or the network returns features.

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
    check("top", top, "at least 1", top >= 1)
    files = [os.fspath(image) for image in images]
    _, channels, height, width = input_shape
    pixels = [read_image(file, channels, (height, width)) for file in files]
    if invert:
        pixels = [255 - image for image in pixels]
    metadata = getattr(net, "metadata", None)
    if not getattr(metadata, "preprocess", False):
        pixels = [normalize(image[None], mean, std)[0] for image in pixels]
    output = getattr(metadata, "output", "logits")
    return [
        _top_classes(file, _probabilities(net, data[None], ctx, output), class_names, top)
        for file, data in zip(files, pixels)
    ]


def _probabilities(
    net: gluon.HybridBlock, data: np.ndarray, ctx: mx.Context | None, output: str
) -> np.ndarray:
    outputs = net(mx.nd.array(data, ctx=ctx, dtype=data.dtype))
    if isinstance(outputs, (list, tuple)) or outputs.ndim != 2 or output == "features":
        raise ValueError("the network gives features, not classes: use one with an output.")
    outputs = outputs.astype("float32")
    return (outputs if output == "probabilities" else outputs.softmax()).asnumpy()[0]


def _top_classes(
    file: str, probabilities: np.ndarray, class_names: Sequence[str] | None, top: int
) -> Prediction:
    order = np.argsort(-probabilities, kind="stable")[:top].tolist()
    labels = tuple(class_names[index] if class_names else str(index) for index in order)
    return Prediction(file, labels, tuple(float(probabilities[index]) for index in order))
