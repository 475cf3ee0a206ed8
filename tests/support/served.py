# SPDX-License-Identifier: Apache-2.0
"""Archives of every family and target, what they answer in process, and requests to refuse."""

from __future__ import annotations

import zlib
from pathlib import Path
from struct import pack

import numpy as np

import gluondense
from gluondense.deploy import Calibration, archive, predict
from support.exported_networks import VARIANTS, build

MEAN, STD, SHAPE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (1, 3, 64, 64)
CLASSES = tuple("abcde")
MODELS = {
    "densenet": ("densenet", "portable", {}),
    "csp_densenet": ("csp-last", "native", {"preprocess": True}),
    "csp_resnet": ("residual", "portable", {"params_dtype": "float16"}),
    "dpn": ("dpn", "onednn", {"preprocess": True, "output": "probabilities"}),
    "int8": ("densenet", "int8", {"preprocess": True}),
    "native_int8": ("densenet", "native_int8", {}),
    "labels": (
        "densenet",
        "native",
        {"task": "multi_label", "thresholds": (0.2, 0.4, 0.5, 0.6, 0.8), "preprocess": True},
    ),
}


def write_archives(folder: Path, names=tuple(MODELS)) -> Path:
    """Write ``exports/NAME`` and ``NAME.mar`` of models."""
    images = np.random.default_rng(0).standard_normal((16, *SHAPE[1:])).astype("float32")
    for name in names:
        variant, target, options = MODELS[name]
        if target.endswith("int8"):
            options = {**options, "calibration": Calibration(images, max_changed=1.0)}
        files = gluondense.export(
            build(*VARIANTS[variant]),
            folder / "exports" / name,
            SHAPE,
            target,
            class_names=CLASSES,
            mean=MEAN,
            std=STD,
            **options,
        )
        archive(files.prefix, folder / f"{name}.mar")
    return folder


def in_process(store, name, files):
    block = gluondense.load_exported(store / "exports" / name)
    return predict(block, files, SHAPE, MEAN, STD, CLASSES)


def assert_same(found, wanted):
    assert [row["class"] for row in found] == list(wanted.labels)
    probabilities = [row["probability"] for row in found]
    np.testing.assert_allclose(probabilities, wanted.probabilities, atol=1e-5)
    present = None if wanted.present is None else list(wanted.present)
    assert [row.get("present") for row in found] == (present or [None] * len(found))


def bomb() -> bytes:
    """Return a PNG of 100 megapixels in 100 KB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(10_001)) for _ in range(10_000)) + rows.flush()
    head = pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def garbage(jpeg: bytes):
    json_type = {"Content-Type": "application/json"}
    return {
        "truncated": (jpeg[: len(jpeg) // 2], {}, 400, "truncated"),
        "text": (b"hello", {}, 400, "not an image"),
        "bomb": (bomb(), {}, 413, "more than 50,000,000 pixels"),
        "empty": (b"", {}, 400, "there is no image"),
        "said to be text": (jpeg, {"Content-Type": "text/plain"}, 415, "text/plain is no image"),
        "said to be JSON": (jpeg, json_type, 415, "application/json is no image"),
        "JSON": (b'{"a": 1}', json_type, 415, "application/json is no image"),
    }
