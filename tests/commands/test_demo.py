from __future__ import annotations

import sys

from gluondense.commands.demo import main


def test_without_gradio_one_line_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr("gluondense.demo.classifier.Classifier", lambda *_, **fields: None)
    assert main(["runs/first"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the page needs Gradio")
    assert error.endswith("pip install 'gluondense[demo]'.\n")
    assert error.count("\n") == 1


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
