"""Helpers of several test modules, from training/test_step.py."""

from __future__ import annotations

import mxnet as mx
import numpy as np

from gluondense import get_model

SMALL = {"block_config": (2, 2), "num_init_features": 16, "growth_rate": 16, "classes": 5}


RDNET = {
    "num_blocks": (1, 2),
    "growth_rates": (16, 24),
    "num_layers": 2,
    "squeeze_excite_from": 2,
    "classes": 5,
}


NETWORKS = {
    "dense": ("densenet121", SMALL),
    "narrow": ("densenet40_k12_cifar10", {"block_config": (3, 3)}),
    "deep": ("densenet40_k12_cifar10", {"block_config": (2, 10)}),
    "dropout": ("densenet121", {**SMALL, "dropout": 0.3}),
    "drop-path": (
        "densenet121",
        {**SMALL, "drop_path": 0.5, "dropout": 0.3, "dropout_after": "3x3"},
    ),
    "dpn-drop-path": ("dpn68", {"num_blocks": (1, 2, 1, 1), "drop_path": 0.5}),
    "se": ("densenet121", {**SMALL, "attention": "se"}),
    "csp": ("csp_densenet121", SMALL),
    "csp-path": ("csp_densenet121", {**SMALL, "attention": "path"}),
    "dpn": ("dpn68", {"num_blocks": (1, 2, 1, 1)}),
    "rdnet": ("rdnet_tiny", {**RDNET, "drop_path": 0.5, "dropout": 0.3}),
    "csp-resnet": ("csp_resnet50", {"num_blocks": (1, 1, 2, 1)}),
}


def network(name, memory_efficient, ctx=None, **fields):
    mx.random.seed(3)
    model, settings = NETWORKS[name]
    net = get_model(model, memory_efficient=memory_efficient, **{**settings, **fields})
    net.initialize(ctx=ctx)
    return net


def batch(net, images=4, size=32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(images, net.spec.in_channels, size, size)).astype(np.float32)
    return mx.nd.array(x), mx.nd.array(np.arange(images) % net.spec.classes)
