# SPDX-License-Identifier: Apache-2.0
"""Algorithms measured on this machine: the file with them is used by all, or ignored."""

from __future__ import annotations

import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from support.exported_networks import VARIANTS, build

import gluondense
from gluondense import runtime

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("native_operator")]
SHAPE = (2, 3, 64, 64)  # Winograd is the default of the first stage
IMAGES = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
OTHER_SIZE = IMAGES[:, :, :40, :32]
# Prints the bytes of the answer; the images come through standard input.
PREDICT = """
import sys, numpy as np
from gluondense import runtime
images = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(2, 3, 64, 64)
sys.stdout.buffer.write(runtime.load(sys.argv[1])(images).tobytes())
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """A native export, which has 3x3 convolutions that two algorithms support."""
    net = build(*VARIANTS["densenet"])
    return gluondense.export(net, tmp_path_factory.mktemp("export") / "net", SHAPE, "native").prefix


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of the files in a new home, where algorithms are measured."""
    monkeypatch.setenv("GLUONDENSE_TUNE", "1")
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "native"


@pytest.fixture(scope="module")
def defaults(prefix):
    """The answers with GLUONDENSE_TUNE=0, which all tests have by default."""
    return runtime.load(prefix)(IMAGES), runtime.load(prefix)(OTHER_SIZE)


def predict(prefix, images=IMAGES):
    return runtime.load(prefix)(images)


def tuning(folder):
    """Return the only file of algorithms."""
    (file,) = folder.glob("tuning-*")
    return file


def digest(text):
    """FNV-1a."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def rewrite(file, edit):
    """Edit the lines of a file of algorithms, and give it the digest that belongs to them."""
    *lines, _ = file.read_text().splitlines()
    text = "\n".join(edit(lines)) + "\n"
    file.write_text(f"{text}end {digest(text)}\n")


def all_direct(lines):
    return [*lines[:-1], " ".join("direct" for _ in lines[-1].split())]


def test_a_file_is_written_once_and_used_by_all(prefix, folder, defaults):
    first = predict(prefix)
    np.testing.assert_allclose(first, defaults[0], rtol=1e-4, atol=1e-5)
    written = tuning(folder).read_text()
    assert written.startswith("gluondense tuning 1\nprocessor")
    np.testing.assert_array_equal(predict(prefix), first)
    assert tuning(folder).read_text() == written
    # Images of another size keep the default algorithms, and the file stays.
    np.testing.assert_array_equal(predict(prefix, OTHER_SIZE), defaults[1])
    assert tuning(folder).read_text() == written
    assert sorted(file.name for file in folder.iterdir()) == [tuning(folder).name, "tuning.lock"]


def test_mxnet_uses_the_same_file(prefix, folder, defaults):
    predict(prefix)
    rewrite(tuning(folder), all_direct)
    answer = predict(prefix)
    assert (answer != defaults[0]).any()
    np.testing.assert_allclose(answer, defaults[0], rtol=1e-4, atol=1e-5)
    block = gluondense.load_exported(prefix)
    np.testing.assert_array_equal(block(mx.nd.array(IMAGES)).asnumpy(), answer)


def test_tuning_can_be_turned_off(prefix, folder, defaults, monkeypatch):
    monkeypatch.setenv("GLUONDENSE_TUNE", "0")
    np.testing.assert_array_equal(predict(prefix), defaults[0])
    assert not folder.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data.replace(b"direct", b"direkt", 1),
        lambda data: bytes(255 - byte for byte in data),
        lambda data: data + data,
    ],
    ids=["empty", "half", "a byte less", "another word", "inverted", "twice"],
)
def test_a_damaged_file_is_replaced(prefix, folder, defaults, damage):
    predict(prefix)
    file = tuning(folder)
    good = file.read_bytes()
    file.write_bytes(damage(good))
    np.testing.assert_allclose(predict(prefix), defaults[0], rtol=1e-4, atol=1e-5)
    lines = file.read_bytes().splitlines()
    assert lines[:-2] == good.splitlines()[:-2]
    assert set(lines[-2].split()) <= {b"direct", b"winograd", b"grouped"}


def test_a_file_of_another_machine_is_replaced(prefix, folder):
    predict(prefix)
    file = tuning(folder)
    own = file.read_text()
    rewrite(file, lambda lines: [lines[0], "processor another", *lines[2:]])
    assert file.read_text() != own
    predict(prefix)
    assert file.read_text().splitlines()[:6] == own.splitlines()[:6]


@pytest.mark.parametrize(
    "names",
    [
        lambda names: ["bf16"] * len(names),
        lambda names: ["winograd"] * len(names),  # also for those of 1x1
        lambda names: names[:-1],
        lambda names: [*names, "direct"],
        lambda names: [],
    ],
    ids=["no bfloat16 here", "not possible", "one less", "one more", "none"],
)
def test_impossible_algorithms_are_ignored(prefix, folder, defaults, names):
    predict(prefix)
    rewrite(tuning(folder), lambda lines: [*lines[:-1], " ".join(names(lines[-1].split()))])
    np.testing.assert_array_equal(predict(prefix), defaults[0])


@pytest.mark.parametrize("obstacle", ["home is a file", "file is a folder", "lock is a folder"])
def test_a_folder_that_cannot_be_written_gives_the_defaults(prefix, folder, defaults, obstacle):
    if obstacle == "home is a file":
        folder.parent.write_text("")
    elif obstacle == "lock is a folder":
        (folder / "tuning.lock").mkdir(parents=True)
    else:
        predict(prefix)
        file = tuning(folder)
        file.unlink()
        file.mkdir()
    np.testing.assert_array_equal(predict(prefix), defaults[0])
    assert obstacle == "home is a file" or not list(folder.glob("*.new"))


def test_processes_at_once_agree(prefix, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", PREDICT, prefix]
    running = [subprocess.Popen(command, env=environment, **pipes) for _ in range(3)]
    for process in running:
        process.stdin.write(IMAGES.tobytes())
        process.stdin.close()
    answers = set()
    for process in running:
        with process:
            answers.add(process.stdout.read())
        assert process.returncode == 0
    assert answers == {predict(prefix).tobytes()}
    assert sorted(file.name for file in folder.iterdir()) == [tuning(folder).name, "tuning.lock"]
