"""Commands that are given a GPU which MXNet cannot use end with one line, before data are read."""

from __future__ import annotations

import pytest
from support.gpu_commands import GPU_COMMANDS

from gluondense.__main__ import main
from gluondense.environment.gpu import gpu_problem


@pytest.mark.parametrize("words", GPU_COMMANDS, ids=" ".join)
def test_a_gpu_that_cannot_be_used_is_one_line(words, tmp_path, capsys, monkeypatch):
    problem = gpu_problem()
    if problem is None:
        pytest.skip("there is a GPU that MXNet can use")
    monkeypatch.chdir(tmp_path)
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    assert error == f"error: GPU 0 can't be used: {problem}. Omit {words[-2]} to use the CPU.\n"
    assert not list(tmp_path.rglob("*.params"))
