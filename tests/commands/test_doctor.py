"""`gluondense doctor` on this machine."""

from __future__ import annotations

import json

import pytest

from gluondense.__main__ import main
from gluondense.commands import doctor
from gluondense.doctor import check, facts
from gluondense.doctor.check import Line


def test_the_table_and_the_json_have_the_same_lines(capsys, monkeypatch):
    found = facts.collect()
    monkeypatch.setattr(facts, "collect", lambda: found)
    codes = [main(["doctor"]), main(["doctor", "--json"])]
    text = capsys.readouterr().out
    table, lines = text[: text.index("\n[")], json.loads(text[text.index("\n[") :])
    assert found.problem is None
    names = [line["name"] for line in lines]
    assert {"MXNet", "NumPy", "threads", "native operator", "GPUs", "Java"} <= set(names)
    assert all(f" {name} " in table for name in names)
    assert all(line["advice"] for line in lines if line["status"] != "ok")
    assert codes == [int(any(line["status"] == "wrong" for line in lines))] * 2


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("note", 0), ("wrong", 1)])
def test_exit_codes(status, code, capsys, monkeypatch):
    monkeypatch.setattr(facts, "collect", facts.Facts)
    monkeypatch.setattr(check, "run_checks", lambda found: [Line("GPUs", status, "x", "y")])
    assert doctor.main([]) == code
    assert capsys.readouterr().out.split()[-4:] == [status, "GPUs", "x", "y"]
