"""Temporary files and folders are removed, whenever an interruption comes."""

from __future__ import annotations

import os

import pytest

from gluondense.files import replacing, temporary_folder


def interrupted(function):
    """Return the function with a Ctrl-C just after it."""

    def call(*args, **kwargs):
        function(*args, **kwargs)
        raise KeyboardInterrupt

    return call


def write(path) -> None:
    with replacing(path) as new:
        new.write_bytes(b"new")


def make(parent) -> None:
    with temporary_folder(parent, "export"):
        pass


@pytest.mark.parametrize("name", ["open", "close", "replace"])
def test_no_file_is_left_by_an_interruption(tmp_path, monkeypatch, name):
    with monkeypatch.context() as patch:
        patch.setattr(os, name, interrupted(getattr(os, name)))
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "file")
    found = {path.name for path in tmp_path.iterdir()}
    assert found == ({"file"} if name == "replace" else set())


def test_no_folder_is_left_by_an_interruption(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", interrupted(os.mkdir))
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path)
    assert not list(tmp_path.iterdir())
