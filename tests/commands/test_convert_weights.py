"""`scripts/convert_weights.py`: there and back, and one line for each mistake."""

from __future__ import annotations

import numpy as np
import pytest
from support.reference import randomize

import gluondense
from gluondense.commands import convert_weights
from gluondense.weights import open_weights, save_weights

FIELDS = {"num_blocks": (1, 2), "increments": (16, 8), "bottleneck_width": 32, "groups": 8}
SET = [
    f"--set={name}={list(value) if isinstance(value, tuple) else value}"
    for name, value in FIELDS.items()
]
MODEL = ["--model", "dpn68b", *SET]


@pytest.fixture
def source(tmp_path):
    net = randomize(gluondense.get_model("dpn68b", **FIELDS))
    save_weights(net, tmp_path / "timm.safetensors")
    return tmp_path / "timm.safetensors"


def arrays(path) -> dict[str, np.ndarray]:
    with open_weights(path) as file:
        return dict(file)


def test_there_and_back(source, tmp_path, capsys):
    ours, back = tmp_path / "ours.params", tmp_path / "back.safetensors"
    assert convert_weights.main([str(source), str(ours), *MODEL]) == 0
    assert "timm-dpn-b names" in capsys.readouterr().out
    net = gluondense.get_model("dpn68b", pretrained=ours, **FIELDS)
    assert "features.stage1.block1.conv_c.conv.weight" in arrays(ours)
    assert net.output.weight.shape == (1000, net.out_channels)
    assert convert_weights.main([str(ours), str(back), *MODEL]) == 0
    before, after = arrays(source), arrays(back)
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])


@pytest.mark.parametrize("flag", ["--naming", "--layout"])
def test_the_naming_scheme_can_be_chosen(source, tmp_path, flag):
    out = tmp_path / "cypw.params"
    assert convert_weights.main([str(source), str(out), *MODEL, flag, "cypw-dpn-b"]) == 0
    assert "conv2_x__1_c1x1-c2__conv_weight" in arrays(out)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda args: ["nowhere.pth", *args[1:]], "no weights file nowhere.pth"),
        (lambda args: [args[0], "out.pth", *args[2:]], "out.pth must end in .params"),
        (lambda args: [args[0], "missing/out.params", *args[2:]], "missing"),
        (lambda args: [*args[:2], "--model", "dpn68c"], "did you mean"),
        (lambda args: [*args[:2], "--model", "dpn92"], "does not fit dpn92"),
        (lambda args: [*args, "--set=classes=7"], "other classes or in_channels"),
        (lambda args: [*args, "--set=classes"], "FIELD=JSON"),
        (lambda args: [args[0], args[0], *args[2:]], "is the input file"),
        (lambda args: args[:2], "--model"),
    ],
)
def test_a_mistake_gets_one_line(source, tmp_path, capsys, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    before = source.read_bytes()
    args = change([str(source), "out.params", *MODEL])
    try:
        code = convert_weights.main(args)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert words in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert source.read_bytes() == before
    assert list(tmp_path.iterdir()) == [source]
