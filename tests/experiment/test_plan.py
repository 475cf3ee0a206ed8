"""Tables of experiments."""

from __future__ import annotations

import pytest

from gluondense.experiment.plan import PlannedRun, read_plan


def write(tmp_path, text):
    path = tmp_path / "runs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_first_seeds_of_all_rows_come_first(tmp_path):
    table = (
        "# the ablation\nname,seeds,arguments\n\n"
        'a,1 2 3,"cifar --set block_config=[1,2] --recipe c10+"\n# b is smaller\nb, 7 8 ,cifar\n'
    )
    runs = read_plan(write(tmp_path, table))
    assert [run.folder for run in runs] == ["a-seed1", "b-seed7", "a-seed2", "b-seed8", "a-seed3"]
    arguments = ("cifar", "--set", "block_config=[1,2]", "--recipe", "c10+")
    assert runs[0] == PlannedRun("a", 1, arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns none"),
        ("name,seed,arguments\n", "has the columns name,seed,arguments"),
        ("name,seeds,arguments\n", "has no rows"),
        ("a,1,cifar --lr-steps 0.5,0.7\n", "line 2 has 4 cells, not 3"),
        ("a,1,cifar\n\na,2,cifar\n", "line 4: the name 'a' occurs twice"),
        ("../a,1,cifar\n", "line 2: the name '../a' is not"),
        ("a,,cifar\n", "line 2: the seeds '' are not"),
        ("a,1 1,cifar\n", "line 2: the seeds '1 1' are not"),
        ("a,-1,cifar\n", "line 2: the seeds '-1' are not"),
        ("a,1,\n", "line 2: there are no arguments"),
        ("a,1,cifar --out=x\n", "line 2: --out=x is set by the experiment"),
        ("a,1,cifar --set 'x\n", "line 2: No closing quotation"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path, text, message):
    head = "" if message.startswith("has") else "name,seeds,arguments\n"
    with pytest.raises(ValueError, match=r"runs\.csv") as caught:
        read_plan(write(tmp_path, head + text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
