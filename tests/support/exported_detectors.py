"""Small detectors with spread scores, and how boxes of two detectors are compared."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from PIL import Image

from gluondense.environment.process import import_gluoncv
from support.detectors import CLASSES, detector

SIDE = 96


def gluoncv_detector():
    """GluonCV's smallest YOLOv3, with its own neck, mean and std of no data set."""
    zoo = import_gluoncv().model_zoo
    return spread(
        zoo.get_model("yolo3_mobilenet0.25_custom", classes=list(CLASSES), pretrained_base=False)
    )


def own_detector(**fields):
    return spread(detector(**fields))


# Three scales, with all operators of the necks: resampling in both directions, Maxout, SAM, SPP.
NETS = {
    "efm": own_detector,
    "gfm-spp": lambda: own_detector(fusion="gfm", spp=True, attention=None),
    "gluoncv": gluoncv_detector,
}


def spread(net, seed=1):
    """Give a detector random values, so that no two boxes have nearly the same score."""
    net.initialize(force_reinit=True)
    net(mx.nd.zeros((1, 3, SIDE, SIDE)))
    random = np.random.default_rng(seed)
    for name, parameter in net.collect_params().items():
        shape = parameter.shape
        if isinstance(parameter, mx.gluon.Constant):
            continue
        if name.endswith(("running_var", "gamma")):
            value = 1 + 0.1 * random.standard_normal(shape)
        elif name.endswith("weight"):
            value = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
            value *= (
                0.5 if "prediction" in name or "yolooutput" in name else 1
            )  # boxes of some pixels
        else:
            value = 0.3 * random.standard_normal(shape)
        parameter.set_data(mx.nd.array(value))
    return net


def images(*shape, seed=3):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def rows(outputs):
    """Concatenate ids, scores and boxes to (N, K, 6)."""
    return np.concatenate([out.asnumpy() for out in outputs], axis=2)


def assert_same_boxes(got, wanted, pixels=1e-3):
    """Compare (N, K, 6): the same boxes in the same order, up to rounding."""
    assert got.shape == wanted.shape
    np.testing.assert_array_equal(got[..., 0], wanted[..., 0])
    np.testing.assert_allclose(got[..., 1], wanted[..., 1], atol=1e-5)
    np.testing.assert_allclose(got[..., 2:], wanted[..., 2:], rtol=1e-5, atol=pixels)


def write_photographs(folder):
    """Write images of odd sizes, wide and tall."""
    random = np.random.default_rng(0)
    paths = []
    for number, size in enumerate([(131, 97), (75, 201), (320, 240)]):
        small = random.integers(0, 256, (9, 12, 3)).astype("uint8")
        paths.append(folder / f"photograph{number}.png")
        Image.fromarray(small).resize(size).save(paths[-1])
    return paths
