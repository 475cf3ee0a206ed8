"""Results of the inference benchmark: ratios, roofline, tables and pages."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from benchmarking import inference, roofline
from benchmarking.interleaved import Measurement
from benchmarking.machine import machine, versions
from benchmarking.pages import tables
from benchmarking.pages.inference import page
from benchmarking.roofline import costs, roofline_ms

import gluondense

MODEL = "densenet_tutorial"


def measurement(name, *rounds, batch=1):
    startup = {"first_s": 1.0, "import_s": 0.5, "load_s": 0.25, "rss_mb": 100.0, "peak_mb": 120.0}
    return Measurement(name, batch, rounds, startup, 0.0)


def test_ratios_are_computed_per_round():
    slow, fast = (
        measurement("onednn", (2.0, 2.0), (6.0,)),
        measurement("openvino", (1.0, 1.0), (3.0,)),
    )
    assert slow.ratio(fast) == {"name": "openvino", "ratio": 2.0, "quartiles": [2.0, 2.0]}
    rows = inference.rows([slow, fast, measurement("openvino-int8", (0.5,), (0.5,))], "openvino")
    assert [row["name"] for row in rows] == ["openvino", "onednn", "openvino-int8"]
    assert rows[1]["to_best_peer"] == {"name": "openvino", "ratio": 2.0, "quartiles": [2.0, 2.0]}
    assert rows[2]["to_best_peer"]["name"] == "openvino-int8"
    assert rows[2]["to_reference"]["ratio"] == pytest.approx((0.5 + 1 / 6) / 2)
    assert inference.rows([slow], "openvino")[0]["to_best_peer"] is None


def test_costs_are_counted_after_the_inference_passes():
    net = gluondense.get_model("densenet121")
    net.initialize()
    net(mx.nd.zeros((1, 3, 64, 64))).wait_to_read()
    cost = costs(net, 224)
    whole = gluondense.summary("densenet121")
    assert 0.9 * whole.macs < cost["macs"] < whole.macs
    peak = {"fp32": {"a": 10.0, "b": 50.0}, "int8": {"a": 200.0}, "copy": 20.0}
    adds, moved = roofline_ms(cost, peak, "fp32", batch=8)
    assert adds == pytest.approx(cost["macs"] / 50e9 * 1e3)
    assert moved == pytest.approx(4 * (cost["elements"] + cost["weights"] / 8) / 20e9 * 1e3)
    assert roofline_ms(cost, peak, "int8", 8) == pytest.approx((adds / 4, moved / 4))


def test_peaks_are_measured_in_a_process(monkeypatch):
    code = "import peaks; peaks.SIDE, peaks.COPY_BYTES, peaks.SECONDS = 64, 1 << 16, 0.01; "
    command = [sys.executable, "-c", f"{code}peaks.main(1)"]
    environment = {**os.environ, "PYTHONPATH": str(roofline.WORKER.parent)}
    if np.lib.NumpyVersion(np.__version__) >= "1.24.0":
        pytest.skip("plain MXNet needs NumPy below 1.24")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"fp32", "int8", "copy"}
    assert min(min(found["fp32"].values()), min(found["int8"].values()), found["copy"]) > 0


def test_the_machine_is_described(tmp_path):
    here = machine()
    assert here["cpu"]
    assert here["cores"] >= 1
    assert versions()["Python"] == sys.version.split()[0]
    cpuinfo = (
        "model name\t: Fast 9\ncpu family\t: 25\nmodel\t\t: 17\nflags\t\t: sse avx2 amx_tile\n"
    )
    files = {
        "proc/cpuinfo": cpuinfo,
        "proc/meminfo": "MemTotal:  1048576 kB\n",
        "sys/devices/system/cpu/cpu0/cache/index0/type": "Data\n",
        "sys/devices/system/cpu/cpu0/cache/index0/level": "1\n",
        "sys/devices/system/cpu/cpu0/cache/index0/size": "32K\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    there = machine(tmp_path)
    assert (there["cpu"], there["family"]) == ("Fast 9", "25.17")
    assert there["flags"] == ["avx2", "amx_tile"]
    assert there["caches"] == {"L1d": "32K"}
    assert there["memory_gb"] == 1.0


@pytest.fixture(scope="module")
def content():
    """Results in fp32 and int8 at two batches and sizes."""
    rows = []
    for batch, size in ((1, 64), (8, 64), (1, 96)):
        measurements = [
            measurement(name, *(((speed + 0.01 * turn) * batch * size / 64,) for turn in range(3)))
            for name, speed in (("onednn", 0.02), ("openvino", 0.025), ("openvino-int8", 0.01))
        ]
        measurements = [dataclasses.replace(x, batch=batch) for x in measurements]
        case = {"model": MODEL, "batch": batch, "size": size}
        rows += [{**case, **row} for row in inference.rows(measurements, "openvino")]
    speeds = [
        {"name": name, "workers": count, "images_per_s": count * 9.0, "quartiles": [8.0, 10.0]}
        for name in ("onednn", "openvino")
        for count in (1, 2)
    ]
    return {
        "format": inference.FORMAT,
        "command": "python scripts/benchmark.py <model>",
        "date": "2026-11-23",
        "versions": versions(),
        "machine": machine(),
        "threads": 2,
        "reference": "openvino",
        "rows": rows,
        "throughput": [
            {"model": MODEL, "batch": 1, "size": 64, **row}
            for row in inference.throughput_rows(speeds)
        ],
        "missing": [
            {"model": MODEL, "name": "torch", "case": "", "reason": "torch is not installed"}
        ],
        "peaks": {"fp32": {"NumPy": 100.0}, "int8": {"MXNet": 400.0}, "copy": 20.0},
        "costs": [{"model": MODEL, "macs": 5e9, "elements": 2e6, "weights": 1e6}],
    }


def test_tables_start_with_ratios(content):
    text = tables.cases_text(content["rows"], 2)
    assert "densenet_tutorial, 64x64, batch 8, 2 threads" in text
    assert re.search(r"onednn +fp32 +0\.8\dx +0\.8\dx +30\.0 ", text)
    rest = tables.rest_text(content)
    assert re.search(r"onednn +fp32 +1\.00x +9\.0 +1\.00x +18\.0", rest)
    assert "without torch (densenet_tutorial): torch is not installed" in rest
    assert "fp32 100.0 G multiply-adds a second (NumPy)" in rest
    assert re.search(r"densenet_tutorial +5000\.0 +50\.0 +0\.6 +12\.5 +0\.[12]", rest)


def test_markdown_has_command_and_versions(content):
    text = tables.markdown(content)
    assert text.startswith("```sh\npython scripts/benchmark.py <model>\n```\n")
    assert f"numpy {np.__version__}" in text
    assert re.search(r"\*\*onednn\*\* +\| fp32 \| \*\*0\.8\d\*\* 30\.0 \(25\.0 – 35\.0\)", text)
    assert len(re.findall(r"^\*\*densenet_tutorial, (64x64|96x96)\*\*$", text, re.MULTILINE)) == 2


def test_the_page_has_charts_of_the_available_results(content):
    text = page(content)
    assert "<h2>densenet_tutorial, 64x64</h2>" in text
    charts = ("Latency against the batch", "Latency against the image", "Throughput", "Memory")
    for title in (*charts, "Start"):
        assert f"<h2>{title}</h2>" in text
    assert "time over openvino" in text
    assert "python scripts/benchmark.py &lt;model&gt;" in text
    assert not re.search(r"<(script|link)[^>]+(src|href)=\"(?!data:)", text)
    one = {**content, "rows": [row for row in content["rows"] if row["batch"] == 8]}
    text = page({**one, "throughput": [], "missing": []})
    assert "<h2>Latency against" not in text
    assert "<h2>Throughput" not in text
