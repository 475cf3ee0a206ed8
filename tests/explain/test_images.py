"""Maps of a trained network show what its answer depends on."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

import gluondense
from gluondense.data.preprocessing import CIFAR
from gluondense.explain import cam
from gluondense.explain.methods import METHODS

IMAGES = 32
SHARE = 0.2  # of the pixels, which are replaced by the mean


@pytest.fixture(scope="module")
def trained(shared):
    net = gluondense.get_model("densenet40_k12_bc_cifar10")
    gluondense.load_weights(net, shared / "data/weights/densenet-bc-40-12-cifar10.pth.tar")
    sheet = np.asarray(Image.open(shared / "data/cifar10/test_batch.webp").convert("RGB"))
    tiles = sheet[:32].reshape(32, 100, 32, 3).transpose(1, 0, 2, 3)[:IMAGES]
    return net, CIFAR.normalize(np.ascontiguousarray(tiles))


@pytest.mark.parametrize("method", METHODS)
def test_the_logit_falls_most_without_the_hottest_pixels(trained, method):
    net, x = trained
    found = cam(net, x, method=method)
    heat = found.heat.reshape(IMAGES, -1)
    order = np.argsort(heat, axis=1)
    count = int(SHARE * heat.shape[1])
    drops = {}
    for name, pixels in (("cold", order[:, :count]), ("hot", order[:, -count:])):
        masked = x.copy().reshape(IMAGES, 3, -1)
        for image, places in zip(masked, pixels):
            image[:, places] = 0
        logits = net(mx.nd.array(masked.reshape(x.shape))).asnumpy()
        rows = np.arange(IMAGES)
        drops[name] = found.logits.max(axis=1) - logits[rows, found.targets]
    assert drops["hot"].mean() > 2 * drops["cold"].mean()
    assert (drops["hot"] > drops["cold"]).mean() > 0.7
