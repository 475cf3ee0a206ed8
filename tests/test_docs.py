"""The pages agree with the tables, their commands can be run, and all are on the site."""

from __future__ import annotations

import importlib
import re

import pytest
import yaml
from support.paths import ROOT
from test_imports import ROWS

import gluondense
from gluondense.weights import NAMING_SCHEMES


def table(text: str, head: str) -> list[list[str]]:
    lines = text[text.index(head) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_of_weights_lists_all_naming_schemes(root):
    text = (root / "docs" / "weights.md").read_text(encoding="utf-8")
    expected = [[f"`{key}`", row.writer] for key, row in NAMING_SCHEMES.items()]
    assert table(text, "| naming |") == expected


@pytest.fixture(scope="module")
def check():
    """The script that checks the examples; it imports other scripts by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield importlib.import_module("dev.docs_check")


ROOMS = ("blocks", "data", "deploy", "explain", "training", "weights")
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *PAGES])
def test_the_commands_and_names_of_a_page_are_there(check, page):
    found = [
        f"{block.place}: {message}"
        for block in check.blocks(ROOT / page)
        for message in check.complaints(block)
    ]
    assert not found, "\n".join(["a reader could not run this:", *found])


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *PAGES])
def test_the_source_files_that_a_page_names_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"\b(?:gluondense|scripts|tests)/[\w./-]*\.(?:py|cc|h|sh|c)\b", text)
    missing = {path for path in paths if not (ROOT / path).is_file()} - {"scripts/NAME.py"}
    assert not missing, f"{page} names files that do not exist: {sorted(missing)}"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_in_the_sites_menu(page):
    name = page[len("docs/") :]
    assert name in list(menu(site()["nav"])), (
        f"{page} is not on the docs site: add `- Its title: {name}` to `nav` in mkdocs.yml, "
        "where a reader would look for it"
    )


def test_the_sites_menu_names_only_pages_that_are_there():
    notebooks = {f"notebooks/{path.stem}.md" for path in ROOT.glob("docs/notebooks/*.ipynb")}
    made = notebooks | {*importlib.import_module("dev.site_pages").OUTSIDE}
    assert set(menu(site()["nav"])) <= {page[len("docs/") :] for page in PAGES} | made
    assert made <= set(menu(site()["nav"]))


@pytest.mark.parametrize("page", PAGES)
def test_the_figures_of_a_page_have_their_label_on_github_too(page):
    path = ROOT / page
    for source, label in re.findall(r'<img src="(.+?)" alt="(.*?)">', path.read_text("utf-8")):
        assert f'aria-label="{label}"' in (path.parent / source).read_text("utf-8")


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_github_shows_no_directives_of_the_site(page):
    assert "--8<--" not in (ROOT / page).read_text("utf-8")


def test_the_page_of_servers_has_the_code_of_its_example():
    example = (ROOT / "docs/examples/bentoml_service.py").read_text("utf-8")
    code = example[example.index("import os") :]
    assert f"```python\n{code}```" in (ROOT / "docs/serving.md").read_text("utf-8")


def test_the_site_has_the_figures_in_its_pages():
    page = (ROOT / "docs/results/bccd.md").read_text("utf-8")
    found = importlib.import_module("dev.site_pages").inlined(page, ROOT / "docs/results")
    assert "<img" in page
    assert "<img" not in found
    assert (ROOT / "docs/assets/charts/bccd.svg").read_text("utf-8") in found


def test_the_home_page_has_the_table_of_the_readme():
    head = "| | gluondense | torchvision |"
    readme, home = ((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/index.md"))
    assert table(readme, head) == table(home, head)


def test_the_sites_search_needs_no_other_server():
    (shim,) = site()["extra"]["polyfills"]
    assert "iframe-worker" in shim, "the plugin `offline` would load it from unpkg.com"
    assert (ROOT / "docs" / shim).is_file()


def test_the_architecture_is_the_packages():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    diagram = re.findall(r"^ ?(\d+)  (.+)$", text, re.MULTILINE)
    assert [tuple(rooms.split()) for _, rooms in reversed(diagram)] == list(ROWS)
    assert [int(floor) for floor, _ in reversed(diagram)] == list(range(1, len(ROWS) + 1))
    for path, name in re.findall(r"`([\w/]+(?:/|\.py))`(?:\s`(\w+)`)?", text):
        file = next((f for f in (ROOT / "gluondense" / path, ROOT / path) if f.exists()), None)
        assert file, f"there is no {path}"
        if name and file.is_file():
            source = file.read_text(encoding="utf-8")
            assert re.search(rf"^(?:def|class) {name}\b", source, re.MULTILINE), (path, name)
    named = {path.rstrip("/") for path in re.findall(r"`([\w/]+?)(?:/|\.py)`", text)}
    assert {room for rooms in ROWS for room in rooms} <= named


def test_the_listing_of_densenet_is_the_sources(check):
    page = check.blocks(ROOT / "docs" / "adding-a-model.md")
    (listing,) = (block.text for block in page if block.text.startswith("class DenseNet"))
    _, body = listing.split("\n", 1)
    source = (ROOT / "gluondense" / "models" / "densenet.py").read_text(encoding="utf-8")
    assert body.strip() in source


def site():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def menu(entries):
    """Yield the files of the menu."""
    for entry in entries:
        for value in [entry] if isinstance(entry, str) else entry.values():
            yield from [value] if isinstance(value, str) else menu(value)


def test_the_reference_has_all_public_names():
    text = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/api/*.md"))
    entries = re.findall(r"^::: (\S+)", text, re.MULTILINE)
    # Of a room that is an entry, the site shows all that its __all__ names.
    shown = {name.rpartition(".")[2] for name in entries}
    for room in (f"gluondense.{name}" for name in ROOMS):
        assert room in entries
        names = importlib.import_module(room).__all__
        shown.update(names)
        files = {path.stem for path in (ROOT / room.replace(".", "/")).glob("*.py")}
        hidden = {f"{room}.{name}.{name}" for name in files & set(names)}
        assert hidden <= set(entries), f"docs/api/ needs `::: …` for {hidden - set(entries)}"
    missing = set(gluondense.__all__) - set(gluondense.list_models()) - shown - {"__version__"}
    assert not missing, f"add `::: gluondense.NAME` to docs/api/models.md for {sorted(missing)}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("python scripts/nowhere.py", "no script scripts/nowhere.py"),
        ("python scripts/export.py", "required: run_folder"),
        ("gluondense export", "required: run_folder"),
        ("X=1 gluondense export runs/a \\\n --targets onnx", "unrecognized"),
        ("gluondense exprot runs/a", "did you mean 'export'"),
        ("gluondense launch -n 2 -- gluondense train cifar --epoch x", "invalid int value"),
        ("make demo && make tests", "no target tests"),
        ("make demo DATA=x", "no DATA"),
        ('pip install -e ".[gpu]"', "no extra gpu"),
        ("rm -r /", "unknown command rm"),
    ],
)
def test_the_check_of_commands_can_fail(check, text, words):
    (message,) = check.complaints(check.Block(ROOT / "README.md", 1, "sh", text, False))
    assert words in message


def test_the_check_of_names_can_fail(check):
    text = "from gluondense.deploy import exprot\ngluondense.densenet121()\ngluondense.densnet121()"
    found = check.complaints(check.Block(ROOT / "README.md", 1, "python", text, False))
    assert found == ["gluondense.deploy has no exprot", "gluondense has no densnet121"]


def test_marked_blocks_run_in_one_folder_and_failures_are_told(
    check, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(check, "ROOT", tmp_path)
    (tmp_path / "scripts").mkdir()
    page = tmp_path / "page.md"
    sh, python = (
        "<!-- docs-check: run -->\n```sh\n{}\n```\n",
        "<!-- docs-check: run -->\n```python\n{}\n```\n",
    )
    page.write_text(
        sh.format("echo 7 > seven") + python.format("assert open('seven').read() == '7\\n'")
    )
    assert check.main([str(page)]) == 0
    page.write_text("```sh\nfalse\n```\n")
    assert check.main([str(page)]) == 0
    page.write_text(sh.format("echo why; false") + sh.format("touch never"))
    assert check.main([str(page)]) == 1
    printed = capsys.readouterr()
    assert "page.md:2: FAILED" in printed.out
    assert "page.md:5" not in printed.out
    assert "why\n\nexit code 1" in printed.err
