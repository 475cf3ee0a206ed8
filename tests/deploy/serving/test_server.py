"""Archives of every family and target in multi-model-server on this machine, under load."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarking.load import put_under_load
from benchmarking.servers import free_ports
from PIL import Image
from support.served import MODELS, assert_same, garbage, in_process
from support.serving import serving

import gluondense
from gluondense.deploy import predict
from gluondense.environment.process import usable_cores

pytestmark = pytest.mark.serve


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    """The running server; all processes of its group are killed afterwards."""
    with serving(store, tmp_path_factory.mktemp("server"), MODELS, batch_size=4) as server:
        yield server
    with pytest.raises(ProcessLookupError):
        os.killpg(server.group, 0)


@pytest.mark.parametrize("name", MODELS)
def test_answers_under_load_equal_those_in_process(server, store, image_files, name):
    data = [file.read_bytes() for file in image_files]
    load = put_under_load(server.inference, f"/predictions/{name}", data, clients=8, seconds=3)
    assert not load.failures
    assert len(load.latencies) > 8
    assert load.percentile(99) >= load.percentile(50) > 0
    for image, wanted in zip(data[:8], in_process(store, name, image_files[:8])):
        answer = server.predict(name, image)
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert_same(answer.json(), wanted)


def test_batches_were_formed_and_no_worker_died(server, image_files):
    """The server's log lists the requests of each batch."""
    data = [file.read_bytes() for file in image_files]
    data = [*data, b"garbage"]  # whose answers have another length
    load = put_under_load(server.inference, "/predictions/densenet", data, clients=8, seconds=8)
    assert load.latencies
    assert load.failures
    assert all(failure.startswith("400 ") for failure in load.failures)
    assert "Retry worker" not in server.log.read_text()
    lines = [line for line in server.log.read_text().splitlines() if "PredictionTime" in line]
    sizes = [line.split("requestID:")[1].split(",timestamp")[0].count(",") + 1 for line in lines]
    assert max(sizes) == 4


@pytest.mark.parametrize("way", [["-T", "{}"], ["-F", "data=@{}"], ["-F", "any=@{}"]])
@pytest.mark.parametrize("name", ["densenet", "csp_densenet", "csp_resnet", "dpn"])
def test_curl(server, store, image_files, way, name):
    if not shutil.which("curl"):
        pytest.skip("there is no curl")
    command = ["curl", "-sf", f"http://{server.inference}/predictions/{name}"]
    command += [part.format(image_files[0]) for part in way]
    done = subprocess.run(command, capture_output=True, check=True)
    (wanted,) = in_process(store, name, image_files[:1])
    assert_same(json.loads(done.stdout), wanted)
    if "-F" in way:
        top = subprocess.run([*command, "-F", "top=2"], capture_output=True, check=True)
        assert json.loads(top.stdout) == json.loads(done.stdout)[:2]


def test_invalid_requests_get_a_reason_and_affect_no_others(server, store, image_files):
    data = image_files[0].read_bytes()
    jpeg = io.BytesIO()
    Image.open(image_files[0]).convert("RGB").save(jpeg, "JPEG")
    for body, headers, status, words in garbage(jpeg.getvalue()).values():
        answer = server.predict("densenet", body, headers)
        assert answer.status == status
        content = answer.json()
        assert content["code"] == status
        assert words in content["message"]
    (wanted,) = in_process(store, "densenet", image_files[:1])
    assert_same(server.predict("densenet", data).json(), wanted)
    log = server.log.read_text()
    assert "Worker died" not in log
    assert "Retry worker" not in log


def test_workers_have_all_cores(server):
    """Without OMP_NUM_THREADS, the server limits workers to one thread; the service reverts it."""
    log = server.log.read_text()
    for name, (_, target, _) in MODELS.items():
        assert f"{name}: target {target}, {usable_cores()} threads" in log
    assert "MXNet runs it on cpu(0)" in log
    assert "library runs it, without MXNet" in log


def test_the_commands_of_the_page(root, tmp_path):
    page = (root / "docs" / "serving.md").read_text(encoding="utf-8")
    making, serving = (part.split("```")[0] for part in page.split("run -->\n```sh\n")[1:3])
    assert "gluondense archive" in making
    commands = making + serving.replace("multi-model-server --stop", "")
    inference, management = free_ports(2)
    (tmp_path / "config.properties").write_text(
        f"inference_address=http://127.0.0.1:{inference}\n"
        f"management_address=http://127.0.0.1:{management}\nvmargs=-Xmx256m\n"
    )
    commands = commands.replace(":8080/", f":{inference}/").replace(":8081/", f":{management}/")
    commands = commands.replace("curl ", "curl -sf ")
    commands = commands.replace("gluondense ", f"{sys.executable} -m gluondense ")
    binaries = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": binaries, "TMPDIR": str(tmp_path), "TEMP": str(tmp_path)}
    script = f"set -e\n{commands}\nmulti-model-server --stop >&2\n"
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err
    # The server writes into the same pipe.
    answer = next(line for line in out.splitlines() if line.startswith('[{"class"'))
    block = gluondense.load_exported(tmp_path / "exports" / "model")
    about = block.metadata
    (image,) = (tmp_path / "runs" / "first" / "samples").glob("*.png")
    (wanted,) = predict(block, [image], about.input_shape, about.mean, about.std, about.class_names)
    assert_same(json.loads(answer.partition("]")[0] + "]"), wanted)


def test_the_benchmark_of_serving(root, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(root / "scripts"))
    benchmark = importlib.import_module("benchmark")
    onnx = all(map(importlib.util.find_spec, ("onnx", "onnxruntime")))
    arguments = ["serving", "densenet40_k12_cifar10", "--size", "32", "--targets", "portable"]
    arguments += ["--seconds", "2", "--turn", "1", "--json", str(tmp_path / "numbers.json")]
    assert benchmark.main([*arguments, *([] if onnx else ["--no-onnx"])]) == 0
    rows = json.loads((tmp_path / "numbers.json").read_text())["rows"]
    assert [row["server"] for row in rows] == ["multi-model-server", "ONNX Runtime"][: 1 + onnx]
    for row in rows:
        assert row["failures"] == 0
        assert len(row["rates"]) == 2
        assert 0 < row["p50"] <= row["p90"] <= row["p99"]
    assert "| multi-model-server |" in capsys.readouterr().out
    assert benchmark.main(["serving", "densenet", "--seconds", "1"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown model 'densenet'")
