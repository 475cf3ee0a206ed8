from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from support.distributed_worker import STEADY, train

from gluondense.data import load_dataset
from gluondense.training import checkpoint
from gluondense.training import run as run_module
from gluondense.training.data import make_test_loader
from gluondense.training.distributed.join import join
from gluondense.training.distributed.workers import Workers
from gluondense.training.run_folder import RunFolder

MARK = "GLUONDENSE_TEST_MARK"
LONGEST = 30  # seconds from a death to the end of all


class Launched:
    """A running scripts/launch.py."""

    def __init__(self, root: Path, options: list[str], command: list[str], **variables: str):
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        paths = f"{root}{os.pathsep}{root / 'tests'}"
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **variables}
        self._process = subprocess.Popen(
            [sys.executable, root / "scripts" / "launch.py", *options, "--", *command],
            env={**environment, MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        with self._process.stdout as lines:
            for line in lines:
                self.text += line

    def wait_for(self, pattern: str, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert self._process.poll() is None, self.text
            assert time.monotonic() < until, self.text
            time.sleep(0.05)

    def wait(self, seconds: float = 120) -> int:
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGINT)
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
            pytest.fail(f"not finished after {seconds} s:\n{self.text}")
        finally:
            self._reader.join(10)
        assert self.processes() == {}
        return code

    def processes(self) -> dict[str, int]:
        """Return process ids by name, such as ``"worker 0"``, without launcher and supervisors."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = (folder / "environ").read_bytes().decode().split("\0")
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:  # it ended meanwhile
                continue
            if f"{MARK}={self.mark}" not in variables or words[1:2] == ["-c"]:
                continue
            number = [v[-1] for v in variables if v.startswith("GLUONDENSE_WORKER=")]
            if not number and "gluondense.training.distributed.server" not in words:
                continue  # the launcher
            name = f"worker {number[0]}" if number else words[3]
            found[name] = int(folder.name)
        return found


@pytest.fixture
def launch(root, monkeypatch):
    """Start distributed runs and check that none of their processes is left at the end."""
    for name in [n for n in os.environ if n.startswith("DMLC_")]:
        monkeypatch.delenv(name)
    started = []

    def start(options: list[str], command: list[str], **variables: str) -> Launched:
        started.append(Launched(root, options, command, **variables))
        return started[-1]

    yield start
    for run in started:
        run.wait(5)


@pytest.fixture
def launch_tiny(launch, root, tmp_path):
    """Train ``STEADY`` with changed fields; return the folder and the losses."""

    def start(options: list[str], out: str, **changes) -> tuple[Path, list[float]]:
        folder = tmp_path / out
        script = root / "tests" / "support" / "distributed_worker.py"
        command = [sys.executable, str(script), str(folder), json.dumps(changes)]
        # The same number of threads rounds alike. PORT and DMLC_RANK mislead ps-lite.
        variables = {
            "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"],
            "PORT": "1",
            "DMLC_RANK": "7",
        }
        run = launch(options, command, **variables)
        assert run.wait() == 0, run.text
        return folder, json.loads((folder / "losses.json").read_text())

    return start


def parameters(folder: Path) -> dict[str, np.ndarray]:
    arrays = mx.nd.load(str(folder / "checkpoints" / "last" / "model.params"))
    return {name: array.asnumpy() for name, array in arrays.items()}


def two_devices(monkeypatch):
    monkeypatch.setattr(run_module, "find_devices", lambda gpus: [mx.cpu(0), mx.cpu(1)])


def test_two_workers_train_like_two_devices(launch_tiny, monkeypatch, tmp_path):
    folder, losses = launch_tiny(["-n", "2"], "both", kvstore="dist_sync")
    two_devices(monkeypatch)
    alone = train(STEADY, tmp_path / "alone")
    assert len(losses) == len(alone) == 50
    np.testing.assert_allclose(losses, alone, atol=1e-4)
    assert alone[-1] < alone[0] / 2
    ours, theirs = parameters(folder), parameters(tmp_path / "alone")
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], atol=1e-3, err_msg=name)
    # Rank 0 saw half of the test images; the logged accuracy counts all of them.
    saved = checkpoint.load(folder / "checkpoints" / "last")
    net, data = saved.network(), load_dataset("synthetic")
    loader = make_test_loader(STEADY.data, data, saved.preprocessing, Workers())
    hits = 0
    for pixels, labels in loader:
        logits = net(mx.nd.array(saved.preprocessing.normalize(pixels)))
        hits += (logits.argmax(axis=1).asnumpy() == labels).sum()
    assert saved.metrics["test_acc"] == pytest.approx(hits / len(data.test_labels))


@pytest.mark.slow
def test_uneven_shares_finish_and_count_each_image_once(launch_tiny):
    """200 images in batches of 39: shares of 20 and 19, at the end 3 and 2; two servers."""
    changes = {"batch_size": 39, "drop_last": False, "epochs": 2, "kvstore": "dist_sync_device"}
    folder, losses = launch_tiny(["-n", "2", "-s", "2"], "both", **changes)
    assert len(losses) == 12
    rows = RunFolder(folder).rows()
    assert rows[-1]["step"] == 12
    assert losses[-1] < losses[0]
    saved = RunFolder(folder).predictions()
    np.testing.assert_array_equal(saved["labels"], load_dataset("synthetic").test_labels)


@pytest.mark.slow
def test_one_asynchronous_worker_trains_like_one_process(launch_tiny, tmp_path):
    """The server uses GluonCV's schedule and the parameters' weight-decay multipliers."""
    folder, losses = launch_tiny(["-n", "1"], "async", kvstore="dist_async")
    alone = train(STEADY, tmp_path / "alone")
    np.testing.assert_allclose(losses, alone, atol=1e-4)
    assert RunFolder(folder).rows()[-1]["lr"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"kvstore": "dist_async"}, {"kvstore": "dist_sync", "compression": 0.5}]
)
def test_two_workers_learn(changes, launch_tiny):
    folder, losses = launch_tiny(["-n", "2"], "both", **changes)
    assert len(losses) == 50
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 2
    assert RunFolder(folder).rows()[-1]["test_acc"] > 0.8


TUNING = {"head_epochs": 2, "layer_decay": 0.7, "freeze": ["features.stem"], "epochs": 5}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "adamw", "lr": 0.002}])
def test_two_workers_tune_like_two_devices(optimizer, launch_tiny, monkeypatch, tmp_path):
    changes = {**TUNING, **optimizer, "clip": 0.5}
    _, losses = launch_tiny(["-n", "2"], "both", kvstore="dist_sync", **changes)
    two_devices(monkeypatch)
    alone = train(STEADY.with_fields(**changes), tmp_path / "alone")
    np.testing.assert_allclose(losses, alone, atol=2e-3)
    assert np.mean(alone[-5:]) < np.mean(alone[:5])


@pytest.mark.slow
def test_servers_follow_frozen_layers_and_rates_of_stages(launch_tiny, tmp_path):
    changes = {**TUNING, "head_epochs": 0}
    folder, losses = launch_tiny(["-n", "1"], "async", kvstore="dist_async", **changes)
    alone = train(STEADY.with_fields(**changes), tmp_path / "alone")
    np.testing.assert_allclose(losses, alone, atol=1e-4)
    ours, theirs = parameters(folder), parameters(tmp_path / "alone")
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], atol=1e-4, err_msg=name)


FIRST_STEP = """
import mxnet as mx
from support.distributed_worker import STEADY
from mxnet import autograd, gluon
from gluondense.training.distributed.join import join

config = STEADY.with_fields(kvstore="dist_sync")
with join(config.runtime, config.data.batch_size) as workers:
    scalars = gluon.ParameterDict()  # a single one: of many, only the last is overtaken
    scalars.get("scalar", shape=(1,))
    scalars.initialize(mx.init.Constant(10 * (workers.rank + 1)))
    trainer = workers.make_trainer(scalars, "sgd", {"learning_rate": 1.0})
    workers.init_kvstore(trainer, lambda step: 1.0)
    with autograd.record():
        loss = scalars["scalar"].data() * (workers.rank + 1)
    loss.backward()
    trainer.step(1)
    print("values", workers.all_gather(float(scalars["scalar"].data().asscalar())))
"""


@pytest.mark.slow
def test_all_workers_start_with_the_same_weights(launch):
    """Without waiting, workers mostly pull the first sum of gradients, 3, as the weight."""
    run = launch(["-n", "2"], [sys.executable, "-c", FIRST_STEP])
    assert run.wait() == 0, run.text
    found = re.findall(r"values (.*)", run.text)
    assert found in (["[7.0, 7.0]"] * 2, ["[17.0, 17.0]"] * 2)


@pytest.fixture
def train_script(launch, root):
    """Train with the script, deterministically up to the seed."""

    def start(out: Path, *more: str, options: tuple[str, ...] = ()) -> Launched:
        script = str(root / "scripts" / "train_fashion_mnist.py")
        fixed = ["--dataset", "synthetic", "--recipe", "demo", "--resize", "8", "--batch-size"]
        command = [sys.executable, script, *fixed, "40", "--kvstore", "dist_sync", *more]
        resumed = [sys.executable, script, "--resume", str(out), "--epochs", "40"]
        fresh = [*command, "--epochs", "40", "--out", str(out)]
        return launch(["-n", "2", *options], resumed if "resume" in more else fresh)

    return start


def kill(run: Launched, process: str, reported: str) -> None:
    """Kill a process in the third epoch and check that the run stops and reports it."""
    run.wait_for("epoch 3/40")
    os.kill(run.processes()[process], signal.SIGKILL)
    began = time.monotonic()
    assert run.wait() == 128 + signal.SIGKILL
    assert time.monotonic() - began < LONGEST
    assert f"{reported} on 127.0.0.1 was killed by SIGKILL: stopping all" in run.text


@pytest.mark.slow
def test_a_killed_worker_stops_the_run_which_resumes_exactly(train_script, tmp_path):
    straight = train_script(tmp_path / "straight")
    kill(train_script(tmp_path / "killed"), "worker 1", "worker 1")
    resumed = train_script(tmp_path / "killed", "resume")
    assert (straight.wait(), resumed.wait()) == (0, 0)
    one, other = parameters(tmp_path / "straight"), parameters(tmp_path / "killed")
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.slow
def test_a_killed_server_stops_the_run(train_script, tmp_path):
    kill(train_script(tmp_path / "run"), "server", "server 0")


@pytest.mark.slow
def test_a_signal_stops_all_workers_at_the_same_step(train_script, tmp_path):
    run = train_script(tmp_path / "run")
    run.wait_for("epoch 3/40")
    run._process.send_signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM, run.text
    assert "SIGTERM: asked the workers to save and stop" in run.text
    step = int(re.search(r"worker 0 \| stopped by SIGTERM at step (\d+)", run.text).group(1))
    assert checkpoint.load(tmp_path / "run" / "checkpoints" / "last").step == step


@pytest.mark.slow
def test_only_rank_zero_reports_an_existing_run(train_script, tmp_path):
    (tmp_path / "log.csv").touch()
    run = train_script(tmp_path)
    assert run.wait() == 2
    assert "worker 0 | error:" in run.text
    assert "already holds a run (log.csv)" in run.text


@pytest.fixture
def network(tmp_path):
    """Two connected network namespaces: their names, a hosts file, and a replacement of ssh."""
    names = [f"gd{os.getpid()}{letter}" for letter in "ab"]
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for name, address in zip(names, ("10.77.0.1", "10.77.0.2")):
            ip("link", "set", name, "netns", name)
            ip("-n", name, "address", "add", f"{address}/24", "dev", name)
            for device in (name, "lo"):
                ip("-n", name, "link", "set", device, "up")
        hosts = tmp_path / "hosts"
        hosts.write_text(f"{names[0]} 10.77.0.1\n{names[1]} 10.77.0.2\n")
        ssh = tmp_path / "ssh"
        ssh.write_text('#!/bin/sh\nexec ip netns exec "$1" sh -c "$2"\n')
        ssh.chmod(0o755)
        yield names, ("--hosts", str(hosts), "--ssh", str(ssh)), ip
    except subprocess.CalledProcessError as error:
        if "link" in error.cmd and "down" in error.cmd:
            raise
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    finally:
        for name in made:
            ip("netns", "del", name)


@pytest.mark.slow
def test_hosts_train_together_until_the_network_is_cut(network, train_script, tmp_path):
    names, options, ip = network
    run = train_script(tmp_path / "run", options=options)
    run.wait_for("epoch 3/40")
    namespaces = {name: os.readlink(f"/proc/{n}/ns/net") for name, n in run.processes().items()}
    assert set(namespaces) == {"scheduler", "server", "worker 0", "worker 1"}
    assert (
        namespaces["worker 0"]
        == namespaces["scheduler"]
        == namespaces["server"]
        != namespaces["worker 1"]
    )
    began = time.monotonic()
    ip("-n", names[1], "link", "set", names[1], "down")
    assert run.wait() != 0
    assert time.monotonic() - began < LONGEST
    assert re.search(r"error: worker [01] (or one that it waited for )?has gone", run.text)
    assert re.search(r"launch: worker [01] on gd\w+ lost another worker: stopping all", run.text)


def test_a_distributed_store_needs_the_launcher(monkeypatch):
    config = STEADY.with_fields(kvstore="dist_sync").runtime
    with (
        pytest.raises(ValueError, match=r"DMLC_PS_ROOT_URI, .*gluondense launch"),
        join(config, 40),
    ):
        pass
    for name in ("ROLE", "PS_ROOT_URI", "PS_ROOT_PORT", "NUM_WORKER", "NUM_SERVER"):
        monkeypatch.setenv(f"DMLC_{name}", "worker")
    config = STEADY.with_fields(kvstore="dist_async").runtime
    with pytest.raises(ValueError, match=r"servers that import gluondense"), join(config, 40):
        pass


def test_launched_workers_need_a_distributed_store(monkeypatch):
    monkeypatch.setenv("DMLC_ROLE", "worker")
    monkeypatch.setenv("DMLC_NUM_WORKER", "2")
    with (
        pytest.raises(ValueError, match=r"each of 2 workers would train alone"),
        join(STEADY.runtime, 40),
    ):
        pass


def test_a_single_process_is_a_group_of_one():
    workers = Workers()
    assert (workers.rank, workers.world_size, workers.is_rank_zero, workers.rng_key) == (
        0,
        1,
        True,
        (),
    )
    assert workers.all_reduce([1, 2.5]) == [1, 2.5]
    assert workers.any(True, False) == [True, False]
    assert workers.step_batch_size(7) == 7
    workers.check_equal("step", 3)
