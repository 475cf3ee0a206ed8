"""The inference benchmark: backends in worker processes, checked and interleaved."""

from __future__ import annotations

import json
import os
import re
import time

import numpy as np
import pytest
from benchmarking import inference, process
from benchmarking.interleaved import Case, measure_interleaved
from benchmarking.prepare import backends, prepare
from benchmarking.throughput import throughput
from benchmarking.workers.backends import PRECISIONS, exported

import gluondense
from scripts import benchmark

MODEL = "densenet_tutorial"
OURS = ["onednn", "portable"]
SHAPE = (1, 1, 64, 64)


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """The tutorial network, prepared for the MXNet backends."""
    return prepare(MODEL, tmp_path_factory.mktemp("prepared"), [64], OURS)


@pytest.fixture
def plain_mxnet(monkeypatch):
    """Require a NumPy that MXNet supports without gluondense, which the workers do not import."""
    if np.lib.NumpyVersion(np.__version__) >= "1.24.0":
        pytest.skip("plain MXNet needs NumPy below 1.24")
    monkeypatch.setenv("PYTHONPATH", "")


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Replace the worker program by a script."""

    def use(body: str):
        script = tmp_path / "worker.py"
        script.write_text(f"import json, os, sys, time\nname = sys.argv[2]\n{body}")
        monkeypatch.setattr(process, "WORKER", script)
        monkeypatch.setattr("benchmarking.interleaved.ROUND_SECONDS", 0.002)
        return tmp_path

    return use


# A worker whose behavior depends on the backend's name.
FAKE = """
if name == "torch":
    sys.exit("no such luck")
off = 0.05 * (name == "openvino-int8") + 2 * (name == "portable")
sys.stderr.write("warning\\n" * 100_000)
costs = dict(first_s=1.0, import_s=0.5, load_s=0.25, rss_mb=100.0, peak_mb=120.0)
print(json.dumps(dict(costs, output=[1.0 + off, 2.0])), flush=True)
seconds = {"openvino": 0.001, "onednn": 0.002}.get(name, 0.003)
for number, line in enumerate(sys.stdin):
    if name == "mxnet-zoo" and number == 3:
        os.kill(os.getpid(), 9)
    print(json.dumps({"times": [seconds] * int(line)}), flush=True)
"""


def children() -> list[str]:
    return [
        pid
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if re.search(rb"worker\.py|infer\.py", read(f"/proc/{pid}/cmdline"))
        and f"\nPPid:\t{os.getpid()}\n".encode() in read(f"/proc/{pid}/status")
    ]


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def test_targets_are_measured_in_rounds(plain_mxnet, ready):
    expected = ready.output(64)
    case = Case(MODEL, ready.folder, ready.names, (2, 1, 64, 64), expected)
    ((measurements, reasons),) = measure_interleaved([case], threads=1, rounds=2)
    assert [measurement.name for measurement in measurements] == OURS
    assert reasons == {}
    for measurement in measurements:
        assert len(measurement.rounds) == 2
        assert (
            0 < min(measurement.times) <= 2 * measurement.median_ms / 1e3 <= max(measurement.times)
        )
        low, high = measurement.quartiles_ms
        assert low <= measurement.median_ms <= high
        assert measurement.error < 1e-4
        start = measurement.startup
        assert start["import_s"] > 0 < start["load_s"]
        assert start["first_s"] > start["import_s"] + start["load_s"]
        assert 20 < start["rss_mb"] <= start["peak_mb"] + 1 < 4000
    assert children() == []


def test_all_targets_are_backends_with_their_precision():
    rows = backends()
    targets = {name for name in gluondense.deploy.targets.TARGETS if not name.startswith("onnx")}
    assert targets < set(rows)
    assert rows["portable"].ours
    assert not rows["openvino"].ours
    assert {row.precision for row in rows.values()} == set(PRECISIONS)
    assert exported("native_int8").precision == "int8"


def test_a_backend_that_cannot_run_the_network_has_a_reason(tmp_path, capsys):
    ready = prepare(MODEL, tmp_path, [64], ["portable", "mxnet-zoo"])
    assert ready.names == ["portable"]
    assert ready.reasons == {"mxnet-zoo": "MXNet's zoo has no densenet_tutorial"}
    logged = capsys.readouterr().err
    assert "densenet_tutorial: preparing portable" in logged
    assert "densenet_tutorial: no mxnet-zoo: MXNet's zoo has no densenet_tutorial" in logged


def test_a_backend_that_is_not_installed_has_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ready = prepare(MODEL, tmp_path, [64], ["openvino-int8"])
    assert ready.reasons == {"openvino-int8": "openvino is not installed"}


def test_an_image_folder_can_be_predicted(tmp_path):
    from PIL import Image

    folder = tmp_path / "images" / "class"
    folder.mkdir(parents=True)
    for number in range(3):
        Image.new("L", (40, 30), 80 * number).save(folder / f"{number}.png")
    prepare(MODEL, tmp_path, [64], ["portable"], image_folder=tmp_path / "images")
    images = np.load(tmp_path / "images-64.npy")
    assert images.shape == (32, 1, 64, 64)
    np.testing.assert_allclose(images[[0, -1], 0, 0, 0], [-1, 160 / 127.5 - 1], rtol=1e-5)
    with pytest.raises(ValueError, match="has no images"):
        prepare(MODEL, tmp_path, [64], ["portable"], image_folder=tmp_path / "images-64.npy")


def test_a_failing_backend_is_named_and_the_others_continue(fake):
    folder = fake(FAKE)
    names = ["onednn", "torch", "portable", "mxnet-zoo", "openvino", "openvino-int8"]
    case = Case(MODEL, folder, names, SHAPE, np.array([1.0, 2.0]))
    ((measurements, reasons),) = measure_interleaved([case], threads=1, rounds=3)
    assert [measurement.name for measurement in measurements] == [
        "onednn",
        "openvino",
        "openvino-int8",
    ]
    assert reasons == {
        "torch": "torch stopped: no such luck",
        "portable": "portable gives other logits: off by 0.894, allowed is 0.001",
        "mxnet-zoo": "mxnet-zoo stopped: SIGKILL, warning",
    }
    assert measurements[2].error == pytest.approx(0.05 / 5**0.5)
    assert children() == []


def test_an_interrupt_leaves_no_process(fake, monkeypatch):
    folder, seen = fake("time.sleep(600)"), []

    def interrupted(worker):
        time.sleep(0.2)
        seen.extend(children())
        raise KeyboardInterrupt

    monkeypatch.setattr(process.Worker, "answer", interrupted)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        measure_interleaved([Case(MODEL, folder, ["onednn"], SHAPE, np.ones(2))], 1, 1)
    assert len(seen) == 1
    assert children() == []
    assert time.monotonic() - began < 5


def test_workers_do_not_import_gluondense():
    """Otherwise the time to the first prediction would include its import; runtime is measured."""
    for name in ("infer.py", "backends.py", "torch_peer.py", "torch_peleenet.py"):
        source = process.WORKER.with_name(name).read_text()
        source = source.replace("from gluondense import runtime", "")
        assert not re.search(r"^\s*(from|import) (gluondense|\.)", source, re.MULTILINE)


def test_throughput_of_one_and_two_processes(fake, monkeypatch):
    monkeypatch.setattr("benchmarking.throughput.ROUND_SECONDS", 0.01)
    folder = fake(FAKE)
    many = 2 if len(os.sched_getaffinity(0)) > 1 else 1
    counts = sorted({1, many})
    case = Case(MODEL, folder, ["onednn", "openvino", "torch"], (4, 1, 8, 8), np.ones(2))
    found, reasons = throughput(case, counts, 2)
    assert [(row["name"], row["workers"]) for row in found] == [
        (name, count) for name in ("onednn", "openvino") for count in counts
    ]
    assert reasons == {"torch": "torch stopped: no such luck"}
    rows = inference.throughput_rows(found)
    assert [row["to_best_peer"] for row in rows if row["name"] == "openvino"] == [1.0] * len(counts)
    assert children() == []
    with pytest.raises(ValueError, match=r"workers \(=1000\) must be at most"):
        throughput(case, [1000])


def test_the_script_prints_tables_and_writes_json(plain_mxnet, tmp_path, capsys):
    file = tmp_path / "results.json"
    options = ["--batch", "1", "--sizes", "64", "--threads", "1", "--rounds", "1"]
    only = ["--only", *OURS, "--reference", "portable", "--json", str(file)]
    assert benchmark.main([MODEL, *options, *only]) == 0
    captured = capsys.readouterr()
    assert "densenet_tutorial, 64x64, batch 1, 1 threads" in captured.out
    assert re.search(r"portable +fp32 +1\.00x ", captured.out)
    assert "preparing onednn" in captured.err
    written = json.loads(file.read_text())
    assert {row["name"] for row in written["rows"]} == set(OURS)
    assert written["command"].startswith("python scripts/benchmark.py densenet_tutorial --batch 1")
    assert written["machine"]["cpu"]
    markdown = tmp_path / "results.md"
    assert benchmark.main(["--load", str(file), "--markdown", str(markdown)]) == 0
    assert "**onednn**" in markdown.read_text()


def test_two_networks_are_compared_in_the_same_rounds(plain_mxnet, tmp_path, capsys):
    file = tmp_path / "results.json"
    options = ["--batch", "1", "2", "--sizes", "64", "--threads", "1", "--rounds", "2"]
    only = ["--together", "--only", "portable", "--json", str(file)]
    assert benchmark.main([MODEL, "densenet40_k12_cifar10", *options, *only]) == 0
    out, err = capsys.readouterr()
    assert "densenet40_k12_cifar10 over densenet_tutorial" in out
    assert "batch 2, 64x64: 2 rounds of 2 backends" in err
    written = json.loads(file.read_text())
    found = {(row["model"], row["batch"]): row["median_ms"] for row in written["rows"]}
    assert len(found) == len(written["rows"]) == 4
    assert [row["batch"] for row in written["between"]] == [1, 2]
    for row in written["between"]:
        assert (row["model"], row["to"], row["name"]) == (
            "densenet40_k12_cifar10",
            MODEL,
            "portable",
        )
        low, high = row["quartiles"]
        assert 0 < low <= row["ratio"] <= high
    assert children() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["densenet1211"], "did you mean"),
        ([MODEL, "--only", "tensorrt"], "unknown backend 'tensorrt' (known: portable"),
        ([MODEL, "--only", "mxnet-zoo"], "with mxnet-zoo: MXNet's zoo has no densenet_tutorial"),
        ([MODEL, "--sizes", "8"], "needs images of at least"),
        (["--load", "/nowhere.json"], "No such file"),
        ([MODEL, "--images", "/nowhere"], "has no images"),
    ],
)
def test_an_error_is_one_line(capsys, arguments, words):
    assert benchmark.main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert words in error
    assert error.startswith("error: ")


@pytest.mark.parametrize("arguments", [[], [MODEL, "--batch", "0"]])
def test_a_usage_error_is_one_line(capsys, arguments):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert capsys.readouterr().err.startswith("error: ")


def test_peers_files_of_other_weights_are_removed(tmp_path):
    prepare(MODEL, tmp_path, [64], OURS)
    kept = tmp_path / "net.onnx"
    kept.write_bytes(b"of an earlier run")
    prepare(MODEL, tmp_path, [64], OURS)
    assert kept.exists()
    (tmp_path / "contents.sha256").write_text("of other weights")
    prepare(MODEL, tmp_path, [64], OURS)
    assert not kept.exists()
