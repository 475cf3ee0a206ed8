"""Packages load their public names on first use; nothing optional is imported before it is used."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import gluondense

LAZY = ("blocks", "data", "deploy", "models", "training", "weights")
OPTIONAL = (
    *("PIL", "cv2", "gluoncv", "h5py", "onnx", "pandas", "plotly", "requests", "scipy", "sklearn"),
)


@pytest.mark.parametrize("room", LAZY)
def test_all_public_names_are_there(room):
    package = importlib.import_module(f"gluondense.{room}")
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    for name in package.__all__:
        # A submodule sets an attribute of its name when it is imported, which would hide this one.
        assert name not in modules
        assert getattr(package, name) is not None
        assert name in dir(package)
    for name in modules:
        assert getattr(package, name).__name__ == f"gluondense.{room}.{name}"
    with pytest.raises(AttributeError, match=f"'gluondense.{room}' has no attribute 'nothing'"):
        getattr(package, "nothing")  # noqa: B009


def test_the_package_has_a_function_for_each_network():
    names = {}
    exec("from gluondense import *", names)
    assert set(gluondense.__all__) <= set(names)
    assert set(gluondense.list_models()) <= set(names) & set(dir(gluondense))
    assert gluondense.densenet40_k12_cifar10(classes=3).spec.classes == 3
    with pytest.raises(AttributeError, match="'gluondense' has no attribute 'densnet121'"):
        getattr(gluondense, "densnet121")  # noqa: B009


def test_modules_are_imported_when_they_are_used():
    code = (
        "import sys, gluondense\n"
        "print(*{'mxnet', 'numpy'} & set(sys.modules))\n"
        "gluondense.get_model('densenet40_k12_cifar10').initialize()\n"
        f"print(*set({OPTIONAL}) & {{name for name in sys.modules if sys.modules[name]}})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n\n"
