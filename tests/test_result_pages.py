"""Model cards and tables of exports: from a run's folder to a page, and the committed pages."""

from __future__ import annotations

import json
import shutil

import pytest
from dev import publish_run, result_pages, run_exports
from dev.cards import blocks

import gluondense
from gluondense.commands.train import fashion_mnist
from gluondense.files import sha256
from gluondense.models.registry import SPECS
from gluondense.weights.shipped import rows

MODEL, NAME = "tiny_digits", "tiny_digits.gd_digits"
SPEC = {
    "stem": "cifar", "num_init_features": 16, "growth_rate": 16, "block_config": (1, 1),
    "bn_size": 0, "classes": 10, "in_channels": 1,
}  # fmt: skip
WORDS = ["fashion-mnist", "--dataset", "digits", "--model", MODEL, "--input-size", "8"]
WORDS += ["--epochs", "1", "--ema", "0.5", "--no-native"]


@pytest.mark.parametrize("path", result_pages.pages(), ids=lambda path: path.stem)
def test_a_page_is_current(path):
    page = path.read_text(encoding="utf-8")
    assert page == result_pages.updated(page), "run python scripts/dev/result_pages.py"


def test_an_empty_block_leaves_the_next_one(monkeypatch):
    monkeypatch.setitem(result_pages.KINDS, "card", lambda name: f"card of {name}")
    page = "".join(f"<!-- card: {name} -->\n\n<!-- end -->\n\ntext\n\n" for name in "ab")
    once = result_pages.updated(page)
    assert once == page.replace("a -->\n", "a -->\n\ncard of a\n").replace(
        "b -->\n", "b -->\n\ncard of b\n"
    )
    assert result_pages.updated(once) == once


def test_every_file_is_shown():
    text = "".join(path.read_text(encoding="utf-8") for path in result_pages.pages())
    for path in blocks.FOLDER.glob("*.json"):
        name = path.stem.removesuffix("-exports")
        kind = "card" if name == path.stem else "exports"
        assert f"<!-- {kind}: {name} -->" in text


def test_a_file_in_the_package_is_that_of_its_card():
    for row in rows.read_rows():
        facts = blocks.facts_of(row.name)
        assert facts["file"]["sha256"] == row.sha256
        assert round(100 * facts["top1"], 3) == row.top1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs of a small network of the registry, which differ in the seed."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SPECS, MODEL, gluondense.get_spec("densenet121", **SPEC))
        for seed in "01":
            words = [*WORDS[1:], "--seed", seed, "--out", str(folder / seed), "--no-progress"]
            assert fashion_mnist.main(words) == 0
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A package and docs without weights of gluondense."""
    monkeypatch.setitem(SPECS, MODEL, gluondense.get_spec("densenet121", **SPEC))
    for folder in ("shipped", "docs/results"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(rows, "FOLDER", tmp_path / "shipped")
    monkeypatch.setattr(rows.read_rows, "__defaults__", (tmp_path / "shipped",))
    monkeypatch.setattr(rows.write_rows, "__defaults__", (tmp_path / "shipped",))
    monkeypatch.setattr(blocks, "FOLDER", tmp_path / "docs/results/cards")
    monkeypatch.setattr(result_pages, "DOCS", tmp_path / "docs")
    rows.write_rows([])
    (tmp_path / "docs/results/digits.md").write_text("# Digits\n")
    shutil.copy(result_pages.__file__.replace("scripts/dev/result_pages.py", "docs/weights.md"),
                tmp_path / "docs")  # fmt: skip
    return tmp_path


def publish(place, run, *options, words=WORDS):
    page = ["--page", str(place / "docs/results/digits.md")]
    return publish_run.main([str(run), NAME, "--threads", "1", *page, *options, "--", *words])


def test_a_run_becomes_weights_with_a_row_and_a_card(place, trained, capsys):
    assert publish(place, trained / "0", "--seeds", str(trained / "1")) == 0
    (row,) = rows.read_rows()
    path = place / "shipped" / f"{NAME}.safetensors"
    assert (row.name, row.sha256, row.dataset) == (NAME, sha256(path), "digits")
    assert f"{row.top1:.2f}%" in capsys.readouterr().out

    last = gluondense.training.checkpoint.load(trained / "0/checkpoints/last")
    assert round(100 * last.metrics["test_acc"], 3) == row.top1
    net = gluondense.get_model(MODEL, pretrained=path)
    average = last.network()
    for name, parameter in net._collect_params_with_prefix().items():
        theirs = average._collect_params_with_prefix()[name]
        assert (parameter.data() == theirs.data()).asnumpy().all()

    page = (place / "docs/results/digits.md").read_text()
    assert page.count("<!-- card") == 1
    for text in (
        f"**{row.top1:.2f} %** (95 %: ",
        f"SHA-256 `{row.sha256}`",
        "ema 0.5",
        "; mean ",
        f"OMP_NUM_THREADS=1 gluondense train {' '.join(WORDS)} --out runs/{NAME}\n",
        f"gluondense evaluate {NAME}\n",
    ):
        assert text in page
    assert f"| `{NAME}` " in (place / "docs/weights.md").read_text()
    assert publish(place, trained / "0") == 0  # again: the same file, and no second card
    assert rows.read_rows() == [row]
    assert (place / "docs/results/digits.md").read_text().count("<!-- card") == 1


def test_a_card_without_weights_in_the_package(place, trained):
    assert publish(place, trained / "1", "--card-only", words=[*WORDS, "--seed", "1"]) == 0
    assert rows.read_rows() == []
    page = (place / "docs/results/digits.md").read_text()
    assert "`average.params`" in page
    assert f"gluondense evaluate runs/{NAME}\n" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*WORDS, "--lr", "1"], "has lr 1.0, the run 0.1: give the run's own arguments"),
        (["fashion"], "unknown training command 'fashion'"),
    ],
)
def test_another_command_is_refused(place, trained, capsys, words, message):
    assert publish(place, trained / "0", words=words) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in (place / "shipped").iterdir()] == ["index.json"]


def test_an_unfinished_run_is_refused(place, trained, tmp_path, capsys):
    run = shutil.copytree(trained / "0", tmp_path / "run")
    lines = (run / "log.csv").read_text().splitlines(keepends=True)
    (run / "log.csv").write_text("".join(lines[:-1]))
    assert publish(place, run) == 2
    assert "holds no finished run" in capsys.readouterr().err


def test_a_network_with_other_fields_is_refused(place, trained, monkeypatch, capsys):
    monkeypatch.setitem(SPECS, MODEL, gluondense.get_spec("densenet121", **{**SPEC, "bn_size": 4}))
    assert publish(place, trained / "0") == 2
    assert f"holds no {MODEL} with its default fields" in capsys.readouterr().err


def test_exports_are_a_table_in_a_page(place):
    blocks.FOLDER.mkdir()
    row = {"target": "native", "top1": 0.9321, "interval": [0.92, 0.94], "bytes": 712345,
           "images_per_s": {"1": 812.3, "32": 3456.7}}  # fmt: skip
    machine = {"cpu": "AMD EPYC", "family": "25.17"}
    facts = {"batches": [1, 32], "rows": [row], "images": 10000, "threads": 2,
             "machine": machine, "date": "2026-11-30"}  # fmt: skip
    (blocks.FOLDER / f"{NAME}-exports.json").write_text(json.dumps(facts))
    page = result_pages.updated(f"<!-- exports: {NAME} -->\n\n<!-- end -->\n")
    cells = [cell.strip() for cell in page.splitlines()[4].split("|")[1:-1]]
    assert cells == ["`native`", "93.21 %", "92.00 % – 94.00 %", "0.71", "812", "3,457"]
    assert "10,000 test images; speed with 2 threads of an AMD EPYC (family 25.17)" in page


@pytest.mark.slow
def test_the_exports_of_a_run_are_evaluated_and_measured(place, trained):
    page = place / "docs/results/digits.md"
    page.write_text(f"<!-- exports: {NAME} -->\n\n<!-- end -->\n")
    options = ["--targets", "portable", "onednn", "--batch", "2", "--threads", "1", "--rounds", "1"]
    assert run_exports.main([str(trained / "0"), NAME, *options]) == 0
    facts = blocks.facts_of(f"{NAME}-exports")
    last = gluondense.training.checkpoint.load(trained / "0/checkpoints/last")
    assert [row["target"] for row in facts["rows"]] == ["portable", "onednn"]
    for row in facts["rows"]:
        assert row["top1"] == pytest.approx(last.metrics["test_acc"])
        assert row["images_per_s"]["2"] > 0
    assert page.read_text().count("| `") == 2
