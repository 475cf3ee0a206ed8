"""Hand-written pages hold what the tables hold."""

from __future__ import annotations

from gluondense.weights import LAYOUTS, WEIGHTS


def table(text: str, head: str) -> list[list[str]]:
    lines = text[text.index(head) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_of_weights_lists_all_that_are_published(root):
    text = (root / "docs" / "weights.md").read_text(encoding="utf-8")
    expected = [
        [f"`{key}`", f"{row.top1:.3f}", f"{row.top5:.3f}", f"`{row.file_name}`"]
        for key, row in WEIGHTS.items()
    ]
    rows = table(text, "| weights |")
    assert [[*row[:3], row[4]] for row in rows] == expected
    for row, weights in zip(rows, WEIGHTS.values()):
        images = weights.preprocessing
        assert row[3].startswith(f"{images.input_size}, ")
        assert row[3].endswith(f" mean, {images.interpolation}, crop {images.crop_ratio}")


def test_the_page_of_weights_lists_all_layouts(root):
    text = (root / "docs" / "weights.md").read_text(encoding="utf-8")
    expected = [[f"`{key}`", row.writer] for key, row in LAYOUTS.items()]
    assert table(text, "| layout |") == expected
