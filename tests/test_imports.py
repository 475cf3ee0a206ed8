"""Imports run one way, in the order of docs/architecture.md."""

from __future__ import annotations

import ast
import re
import sys

import pytest
from support.paths import ROOT

PACKAGE = ROOT / "gluondense"

# A room may import itself and the rooms of the rows above; rooms of one row stay apart.
ROWS = (
    ("version", "environment", "errors", "files", "lazy"),
    ("download", "schema", "text"),
    ("blocks", "graph"),
    ("native",),
    ("data",),
    ("models",),
    ("detection",),
    ("weights", "analysis"),
    ("explain", "zoo", "deploy"),
    ("reports", "runtime"),
    ("training",),
    ("evaluation",),
    ("demo", "doctor", "experiment"),
    ("commands",),
    ("__main__",),
)
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
# Families of networks stand side by side: what they share is in network.py.
FAMILIES = ("densenet", "csp_densenet", "csp_resnet", "darknet", "dpn", "peleenet", "rdnet")

MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").parts
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
)


def imported(module: tuple[str, ...]) -> set[str]:
    """Every module of ours that this one imports."""
    ours = ("gluondense", "scripts", "tests")
    return {name for name in all_imports(module) if name.split(".")[0] in ours}


def all_imports(module: tuple[str, ...]) -> set[str]:
    """Every module that this one imports, at its top or inside a function."""
    path = ROOT.joinpath(*module).with_suffix(".py")
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(module[: -node.level]) if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            names.update(f"{source}.{alias.name}" for alias in node.names)
    return names


def room_of(dotted: str) -> str:
    return dotted.split(".")[1]


def complaints(module: tuple[str, ...], names: set[str]) -> list[str]:
    room = module[1]
    if room not in ROW_OF:
        return [f"{room} has no place in the order of rooms: add it to ROWS"]
    wrong = []
    for name in sorted(names):
        other = room_of(name) if name.startswith("gluondense.") else name
        if other == room:
            continue
        # Commands are users of the package: they may take its public names.
        if room == "commands" and other not in ROW_OF and not other.startswith("scripts"):
            continue
        if ROW_OF.get(other, len(ROWS)) >= ROW_OF[room]:
            wrong.append(f"{'.'.join(module)} may not import {name}")
    return wrong


@pytest.mark.parametrize("module", MODULES, ids=".".join)
def test_a_room_imports_only_rooms_to_its_left(module):
    assert complaints(module, imported(module)) == []


# Packages whose import has another name.
PACKAGES = {"PIL": "pillow", "cv2": "opencv-python", "sklearn": "scikit-learn"}
# Installed by an extra; imported only where the user asks for what needs it.
OPTIONAL = {
    "gradio",
    "mxnet",
    "nncf",
    "onnx",
    "onnxruntime",
    "openvino",
    "pycocotools",
    "sagemaker_inference",
    "torch",
    "torchvision",
    "timm",
    "tensorboardX",
}


@pytest.mark.skipif(sys.version_info < (3, 10), reason="sys.stdlib_module_names is new in 3.10")
@pytest.mark.parametrize("module", MODULES, ids=".".join)
def test_what_is_imported_is_installed(module):
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    dependencies = metadata.split("\ndependencies = [\n")[1].split("\n]\n")[0]
    required = set(re.findall(r'^    "([\w-]+)', dependencies, re.MULTILINE))
    top = {name.split(".")[0] for name in all_imports(module)} - sys.stdlib_module_names
    # A file that is run by its path finds those beside it.
    beside = {path.stem for path in ROOT.joinpath(*module).parent.glob("*.py")}
    top -= {"gluondense", "distutils"} | OPTIONAL | beside
    outside = {PACKAGES.get(name, name) for name in top}
    assert outside <= required


@pytest.mark.parametrize("family", FAMILIES)
def test_families_do_not_import_each_other(family):
    names = imported(("gluondense", "models", family))
    others = {f"gluondense.models.{other}" for other in FAMILIES if other != family}
    assert not [name for name in names if name.startswith(tuple(others))]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (("gluondense", "blocks", "dense"), "gluondense.models.densenet"),
        (("gluondense", "analysis"), "gluondense.weights.naming.schemes"),
        (("gluondense", "deploy", "export"), "scripts.export"),
        (("gluondense", "nowhere"), "gluondense.blocks"),
    ],
)
def test_the_check_can_fail(module, name):
    assert complaints(module, {name})


def test_the_environment_is_prepared_before_anything_else():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    statements = [node for node in tree.body if not isinstance(node, ast.ImportFrom) or node.level]
    first, second = statements[1:3]  # the docstring is the first
    assert ast.unparse(first) == "from .environment.process import prepare"
    assert ast.unparse(second) == "prepare()"


@pytest.mark.parametrize("folder", ["gluondense", "scripts"])
def test_sources_name_their_license(folder):
    sources = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".cc", ".h")]
    assert sources
    for path in sources:
        head = path.read_text(encoding="utf-8")[:100]
        assert "SPDX-License-Identifier: Apache-2.0" in head, path
