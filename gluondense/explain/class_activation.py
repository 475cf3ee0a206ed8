# SPDX-License-Identifier: Apache-2.0
"""Class activation maps: which parts of an image are evidence for a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Union

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.ndarray import NDArray

from ..errors import check_known
from .cut import Cut, cut
from .grid import Grid
from .methods import GRADIENT_METHODS, METHODS, class_activation

Array = Union[np.ndarray, NDArray]
FLOAT16_SCALES = (1024, 1)


@dataclass(frozen=True)
class ClassActivation:
    """The class activation maps of images.

    Parameters
    ----------
    maps
        Activation of each cell of the feature map, float32 (N, h, w): logits per cell for
        ``"cam"``, at least 0 for the others. For several classes an image (N, T, h, w), for
        a single image without N.
    targets
        The classes that are explained, (N,) or (N, T).
    logits
        Outputs of the network, (N, classes).
    grid, size
        Positions of the cells in the image, and its size (H, W).
    method
        The method.
    """

    maps: np.ndarray
    targets: np.ndarray
    logits: np.ndarray
    grid: Grid
    size: tuple[int, int]
    method: str

    @property
    def heat(self) -> np.ndarray:
        """The maps at the size of the image, float32 (N, H, W) in [0, 1].

        Each map is divided by its maximum; negative values, and maps without a positive value, are
        0.
        """
        return self.grid.upsample(normalized(self.maps), self.size).astype(np.float32)


def normalized(maps: np.ndarray) -> np.ndarray:
    """Divide maps (..., h, w) by their maxima; negative values become 0.

    Examples
    --------
    >>> normalized(np.array([[[-1.0, 2.0]], [[-1.0, -2.0]]])).tolist()
    [[[0.0, 1.0]], [[0.0, 0.0]]]
    """
    positive = np.maximum(maps, 0)
    top = positive.max(axis=(-2, -1), keepdims=True)
    return np.divide(positive, top, out=np.zeros_like(positive), where=top > 0)


def cam(
    net: gluon.Block,
    image: Array,
    target: int | Sequence[int] | np.ndarray | None = None,
    method: str | None = None,
    stage: str | None = None,
    ctx: mx.Context | None = None,
) -> ClassActivation:
    """Compute class activation maps.

    Parameters
    ----------
    net
        A network of ``features``, a sequence of blocks, and ``output``: all of
        :func:`gluondense.get_model`, and most of GluonCV's and MXNet's. Or a loaded export with
        ``target="portable"``. Its parameters, their gradients and its statistics do not change.
    image
        What the network takes: images (N, C, H, W), or one (C, H, W); pixels (N, H, W, C) or
        (H, W, C) for an export with ``preprocess=True``.
    target
        Class to explain; a class for each image (N,), or several (N, T). None explains the most
        probable class of each image.
    method
        ``"cam"``, ``"gradcam"`` or ``"gradcam++"``; None for ``"cam"`` if the network allows it,
        else ``"gradcam"``. CAM is exact: the mean of the map and the bias are the logit. It needs
        the last feature map and global average pooling. Grad-CAM is then its positive part, divided
        by the number of cells.
    stage
        Name of a block of ``net.features``, such as ``"stage3"``, whose output is explained. None
        explains the last feature map, after the final BN-ReLU if the network has one.
    ctx
        Device of the network; MXNet's current context by default, as in :func:`predict`.

    Raises
    ------
    ValueError
        If an argument is invalid, the network has no feature maps or does not allow the method, or
        its outputs are not finite.

    Examples
    --------
    >>> import gluondense
    >>> net = gluondense.get_model("densenet_tutorial")
    >>> net.initialize()
    >>> found = cam(net, np.ones((2, 1, 96, 80), np.float32), target=3)
    >>> found.maps.shape, found.heat.shape, found.method
    ((2, 2, 2), (2, 96, 80), 'cam')
    """
    return cam_of(net, image, partial(_targets, target), method, stage, ctx)


def cam_of(
    net: gluon.Block,
    image: Array,
    choose: Callable[[np.ndarray], np.ndarray],
    method: str | None = None,
    stage: str | None = None,
    ctx: mx.Context | None = None,
) -> ClassActivation:
    """Compute the maps of the classes (N,) or (N, T) that ``choose`` returns for the logits.

    Otherwise as :func:`cam`.
    """
    if method is not None:
        check_known("method", method, METHODS)
    parts = cut(net, stage, ctx)
    method = method or ("cam" if parts.weight else "gradcam")
    if method == "cam" and parts.weight is None:
        raise ValueError(
            "method (='cam') needs the last feature map, global average pooling and a linear "
            "output: use 'gradcam' or 'gradcam++'."
        )
    pixels = bool(getattr(getattr(net, "metadata", None), "preprocess", False))
    x, is_single = _batch(net, image, pixels, ctx)
    activations, logits, maps, targets = _explain(parts, x, choose, method)
    if not np.isfinite(logits).all() or not np.isfinite(activations).all():
        raise ValueError("the network's outputs are not finite: check its weights and the images.")
    size = x.shape[1:3] if pixels else x.shape[2:]
    if is_single:
        maps, targets, logits = maps[0], targets[0], logits[0]
    return ClassActivation(maps.astype(np.float32), targets, logits, parts.grid, size, method)


def _batch(
    net: gluon.Block, image: Array, pixels: bool, ctx: mx.Context | None
) -> tuple[NDArray, bool]:
    """Return a batch on the device, in the dtype of the network, and whether it is one image."""
    if image.ndim not in (3, 4):
        raise ValueError(f"image (of shape {image.shape}) must be (C, H, W) or (N, C, H, W).")
    if not isinstance(image, NDArray):
        image = mx.nd.array(image, ctx=ctx, dtype=image.dtype)
    image = image.as_in_context(ctx or mx.current_context())
    if not pixels and not isinstance(net, gluon.SymbolBlock):
        image = image.astype(next(iter(net.collect_params().values())).dtype)
    is_single = image.ndim == 3
    image = image.expand_dims(0) if is_single else image
    if hasattr(net, "check_image_shape"):
        net.check_image_shape(image.shape)
    return image, is_single


def _explain(
    parts: Cut, x: NDArray, choose: Callable[[np.ndarray], np.ndarray], method: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return feature maps, logits, maps and targets."""
    with autograd.pause(train_mode=False):
        features = parts.lower(x)
    if features.ndim != 4:
        raise ValueError(f"the stage gives {features.shape}, not a feature map (N, C, h, w).")
    features.attach_grad()
    with autograd.record(train_mode=False):
        output = parts.upper(features)
    logits, activations = _numpy(output), _numpy(features)
    targets = choose(logits)
    columns = targets.reshape(len(logits), -1).T
    if method == "cam":
        assert parts.weight is not None
        weight = _numpy(parts.weight())
        found = [class_activation(activations, weight[column]) for column in columns]
    else:
        compute = GRADIENT_METHODS[method]
        found = [compute(activations, _gradients(output, features, column)) for column in columns]
    maps = np.stack(found, axis=1)
    return activations, logits, maps.reshape(*targets.shape, *maps.shape[2:]), targets


def _gradients(output: NDArray, features: NDArray, classes: np.ndarray) -> np.ndarray:
    """Return the gradients of a logit of each image with respect to the feature map.

    In float16 the logits are scaled, because gradients of large feature maps would underflow; not
    if the scaled gradients overflow.
    """
    head = np.zeros(output.shape, np.float32)
    for scale in FLOAT16_SCALES if output.dtype == np.float16 else (1,):
        head[np.arange(len(classes)), classes] = scale
        heads = mx.nd.array(head, output.context, output.dtype)
        # Does not write to the gradients of the parameters, as backward() would.
        (gradient,) = autograd.grad(
            [output], [features], [heads], retain_graph=True, train_mode=False
        )
        found = _numpy(gradient) / scale
        if np.isfinite(found).all():
            return found
    raise ValueError("the gradients are not finite: check the network's weights.")


def _targets(target: Any, logits: np.ndarray) -> np.ndarray:
    count, classes = logits.shape
    if target is None:
        return logits.argmax(axis=1)
    targets = np.asarray(target)
    if targets.ndim == 0:
        targets = np.repeat(targets, count)
    valid = targets.dtype.kind in "iu" and targets.ndim <= 2 and len(targets) == count
    if not valid or (targets < 0).any() or (targets >= classes).any():
        raise ValueError(
            f"target (={target!r}) must be a class from 0 to {classes - 1}, or a class or several "
            f"for each of the {count} images."
        )
    return targets


def _numpy(array: NDArray) -> np.ndarray:
    return array.asnumpy().astype(np.float32)
