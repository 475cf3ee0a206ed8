from __future__ import annotations

import csv
import importlib
import json

import pytest


@pytest.fixture
def model_stats():
    return importlib.import_module("gluondense.commands.model_stats")


def test_table_of_patterns_has_no_duplicates(model_stats, capsys):
    assert model_stats.main(["densenet_tutorial", "densenet_t*", "--input-size", "64x96"]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["network", "input", "parameters"]
    assert len(rows) == 1
    assert rows[0].split()[:3] == ["densenet_tutorial", "1x1x64x96", "758,226"]


def test_fields_change_the_network(model_stats, capsys, tmp_path):
    out = tmp_path / "costs.json"
    options = [
        "--classes",
        "7",
        "--in-channels",
        "2",
        "--set",
        "growth_rate=8",
        "--set",
        "attention=se",
    ]
    assert model_stats.main(["densenet_tutorial", "--json", str(out), *options]) == 0
    (row,) = json.loads(out.read_text(encoding="utf-8"))
    assert row["input_shape"] == "1x2x96x96"
    assert row["params"] < 758226


def test_files(model_stats, capsys, tmp_path):
    out, page = tmp_path / "layers.csv", tmp_path / "page.html"
    options = ["--per-layer", "--markdown", "--csv", str(out), "--html", str(page)]
    assert model_stats.main(["densenet_tutorial", *options]) == 0
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert rows[0]["name"] == "features.stem.conv"
    assert sum(int(row["params"]) for row in rows) == 758226
    assert "| features.stem.conv" in capsys.readouterr().out
    assert "densenet_tutorial" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["densnet121"], "did you mean"),
        (["x*"], "no model matches 'x*'"),
        (["densenet121", "--input-size", "16"], "at least 29x29"),
        (["densenet121", "--input-size", "big"], "neither a size"),
        (["densenet121", "--set", "growth"], "not FIELD=JSON"),
        (["densenet121", "--set", "growth=3"], "no field 'growth'"),
        (["densenet_tutorial", "--csv", "/nowhere/costs.csv"], "/nowhere/costs.csv"),
    ],
)
def test_errors_are_one_line_with_exit_code_2(model_stats, capsys, arguments, message):
    try:
        code = model_stats.main(arguments)
    except SystemExit as stop:  # argparse
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_the_committed_page_is_current(model_stats, root):
    from dev.models_page import models_page

    page = (root / "docs" / "models.md").read_text(encoding="utf-8")
    # `python scripts/dev/models_page.py docs/models.md` updates it.
    assert page == models_page(page)
    assert page.count("<!-- computed: ") == 18
