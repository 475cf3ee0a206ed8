"""Small networks of every family, and their exports in stock MXNet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

import gluondense
from gluondense.deploy import ExportedFiles
from gluondense.deploy.artifact_files import files_of
from gluondense.deploy.targets import TARGETS

FLOAT_TARGETS = [
    name
    for name, target in TARGETS.items()
    if not target.needs_calibration
    and target.tolerance is None
    and files_of(name, "") == ExportedFiles.of("")
]


TINY = {"block_config": (2, 2), "num_init_features": 16, "growth_rate": 12, "classes": 5}


TINY_DPN = {
    "num_blocks": (1, 2),
    "bottleneck_width": 8,
    "residual_width": 16,
    "increments": (4, 8),
    "groups": 4,
    "classes": 5,
}


TINY_RESIDUAL = {"num_blocks": (1, 2), "widths": (16, 24), "groups": 4, "classes": 5}


TINY_RDNET = {
    "num_blocks": (1, 2),
    "num_init_features": 16,
    "growth_rates": (8, 16),
    "num_layers": 2,
    "squeeze_excite_from": 2,
    "classes": 5,
}


TINY_DARK = {
    "num_blocks": (1, 2),
    "widths": (16, 24),
    "bottleneck_ratios": (0.5, 1.0),
    "expand_ratios": (2.0, 1.0),
    "classes": 5,
}


TINY_PELEE = {"block_config": (2, 2), "bn_sizes": (1, 2), "classes": 5}


VARIANTS = {
    "densenet": ("densenet121", TINY),
    "densenet-dropout": ("densenet121", {**TINY, "dropout": 0.3}),
    "densenet-se": ("densenet121", {**TINY, "attention": "se"}),
    "densenet-path": ("densenet121", {**TINY, "attention": "path"}),
    "densenet-mean_max": ("densenet121", {**TINY, "pool": "mean_max", "stem": "half"}),
    "densenet-grey": ("densenet121", {**TINY, "in_channels": 1}),
    "densenet-blur": ("densenetblur121d", TINY),
    "cifar": ("densenet40_k12_cifar10", {"block_config": (2, 2, 2)}),
    "cifar-bc": ("densenet100_k12_bc_cifar100", {"block_config": (1, 1, 1)}),
    "tutorial": ("densenet_tutorial", {"block_config": (1, 2)}),
    "csp-last": ("csp_densenet121", TINY),
    "csp-first": ("csp_densenet121", {**TINY, "fusion": "first"}),
    "csp-both": ("csp_densenet121", {**TINY, "fusion": "both", "attention": "path"}),
    "csp-listing": ("csp_densenet121_listing", TINY),
    "dpn": ("dpn92", TINY_DPN),
    "dpn-silu": ("dpn48b", TINY_DPN),
    "dpn-se": ("dpn68", {**TINY_DPN, "attention": "se"}),
    "dpn-path": ("dpn68b", {**TINY_DPN, "attention": "path"}),
    "dpn-mean_max": ("dpn98", {**TINY_DPN, "pool": "mean_max", "stem": "cifar"}),
    "dpn-listing": ("dpn98_listing", TINY_DPN),
    "residual": ("csp_resnet50", {**TINY_RESIDUAL, "dropout": 0.2}),
    "residual-se": ("csp_resnext50", {**TINY_RESIDUAL, "attention": "se", "stem": "cifar"}),
    "residual-path": ("csp_resnext50", {**TINY_RESIDUAL, "attention": "path", "slope": 0.0}),
    "rdnet": ("rdnet_tiny", {**TINY_RDNET, "dropout": 0.1, "drop_path": 0.2}),
    "rdnet-cifar": ("rdnet_tiny", {**TINY_RDNET, "stem": "cifar", "in_channels": 1}),
    "rdnet-features": ("rdnet_tiny", {**TINY_RDNET, "features_only": True}),
    "residual-features": ("csp_resnet50", {**TINY_RESIDUAL, "features_only": True}),
    "darknet": ("darknet53", TINY_DARK),
    "csp-darknet": ("csp_darknet53", {**TINY_DARK, "slope": 0.0}),
    "pelee": ("peleenet", TINY_PELEE),
    "csp-pelee-features": ("csp_peleenet", {**TINY_PELEE, "features_only": True}),
    "densenet-features": ("densenet121", {**TINY, "features_only": True}),
    "csp-features": ("csp_densenet121", {**TINY, "features_only": True}),
    "dpn-features": ("dpn92", {**TINY_DPN, "features_only": True}),
}


SIZES = {"exported": (1, 32, 32), "batch": (3, 32, 32), "odd": (2, 45, 37)}


# A process with MXNet only, and with the names that NumPy removed, which MXNet 1.9.1 needs.
STOCK_MXNET = """
import sys
import numpy as np
for name in ("bool", "int", "float", "object"):
    if name not in np.__dict__:
        setattr(np, name, getattr(__import__("builtins"), name))
try:
    import mxnet as mx
except Exception:
    sys.exit(77)

import os

prefix, inputs, answers = sys.argv[1:]
found = {}
for case, x in np.load(inputs).items():
    name = case.split("|")[0]
    files = (f"{prefix}{name}-symbol.json", ["data"], f"{prefix}{name}-0000.params")
    if os.path.exists(f"{prefix}{name}-native.so"):
        mx.library.load(f"{prefix}{name}-native.so", False)
    outputs = mx.gluon.SymbolBlock.imports(*files)(mx.nd.array(x))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    found.update({f"{case}|block|{n}": out.asnumpy() for n, out in enumerate(outputs)})

    module = mx.mod.Module.load(f"{prefix}{name}", 0, label_names=None)
    module.bind([("data", x.shape)], for_training=False)
    module.forward(mx.io.DataBatch([mx.nd.array(x)]), is_train=False)
    outputs = module.get_outputs()
    found.update({f"{case}|module|{n}": out.asnumpy() for n, out in enumerate(outputs)})
np.savez(answers, **found)
assert "gluondense" not in sys.modules
"""


def build(name="densenet121", fields=TINY, seed=1):
    """Build a network with random values in all parameters and running averages."""
    net = gluondense.get_model(name, **fields)
    net.initialize()
    random = np.random.default_rng(seed)
    for key, parameter in net.collect_params().items():
        value = random.standard_normal(parameter.shape)
        if key.endswith(("var", "gamma")):
            value = 1 + 0.1 * value
        elif len(parameter.shape) > 1:
            value /= np.sqrt(np.prod(parameter.shape[1:]))
        parameter.set_data(mx.nd.array(value))
    return net


def as_list(outputs):
    return [out.asnumpy() for out in (outputs if isinstance(outputs, list) else [outputs])]


def in_stock_mxnet(folder: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    np.savez(folder / "inputs.npz", **inputs)
    answers = folder / "answers.npz"
    command = [sys.executable, "-c", STOCK_MXNET, f"{folder}/", folder / "inputs.npz", answers]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("MXNet without gluondense can't be imported here")
    assert done.returncode == 0, done.stderr
    return dict(np.load(answers))


def of_case(outputs, variant, size):
    """Select the outputs of a variant for an input size; keys are ``variant|size|...``."""
    return [value for key, value in outputs.items() if key.startswith(f"{variant}|{size}|")]


# Fields whose layers a target has no steps for: attention, two poolings, and RDNet's in int8.
UNSUPPORTED = {"native": {"attention", "pool"}}
UNSUPPORTED["native_bf16"] = UNSUPPORTED["native"]
UNSUPPORTED["native_int8"] = {*UNSUPPORTED["native"], "squeeze_excite_from"}


def variants(target):
    """Variants that a target supports."""
    missing = UNSUPPORTED.get(target, set())
    return [name for name, (_, fields) in VARIANTS.items() if not fields.keys() & missing]


def assert_close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
