# SPDX-License-Identifier: Apache-2.0
"""Checks of optional packages and of Java."""

from __future__ import annotations

import os
import shutil
from functools import partial
from importlib import metadata
from typing import Optional

from .check import NOTE, OK, WRONG, Check, Result
from .facts import Facts

# Distribution -> the extra of gluondense that installs it, and what it is for.
OPTIONAL = {
    "onnxruntime": ("onnx", "onnx targets"),
    "onnx": ("onnx", "onnx targets"),
    "gradio": ("demo", "gluondense demo"),
    "multi-model-server": ("serve", "the model server"),
    "bentoml": ("bentoml", "the service of docs/examples/bentoml_service.py"),
    "pycocotools": ("detection", "COCO's metrics of detectors"),
    "tensorboardX": ("tensorboard", "event files"),
}


def gluoncv(facts: Facts) -> Result:
    """Check GluonCV, which gluondense requires."""
    version = _version("gluoncv")
    if version == "0.10.5.post0":
        return Result(OK, version)
    return Result(WRONG, version or "not installed", "pip install gluoncv==0.10.5.post0")


def optional(name: str, facts: Facts) -> Result:
    """Check an optional package."""
    version = _version(name)
    if version is not None:
        return Result(OK, version)
    extra, purpose = OPTIONAL[name]
    return Result(NOTE, "not installed", f'for {purpose}: pip install "gluondense[{extra}]"')


def java(facts: Facts) -> Result:
    """Check Java, which multi-model-server runs on."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java") or (home and shutil.which("java", path=f"{home}/bin"))
    if found:
        return Result(OK, found)
    advice = "for the model server: apt install default-jre-headless"
    return Result(NOTE, "not installed", advice)


def _version(name: str) -> Optional[str]:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


PACKAGE_CHECKS = (
    Check("gluoncv", gluoncv),
    *(Check(name, partial(optional, name)) for name in OPTIONAL),
    Check("Java", java),
)
