from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from gluondense.reports.page import ClassifiedImage, columns, document, gallery, section, tiles

EVIL = "<i>&"


def test_text_is_escaped():
    page = document(EVIL, EVIL, tiles([(EVIL, EVIL)]) + columns({EVIL: {EVIL: EVIL}}))
    body = page[page.index("<body>") :]
    assert EVIL not in body
    assert body.count("&lt;i&gt;&amp;") == 7


def test_a_section_has_a_note_only_if_given():
    assert section("Title", "<hr>") == "<section><h2>Title</h2><hr></section>"
    assert section("Title", "<hr>", "Note") == ("<section><h2>Title</h2><p>Note</p><hr></section>")


def test_values_of_tables_are_readable():
    text = columns({"A": {"none": None, "flag": True, "list": (1, 2.5), "empty": []}})
    assert re.findall(r"</td><td>(.*?)</td>", text) == ["none", "yes", "1, 2.5", "none"]


def test_a_gallery_holds_the_pixels_and_marks_mistakes():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    html = gallery(
        [
            ClassifiedImage(3, pixels, "cat", "cat", 0.25),
            ClassifiedImage(4, pixels[..., :1], EVIL, "cat", 0.5),
        ]
    )
    assert EVIL not in html
    assert (html.count('class="right"'), html.count('class="wrong"')) == (1, 1)
    assert "sure to 25.0%" in html
    first, second = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
        for text in re.findall(r"base64,([^\"]+)", html)
    )
    np.testing.assert_array_equal(first, pixels)
    np.testing.assert_array_equal(second, pixels[..., 0])
    assert gallery([]) == "<p>There are none.</p>"
