"""`scripts/convert_weights.py`: there and back, and one line for each mistake."""

from __future__ import annotations

import mxnet as mx
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


def refused(args, capsys) -> str:
    """Return the one line of a command that fails."""
    try:
        code = convert_weights.main(args)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


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


def test_names_of_ones_own(source, tmp_path, capsys):
    """A JSON object maps our modules to theirs."""
    net = gluondense.get_model("dpn68b", pretrained=source, **FIELDS)
    parameters = net._collect_params_with_prefix()
    named = {f"backbone.{name}": value.data() for name, value in parameters.items()}
    mx.nd.save(str(tmp_path / "mine.params"), named)
    args = [str(tmp_path / "mine.params"), str(tmp_path / "out.params"), *MODEL]
    assert convert_weights.main(args) == 2
    line = capsys.readouterr().err
    assert "`gluondense convert --source-naming`" in line
    assert " --naming" not in line
    assert line.count("\n") == 1
    (tmp_path / "names.json").write_text('{"{path}": "backbone.{path}"}')
    assert convert_weights.main([*args, "--source-naming", str(tmp_path / "names.json")]) == 0
    assert "(custom names)" in capsys.readouterr().out
    assert arrays(tmp_path / "out.params").keys() == set(parameters)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "names.json is not JSON (Expecting property name"),
        ("[]", "must be a JSON object"),
        ('{"a": 3}', "--source-naming maps 'a' to 3"),
        ('{"features.{path}": "{i}"}', "--source-naming: the target '{i}' uses 'i'"),
    ],
)
def test_a_mistake_in_the_names(source, tmp_path, capsys, text, words):
    (tmp_path / "names.json").write_text(text)
    args = [str(source), str(tmp_path / "out.params"), *MODEL]
    args.append(f"--source-naming={tmp_path / 'names.json'}")
    assert words in refused(args, capsys)


def test_values_that_are_not_finite(source, tmp_path, capsys, caplog):
    net = gluondense.get_model("dpn68b", pretrained=source, **FIELDS)
    net.output.bias.set_data(net.output.bias.data() * np.nan)
    net.save_parameters(str(tmp_path / "bad.params"))
    args = [str(tmp_path / "bad.params"), str(tmp_path / "out.safetensors"), *MODEL]
    assert convert_weights.main(args) == 2
    line = capsys.readouterr().err
    assert "1,000 values that are nan or infinite" in line
    assert "--allow-nan" in line
    assert not (tmp_path / "out.safetensors").exists()
    assert convert_weights.main([*args, "--allow-nan"]) == 0
    assert np.isnan(arrays(tmp_path / "out.safetensors")["classifier.bias"]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda args: ["nowhere.pth", *args[1:]], "no weights file nowhere.pth"),
        (lambda args: [args[0], "out.pth", *args[2:]], "out.pth must end in .params"),
        (
            lambda args: [args[0], "missing/out.params", *args[2:]],
            "missing/out.params: No such file or directory",
        ),
        (lambda args: [*args[:2], "--model", "dpn68c"], "did you mean"),
        (lambda args: [*args[:2], "--model", "dpn92"], "does not fit dpn92"),
        (lambda args: [*args, "--set=classes=7"], "other classes or in_channels"),
        (lambda args: [*args, "--set=classes"], "FIELD=JSON"),
        (lambda args: [args[0], args[0], *args[2:]], "is the input file"),
        (lambda args: args[:2], "--model"),
        (lambda args: [*args, "--source-naming=tim-dpn"], "'tim-dpn' is no FILE.json"),
        (lambda args: [*args, "--source-naming=no.json"], "can't read no.json (No such file"),
    ],
)
def test_a_mistake_gets_one_line(source, tmp_path, capsys, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    before = source.read_bytes()
    args = change([str(source), "out.params", *MODEL])
    assert words in refused(args, capsys)
    assert source.read_bytes() == before
    assert list(tmp_path.iterdir()) == [source]
