from __future__ import annotations

import pytest

from gluondense.data.files.image_list import read_list_file


def test_read_list_file(tmp_path):
    path = tmp_path / "a.lst"
    path.write_text("5\t2.000000\tcat/a b.jpg\n\n7\t0\tdog/c.jpg\n")
    assert list(read_list_file(path)) == [(5, 2.0, "cat/a b.jpg"), (7, 0.0, "dog/c.jpg")]
    for line in ("5 2 a.jpg", "5\ttwo\ta.jpg", "5\t1\t2\ta.jpg"):
        path.write_text(line + "\n")
        with pytest.raises(ValueError, match=r"line 1 of .* is not number, label and path"):
            list(read_list_file(path))
