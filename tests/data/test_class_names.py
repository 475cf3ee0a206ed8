from __future__ import annotations

import pytest

from gluondense.data.class_names import describe_difference, match_classes


def test_labels_follow_the_names():
    assert match_classes("abc", ("b", "c", "a")).tolist() == [1, 2, 0]
    assert match_classes("ab", ("a", "c", "b"), {"c": "a"}).tolist() == [0, 0, 1]
    wnids = ("n01440764", "n01443537", "other")
    names = ("tench", "goldfish", "shark")
    assert match_classes(names, wnids, {"other": "shark"}).tolist() == [0, 1, 2]


def test_numbered_classes_match_by_position():
    numbers = ("0", "1")
    assert match_classes(("cat", "dog"), numbers).tolist() == [0, 1]
    assert match_classes(numbers, ("cat", "dog")).tolist() == [0, 1]
    assert match_classes(("cat", "dog"), numbers, {"0": "dog", "1": "cat"}).tolist() == [1, 0]
    with pytest.raises(ValueError, match="knows 2 classes, the data has 3"):
        match_classes(("cat", "dog"), ("0", "1", "2"))
    with pytest.raises(ValueError, match="the data lacks 'cat', 'dog'"):
        match_classes(("cat", "dog"), numbers, by_position=False)


def test_a_match_by_position_is_reported(capsys):
    match_classes(("0", "1"), ("0", "1"))
    assert capsys.readouterr().err == ""
    match_classes(("cat", "dog"), ("0", "1"))
    assert capsys.readouterr().err.endswith("by position, as the data has no class names\n")
    match_classes(("0", "1"), ("cat", "dog"))
    assert capsys.readouterr().err.endswith("by position, as the model has no class names\n")


def test_repeated_names():
    assert match_classes(("crane", "crane"), ("crane", "crane")).tolist() == [0, 1]
    with pytest.raises(ValueError, match="model has several classes of the same name"):
        match_classes(("crane", "crane", "dog"), ("dog", "crane", "crane"))
    with pytest.raises(ValueError, match="data has several classes of the same name"):
        match_classes(("crane", "dog"), ("crane", "crane", "dog"))


def test_differences_are_few_words():
    assert describe_difference("ab", "ab") == ""
    assert describe_difference("abcdef", "a") == "the data lacks 'b', 'c', 'd' and 2 more"
    assert describe_difference("aab", "ab") == "the model has 3 names, the data 2"
