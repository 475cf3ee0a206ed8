"""`gluondense explain cam` and `gluondense predict --explain`."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from support.training_tiny import TINY

import gluondense
from gluondense.__main__ import main
from gluondense.commands.explain import cam as command
from gluondense.explain import cam, explain_images
from gluondense.explain.methods import METHODS
from gluondense.training import fit, load


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    fit(TINY.with_fields(epochs=1), folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "a & b.png"
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def decoded(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_the_commands_methods_are_those_of_the_package():
    assert command.METHODS == METHODS


def test_predict_explains(run, image, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["predict", str(run), str(image), "--top", "2", "--explain", str(page)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("%") == 2
    text = page.read_text(encoding="utf-8")
    assert "a &amp; b.png" in text
    assert "CAM, exact" in text
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", text)
    pixels, *overlays = map(decoded, re.findall(r'<img src="([^"]+)"', text))
    saved = load(run)
    (seen,) = saved.preprocessing.pixels(image)[None]
    np.testing.assert_array_equal(pixels, seen.squeeze())
    assert len(overlays) == 2
    assert overlays[0].shape == (192, 192, 3)
    for label in re.findall(r"^  (.+?)  ", printed, re.MULTILINE):
        assert label.strip() in text


def test_explanations_are_those_of_cam(run, image):
    saved = load(run)
    net, preprocessing = saved.network(), saved.preprocessing
    (found,) = explain_images(net, [image], preprocessing, saved.class_names, top=2)
    x = preprocessing.normalize(preprocessing.pixels(image)[None])
    logits = net(mx.nd.array(x))
    probabilities = logits.softmax().asnumpy()[0]
    order = np.argsort(-probabilities)
    assert found.explained == tuple(saved.class_names[index] for index in order[:2])
    np.testing.assert_allclose(found.explained_probabilities, probabilities[order[:2]], rtol=1e-4)
    np.testing.assert_allclose(found.probabilities, probabilities[order[:5]], rtol=1e-4)
    expected = cam(net, x, order[:2][None]).maps[0]
    np.testing.assert_allclose(found.maps, expected)
    net.task = "multi_label"
    (found,) = explain_images(net, [image], preprocessing, saved.class_names, top=2)
    sigmoid = 1 / (1 + np.exp(-logits.asnumpy()[0, order[:2]].astype(np.float64)))
    np.testing.assert_allclose(found.explained_probabilities, sigmoid, rtol=1e-4)


def test_classes_methods_and_stages_by_flags(run, image, tmp_path, capsys):
    page, names = tmp_path / "page.html", load(run).class_names
    words = ["explain", "cam", str(run), str(image), "--out", str(page)]
    options = ["--class", names[3], "--class", "0", "--method", "gradcam++", "--stage", "stage1"]
    assert main([*words, *options]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    text = page.read_text(encoding="utf-8")
    assert "Grad-CAM++" in text
    assert re.findall(r"<b>([^<]+)</b>", text) == ["the image", names[3], names[0]]
    known = ", ".join(names[:5])
    for options, message in (
        (["--class", "nothing"], f"unknown class 'nothing' (known: {known}"),
        (["--stage", "stage9"], "unknown stage 'stage9'; did you mean"),
        (["--method", "cam", "--stage", "stage1"], "method (='cam') needs the last feature map"),
        (["--top", "0"], "top (=0) must be at least 1"),
    ):
        assert main([*words, *options]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("words", [["explain", "cam", "--out"], ["predict", "--explain"]])
def test_a_page_in_a_missing_folder(run, image, tmp_path, capsys, words):
    page = tmp_path / "nowhere/page.html"
    assert main([*words, str(page), str(run), str(image)]) == 2
    assert capsys.readouterr().err == (
        f"error: can't write {page} (No such file or directory): name a file in a folder that "
        "exists.\n"
    )


def test_exports(run, image, tmp_path, capsys):
    saved = load(run)
    for target in ("portable", "onednn"):
        gluondense.export(
            saved.network(),
            tmp_path / target,
            input_shape=saved.preprocessing.input_shape,
            target=target,
            preprocessing=saved.preprocessing,
        )
    page = str(tmp_path / "page.html")
    assert main(["predict", str(tmp_path / "portable"), str(image), "--explain", page]) == 0
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "onednn"), str(image), "--explain", page]) == 2
    error = capsys.readouterr().err
    assert "target='onednn' has no feature maps to explain" in error
    assert error.count("\n") == 1


def test_an_export_of_unknown_preprocessing_needs_mean_and_std_only(run, image, tmp_path, capsys):
    saved = load(run)
    net = saved.network()
    net.preprocessing = None
    gluondense.export(net, tmp_path / "net", saved.input_shape)
    page = tmp_path / "page.html"
    words = ["explain", "cam", str(tmp_path / "net"), str(image), "--out", str(page)]
    assert main(words) == 2
    assert "is unknown: give at least --mean and --std" in capsys.readouterr().err
    numbers = [f"--{name}={','.join(map(str, getattr(saved, name)))}" for name in ("mean", "std")]
    assert main([*words, *numbers]) == 0
    assert "CAM, exact" in page.read_text(encoding="utf-8")


def test_the_page_renders_in_a_browser(run, image, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium: apt install chromium")
    page = tmp_path / "page.html"
    assert main(["explain", "cam", str(run), str(image), "--out", str(page)]) == 0
    shot = tmp_path / "shot.png"
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={tmp_path}", f"--screenshot={shot}", "--window-size=1200,600"]
    subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=120)
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    # The image is grey; the overlays are not.
    assert (np.ptp(pixels, axis=2) > 100).sum() > 10_000
