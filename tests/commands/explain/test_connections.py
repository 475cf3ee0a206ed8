"""`gluondense explain reuse` and `gluondense explain gradients`."""

from __future__ import annotations

import re

import mxnet as mx
import numpy as np
import pytest
from support.training_tiny import TINY

import gluondense
from gluondense.__main__ import main
from gluondense.commands.explain.gradients import of_fusions
from gluondense.reports.connections import flow_figure, reuse_figure
from gluondense.training import fit


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = TINY.with_fields(epochs=1)
    args = {**config.model.args, "block_config": (2, 2)}
    fit(config.with_fields(model_args=args), folder, progress=False)
    return folder


def test_reuse_of_a_run(run, tmp_path, capsys):
    page = tmp_path / "reuse.html"
    assert main(["explain", "reuse", str(run), "--out", str(page)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [*(f"stage{n}: 3 sources, 3 layers that read them" for n in (1, 2)), str(page)]
    text = page.read_text(encoding="utf-8")
    assert "Feature reuse in densenet121" in text
    assert text.count('class="plotly-graph-div"') == 2
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", text[text.index("<body>") :])
    options = ["--scale", "none", "--normalization"]
    assert main(["explain", "reuse", str(run), "--out", str(page), *options]) == 0
    assert "absolute gamma" in page.read_text(encoding="utf-8")


def test_gradients_of_a_run(run, tmp_path, capsys):
    page = tmp_path / "flow.html"
    words = ["explain", "gradients", str(run), "--stage", "stage2", "--out", str(page)]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["densenet121, stage2:", "  w1: g0", "  w2: g0, g1"]
    assert lines[3:] == ["  classifier: g0, g1, g2", str(page)]
    assert main(["explain", "gradients", str(run), "--stage", "stage3"]) == 2
    assert "unknown stage 'stage3'; did you mean" in capsys.readouterr().err


def test_exports_are_refused_in_one_line(run, tmp_path, capsys):
    net = gluondense.get_model("densenet121", **TINY.model.args, in_channels=1)
    net.initialize()
    options = {"mean": (0.5,), "std": (0.5,)}
    gluondense.export(net, tmp_path / "tiny", input_shape=(1, 1, 8, 8), **options)
    for command in ("reuse", "gradients"):
        capsys.readouterr()
        assert main(["explain", command, str(tmp_path / "tiny")]) == 2
        error = capsys.readouterr().err
        assert "an export has only its graph" in error
        assert error.count("\n") == 1


def test_the_small_networks_and_their_figure():
    flows = of_fusions("stage1")
    assert list(flows) == [
        "DenseNet",
        *(f"CSP-DenseNet, fusion {fusion}" for fusion in ("both", "first", "last")),
    ]
    again = of_fusions("stage1")
    for name, flow in flows.items():
        np.testing.assert_allclose(flow.norms, again[name].norms, rtol=1e-4)
        figure = flow_figure(flow)
        (heatmap,) = figure.data
        assert (heatmap.zmin, heatmap.zmax) == (0, 1)
        zeros = {(a.x, a.y) for a in figure.layout.annotations if a.text == "0"}
        assert zeros == {(x, y) for y, x in zip(*np.nonzero(flow.norms == 0))}


def test_the_figure_of_reuse_frames_the_transition():
    mx.random.seed(0)
    net = gluondense.get_model("densenet121", block_config=(3, 2), num_init_features=16)
    net.initialize()
    first, last = gluondense.explain.feature_reuse(net)
    figure = reuse_figure(first)
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes] == [(2.5, 3.5)]
    assert figure.data[0].zmax == 1
    assert np.nanmax(figure.data[0].z) == 1
    assert list(figure.layout.xaxis.ticktext) == ["1", "2", "3", "transition"]
    top = reuse_figure(last, scale=None).data[0].zmax
    assert top == np.nanmax(last.weights)


def test_the_page_has_the_measured_gradient_flow(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "scripts"))
    from dev.explain_page import explain_page

    # `python scripts/dev/explain_page.py docs/explain.md` updates it.
    page = (root / "docs" / "explain.md").read_text(encoding="utf-8")
    updated = explain_page(page)
    shares, found = (
        [int(share) for share in re.findall(r"(\d+)% ", text)] for text in (page, updated)
    )
    assert re.sub(r" +\d+% ", "%", page) == re.sub(r" +\d+% ", "%", updated)
    assert max(abs(a - b) for a, b in zip(shares, found)) <= 1  # rounding
    assert len(found) > 40
    assert page.count("<!-- computed: ") == 2
