"""Bad boxes and images: each kind is named, and left out, clipped or an error."""

from __future__ import annotations

import pytest
from PIL import Image

from gluondense.data.detection.annotations import RawBox, RawImage
from gluondense.data.detection.problems import KINDS, Problems
from gluondense.data.detection.validation import validate

GOOD = ("cat", (1, 2, 30, 40))
# kind of problem, box, and what "clip" makes of it
BOXES = [
    ("outside", (("cat", (10, 10, 60, 20))), [10, 10, 50, 20]),
    ("outside", (("cat", (-9, -8, 20, 20))), [0, 0, 20, 20]),
    ("outside", (("cat", (60, 10, 70, 20))), None),
    ("empty", (("cat", (5, 5, 5, 9))), None),
    ("empty", (("cat", (5, 5, 9, 5))), None),
    ("inverted", (("cat", (9, 5, 5, 9))), None),
    ("class", (("cta", (5, 5, 9, 9))), None),
    ("duplicate", GOOD, None),
]


@pytest.fixture
def check(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (50, 40)).save(path)

    def check(*boxes, bad="skip", names=("cat", "dog")):
        rows = [RawBox(*box, False, f"object {n}") for n, box in enumerate(boxes, 1)]
        problems = Problems(bad)
        found = validate([RawImage(path, (40, 50), rows, "a.xml")], names, problems)
        return found.boxes_of(0).tolist(), problems.found

    return check


@pytest.mark.parametrize(("kind", "box", "clipped"), BOXES)
def test_bad_boxes(check, kind, box, clipped):
    good = [1, 2, 30, 40, 0, 0]
    boxes, (problem,) = check(GOOD, box)
    assert boxes == [good]
    assert problem.kind == kind
    assert "a.xml object 2" in problem.message
    assert problem.message.endswith(("it is left out", "it is used once"))
    boxes, (problem,) = check(GOOD, box, bad="clip")
    assert boxes == [good] + ([[*clipped, 0, 0]] if clipped else [])
    assert problem.message.endswith("it is clipped") == (clipped is not None)
    with pytest.raises(ValueError, match=r"a.xml object 2 .*correct it, or leave such boxes out"):
        check(GOOD, box, bad="error")


def test_an_unknown_class_has_a_suggestion(check):
    _, (problem,) = check(("cta", (5, 5, 9, 9)))
    assert "(cta: 5, 5, 9, 9) has an unknown class; did you mean 'cat'?" in problem.message


def test_a_pixel_outside_is_rounding(check):
    boxes, problems = check(("dog", (-1, -0.5, 51, 41)))
    assert boxes == [[0, 0, 50, 40, 1, 0]]
    assert not problems


def test_equal_boxes_of_two_classes_are_no_duplicates(check):
    boxes, problems = check(GOOD, ("dog", GOOD[1]))
    assert len(boxes) == 2
    assert not problems


@pytest.mark.parametrize("bad", ["skip", "clip"])
def test_missing_unreadable_and_repeated_images_are_left_out(tmp_path, bad):
    good, broken = tmp_path / "a.png", tmp_path / "b.png"
    Image.new("RGB", (50, 40)).save(good)
    broken.write_bytes(b"not an image")
    paths = [good, tmp_path / "c.png", broken, tmp_path, good]
    images = [RawImage(path, None, [RawBox(*GOOD, False, "box")], "list") for path in paths]
    problems = Problems(bad)
    found = validate(images, ("cat",), problems)
    assert [found.path(index) for index in range(len(found))] == [good]
    assert found.sizes.tolist() == [[40, 50]]
    kinds = [problem.kind for problem in problems.found]
    assert kinds == ["image", "image", "image", "duplicate"]
    for path, problem in zip(paths[1:], problems.found):
        assert str(path) in problem.message
    assert problems.summary() == "missing images 3, duplicates 1"
    for number in range(1, 5):
        with pytest.raises(ValueError, match=r"leave such (images|boxes) out"):
            validate([images[0], images[number]], ("cat",), Problems("error"))


def test_an_image_without_boxes_is_background(check):
    assert check() == ([], [])


def test_many_problems_are_counted(check, capsys):
    problems = Problems()
    for number in range(30):
        problems.add("empty", f"box {number} has no area", "it is left out")
    problems.print()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "warning: bad annotations: empty boxes 30"
    assert {kind for kind, _, _ in BOXES} <= set(KINDS)
    with pytest.raises(ValueError, match=r"bad \(='drop'\) must be one of 'skip', 'clip', 'error'"):
        Problems("drop")
