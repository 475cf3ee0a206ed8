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
import zlib
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from benchmarking.load import put_under_load
from benchmarking.servers import free_ports, model_server
from PIL import Image
from support.export_config import CONFIG
from support.exported_networks import VARIANTS, build
from support.paths import ROOT

import gluondense
from gluondense.deploy import Calibration, archive, predict
from gluondense.environment.process import usable_cores
from gluondense.training import fit

pytestmark = pytest.mark.serve

MEAN, STD, SHAPE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (1, 3, 64, 64)
CLASSES = tuple("abcde")
MODELS = {
    "densenet": ("densenet", "portable", {}),
    "csp_densenet": ("csp-last", "native", {"preprocess": True}),
    "csp_resnet": ("residual", "portable", {"params_dtype": "float16"}),
    "dpn": ("dpn", "onednn", {"preprocess": True, "output": "probabilities"}),
    "int8": ("densenet", "int8", {"preprocess": True}),
    "native_int8": ("densenet", "native_int8", {}),
    "labels": (
        "densenet",
        "native",
        {"task": "multi_label", "thresholds": (0.2, 0.4, 0.5, 0.6, 0.8), "preprocess": True},
    ),
}


@pytest.fixture(scope="module")
def image_files(tmp_path_factory):
    """Photographs of the shared folder, if it exists, or generated images."""
    shared = Path(os.environ.get("GLUONDENSE_SHARED", ROOT.parent / "shared"))
    found = sorted((shared / "data" / "imagenet-sample").rglob("*.JPEG"))[:24]
    if found:
        return found
    folder, random = tmp_path_factory.mktemp("image_files"), np.random.default_rng(0)
    for number in range(24):
        small = random.integers(0, 256, (9, 12, 3)).astype("uint8")
        found.append(folder / f"{number}.jpg")
        Image.fromarray(small).resize((400, 300)).save(found[-1])
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory, native_operator):
    folder = tmp_path_factory.mktemp("store")
    images = np.random.default_rng(0).standard_normal((16, *SHAPE[1:])).astype("float32")
    for name, (variant, target, options) in MODELS.items():
        if target.endswith("int8"):
            options = {**options, "calibration": Calibration(images, max_changed=1.0)}
        files = gluondense.export(
            build(*VARIANTS[variant]),
            folder / "exports" / name,
            SHAPE,
            target,
            class_names=CLASSES,
            mean=MEAN,
            std=STD,
            **options,
        )
        archive(files.prefix, folder / f"{name}.mar")
    return folder


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    """The running server; all processes of its group are killed afterwards."""
    pytest.importorskip("mms", reason="the extra `serve` is not installed")
    if not shutil.which("java"):
        pytest.skip("there is no Java")
    patch = pytest.MonkeyPatch()
    patch.delenv("OMP_NUM_THREADS", raising=False)
    with model_server(store, tmp_path_factory.mktemp("server")) as server:
        for name in MODELS:
            done = server.register(f"{name}.mar", batch_size=4, max_batch_delay=50)
            assert done.status == 200, done.body
        yield server
    patch.undo()
    with pytest.raises(ProcessLookupError):
        os.killpg(server.group, 0)


def in_process(store, name, files):
    block = gluondense.load_exported(store / "exports" / name)
    return predict(block, files, SHAPE, MEAN, STD, CLASSES)


def assert_same(found, wanted):
    assert [row["class"] for row in found] == list(wanted.labels)
    probabilities = [row["probability"] for row in found]
    np.testing.assert_allclose(probabilities, wanted.probabilities, atol=1e-5)
    present = None if wanted.present is None else list(wanted.present)
    assert [row.get("present") for row in found] == (present or [None] * len(found))


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


def bomb() -> bytes:
    """Return a PNG of 100 megapixels in 100 KB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(10_001)) for _ in range(10_000)) + rows.flush()
    head = pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def garbage(jpeg: bytes):
    json_type = {"Content-Type": "application/json"}
    return {
        "truncated": (jpeg[: len(jpeg) // 2], {}, 400, "truncated"),
        "text": (b"hello", {}, 400, "not an image"),
        "bomb": (bomb(), {}, 413, "more than 50,000,000 pixels"),
        "empty": (b"", {}, 400, "there is no image"),
        "said to be text": (jpeg, {"Content-Type": "text/plain"}, 415, "text/plain is no image"),
        "said to be JSON": (jpeg, json_type, 415, "application/json is no image"),
        "JSON": (b'{"a": 1}', json_type, 415, "application/json is no image"),
    }


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
        assert f"{name}: target {target} on cpu(0), {usable_cores()} threads" in log


def test_the_five_commands_of_the_page(root, tmp_path, image_files):
    page = (root / "docs" / "serving.md").read_text(encoding="utf-8")
    commands = page.split("```sh\n")[1].split("```")[0]
    assert len(commands.splitlines()) == 5
    fit(CONFIG, tmp_path / "runs" / "first", progress=False)
    Image.open(image_files[0]).save(tmp_path / "image.png")
    inference, management = free_ports(2)
    (tmp_path / "config.properties").write_text(
        f"inference_address=http://127.0.0.1:{inference}\n"
        f"management_address=http://127.0.0.1:{management}\nvmargs=-Xmx256m\n"
    )
    commands = commands.replace(":8080/", f":{inference}/").replace(":8081/", f":{management}/")
    commands = commands.replace("curl ", "curl -sf --retry 20 --retry-connrefused ")
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
    files = [tmp_path / "image.png"]
    (wanted,) = predict(block, files, about.input_shape, about.mean, about.std, about.class_names)
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
