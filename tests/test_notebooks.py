"""The notebooks run, in short form, without warnings; what is stored in them is up to date."""

from __future__ import annotations

import importlib
import json

import pytest
from support.paths import ROOT, SHARED

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
MAX_FIGURES = 150_000  # bytes
# The warnings of pyproject.toml.
STRICT = """
import warnings
warnings.simplefilter("error")
for module in ("mxnet", "gluoncv"):
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=module)
warnings.filterwarnings("ignore", "(distutils|The distutils)", DeprecationWarning)
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
warnings.filterwarnings("ignore", module="ipykernel")
"""


def short_forms() -> dict[str, str]:
    """Parameters with which each notebook takes seconds, with the shared data if they exist."""
    clothes, cells = SHARED / "data/fashion-mnist", SHARED / "data/bccd"
    weights = SHARED / "data/weights/densenet-bc-40-12-cifar10.pth.tar"
    dataset, data_dir = ("fashion_mnist", str(clothes)) if clothes.is_dir() else ("digits", None)
    bccd = str(cells) if cells.is_dir() else None
    pretrained = str(weights) if weights.is_file() else None
    return {
        "densenet-step-by-step": f"dataset, data_dir = {dataset!r}, {data_dir!r}\n"
        "train_count, test_count, epochs = 64, 16, 1",
        "fine-tuning-with-heat-maps": f"bccd, pretrained = {bccd!r}, {pretrained!r}\n"
        "per_class, epochs, side = 8, 1, 32",
    }


@pytest.fixture(scope="module")
def runner():
    """The script that runs notebooks; it needs the extra `notebooks`."""
    for package in ("ipykernel", "matplotlib", "nbclient"):
        pytest.importorskip(package)
    return importlib.import_module("dev.run_notebook")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, runner, tmp_path, monkeypatch):
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    notebook = runner.run(path, short_forms()[path.stem], tmp_path, before=STRICT)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert not [output.text for output in outputs if output.get("name") == "stderr"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_those_of_the_code(path, runner):
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["sources_sha256"] == runner.sources_sha256(notebook), (
        f"the code of {path.name} has changed: run python scripts/dev/run_notebook.py {path}"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_figures_are_small_and_on_the_page(path):
    pages = importlib.import_module("dev.notebook_pages")
    text, figures = pages.to_markdown(json.loads(path.read_text(encoding="utf-8")), path.stem)
    assert text.startswith("# ")
    assert len(figures) >= 2
    assert sum(map(len, figures.values())) < MAX_FIGURES
    for name, data in figures.items():
        assert data.startswith(b"\x89PNG")
        assert f"]({name})" in text
