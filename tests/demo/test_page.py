"""The page of ``gluondense demo`` in a real browser that uploads files."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from support.exported_networks import VARIANTS, build

import gluondense
from gluondense.demo.classifier import Classifier
from gluondense.deploy import load_exported, predict
from gluondense.reports.page import image_url

pytestmark = [
    pytest.mark.demo,
    pytest.mark.skipif(find_spec("gradio") is None, reason="no Gradio: the extra `demo` has it"),
]

# Names that HTML, a JavaScript template or Markdown would change.
CLASSES = ("cat", "<b>dog</b>", "${1+1}", "{{this}}", "*fish* & chips")
MEAN, STD, SHAPE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (1, 3, 32, 32)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    net = build(*VARIANTS["densenet"])
    prefix = tmp_path_factory.mktemp("export") / "net"
    gluondense.export(net, prefix, SHAPE, class_names=CLASSES, mean=MEAN, std=STD)
    return str(prefix)


@pytest.fixture(scope="module")
def address(export):
    from gluondense.demo.page import launch, make_page

    page = make_page(Classifier(export), top=len(CLASSES))
    # A connection to another machine would fail the test, see conftest.py.
    yield launch(page, "127.0.0.1", None)
    assert page.share_url is None
    assert not page.analytics_enabled
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The open page; afterwards, whether it needed another server or had an error."""
    page = browser.new_page()
    hosts, errors = set(), []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.on("pageerror", lambda error: errors.append(error))  # a builtin fails
    page.goto(address)
    page.wait_for_selector("#image input[type=file]", state="attached")
    yield page
    page.close()
    assert hosts <= {"127.0.0.1", None}  # None: data URLs
    assert errors == []


@pytest.fixture
def photo(tmp_path):
    """A photograph that is neither square nor upright in its file."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # turn right
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).resize((300, 200)).save(path, exif=exif, quality=85)
    return path


def upload(page, path):
    page.set_input_files("#image input[type=file]", str(path))


def shown(page) -> dict[str, str]:
    """The labels and percentages on the page, once there are any."""
    page.wait_for_selector("#answer .bars .value")
    labels = page.locator("#answer .label").all_inner_texts()
    return dict(zip(labels, page.locator("#answer .value").all_inner_texts()))


def test_an_uploaded_image_gets_the_answer_of_predict(page, photo, export):
    net = load_exported(export)
    expected = predict(net, [photo], SHAPE, MEAN, STD, CLASSES)[0]
    upload(page, photo)
    values = [f"{100 * value:.1f} %" for value in expected.probabilities]
    assert list(shown(page).items()) == list(zip(expected.labels, values))
    assert set(expected.labels) == set(CLASSES)
    assert re.search(r"\d+\.\d ms in the network", page.inner_text("#answer"))
    width = page.locator("#answer .fill").first.evaluate("e => e.style.width")
    assert float(width.rstrip("%")) == pytest.approx(100 * expected.probabilities[0], abs=0.01)


def test_maps_show_what_speaks_for_the_most_probable_classes(page, photo, export):
    upload(page, photo)
    page.wait_for_selector("#answer .maps img")
    images = page.locator("#answer .maps img")
    assert [image.get_attribute("alt") for image in images.all()] == list(shown(page))[:3]
    assert images.first.evaluate("e => e.complete && e.naturalWidth") >= 192
    drawn = Classifier(export).explain(photo)
    url = image_url(next(iter(drawn.values())), quality=90)
    assert images.first.get_attribute("src") == url


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA"])
def test_images_of_any_mode_get_the_answer_of_predict(page, mode, tmp_path, export):
    path = tmp_path / "image.tiff"
    pixels = np.random.default_rng(1).integers(0, 256, (40, 30, 4), np.uint8)
    Image.fromarray(pixels, "RGBA").convert("RGB" if mode == "CMYK" else mode).convert(mode).save(
        path
    )
    expected = predict(load_exported(export), [path], SHAPE, MEAN, STD, CLASSES)[0]
    upload(page, path)
    values = [f"{100 * value:.1f} %" for value in expected.probabilities]
    assert list(shown(page).values()) == values


def test_a_bad_file_gets_a_message_and_the_page_goes_on(page, photo, tmp_path):
    bad = tmp_path / "holiday.png"
    bad.write_bytes(photo.read_bytes()[:900])
    upload(page, bad)
    page.wait_for_selector("#answer .problem")
    text = page.inner_text("#answer")
    assert text.startswith("holiday.png is not a readable image")
    page.click("#image button[aria-label='Remove Image']")
    page.wait_for_selector("#answer .problem", state="detached")
    upload(page, photo)
    assert len(shown(page)) == len(CLASSES)


def test_a_removed_image_takes_its_answer_along(page, photo):
    upload(page, photo)
    shown(page)
    page.click("#image button[aria-label='Remove Image']")
    page.wait_for_selector("#answer .bars", state="detached")
    assert page.inner_text("#answer").startswith("Drop an image")


def test_the_command_serves_until_a_signal_and_names_a_port_in_use(export):
    command = [sys.executable, "-m", "gluondense", "demo", export, "--port"]
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run([*command, port], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"error: port {port} of 127.0.0.1 is not free")
    with subprocess.Popen([*command, port], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith(f"http://127.0.0.1:{port}/ (Ctrl-C ends)")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
