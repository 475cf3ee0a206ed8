"""A distributed run one of whose processes is killed, or that gets a signal, ends and resumes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.commands import SET, resume_or_start, run_results
from faults.worker import SIGNUMS, longest_ending

MARK = "GLUONDENSE_TEST_MARK"
EPOCHS = 12
# Saved at each step, because a save averages the running statistics, which changes their last bits.
TRAIN = [
    *("train", "fashion-mnist", "--dataset=synthetic", "--model=densenet121", *SET),
    *("--resize=8", f"--epochs={EPOCHS}", "--batch-size=24", "--lr=0.05", "--save-steps=1"),
    *("--no-progress", "--no-native", "--kvstore=dist_sync"),
]
VICTIMS = ("worker 0", "worker 1", "server", "scheduler", "launcher")
START_SECONDS = 6  # of the processes' start
TIMEOUT = 240


class Launched:
    """A run of two workers, which goes on with the one in the folder if there is one."""

    def __init__(self, root: Path, run: Path) -> None:
        self._mark = f"{os.getpid()}-{time.monotonic_ns()}"
        command = [sys.executable, "-m", "gluondense"]
        worker = [*command, *resume_or_start([*TRAIN, f"--out={run}"], run)]
        self.log = run.with_name(f"{self._mark}.log")
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*command, "launch", "-n", "2", "--", *worker],
                env={**environment, MARK: self._mark},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for_instant(self, rng) -> None:
        """Wait until a random instant of the start, or until a random epoch."""
        if rng.random() < 0.4:
            time.sleep(rng.random() * START_SECONDS)
            return
        line = f"epoch {rng.randint(1, EPOCHS - 1)}/"
        until = time.monotonic() + TIMEOUT
        while line not in self.text and self.process.poll() is None:
            assert time.monotonic() < until, self.text
            time.sleep(0.02)
        time.sleep(rng.random() * 0.3)

    def end(self) -> int:
        """Wait until the launcher and all other processes have ended; return its exit code."""
        code = self.process.wait(TIMEOUT)
        until = time.monotonic() + 30
        while self.processes():
            assert time.monotonic() < until, (self.processes(), self.text)
            time.sleep(0.05)
        return code

    def processes(self) -> dict[str, int]:
        """Return process ids by name; of supervisors and others by their command."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = (folder / "environ").read_bytes().decode().split("\0")
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:  # it ended meanwhile
                continue
            if f"{MARK}={self._mark}" not in variables or not words[0]:
                continue
            numbers = [text[-1] for text in variables if text.startswith("GLUONDENSE_WORKER=")]
            name = " ".join(words[:20])
            if words[1:2] != ["-c"]:  # the supervisors
                if "gluondense.training.distributed.server" in words:
                    name = words[3]
                else:
                    name = f"worker {numbers[0]}" if numbers else "launcher"
            found[name] = int(folder.name)
        return found


@pytest.fixture
def launch(root):
    """Start runs, and leave no process of theirs at the end."""
    started = []

    def start(run: Path) -> Launched:
        started.append(Launched(root, run))
        return started[-1]

    yield start
    for launched in started:
        for pid in launched.processes().values():
            os.kill(pid, signal.SIGKILL)
        launched.process.wait()


@pytest.fixture(scope="module")
def undisturbed(root, tmp_path_factory):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    launched = Launched(root, run)
    assert launched.end() == 0, launched.text
    return run_results(run)


@pytest.mark.faults(share=4, least=1)
def test_a_killed_process_ends_the_run_which_resumes(launch, undisturbed, tmp_path, tries, counts):
    for number in tries:
        run = tmp_path / f"{number}" / "run"
        run.parent.mkdir()
        victim, launched = tries.rng.choice(VICTIMS), launch(run)
        launched.wait_for_instant(tries.rng)
        while victim not in launched.processes() and launched.process.poll() is None:
            time.sleep(0.01)
        if launched.process.poll() is None:
            os.kill(launched.processes()[victim], signal.SIGKILL)
            code, text = launched.end(), launched.text
            lines = re.findall(r"launch: (\w+)[^\n]* was killed by SIGKILL: stopping all", text)
            assert code == (-signal.SIGKILL if victim == "launcher" else 137), text
            assert lines == ([] if victim == "launcher" else [victim.split()[0]]), text
            counts[f"kills survived: launch, {victim.split()[0]}"] += 1
        resumed = launch(run)
        assert resumed.end() == 0, resumed.text
        assert run_results(run) == undisturbed


@pytest.mark.faults(share=4, least=1)
def test_a_stopped_run_of_two_workers_resumes(launch, undisturbed, tmp_path, tries, counts):
    for number in tries:
        run = tmp_path / f"{number}" / "run"
        run.parent.mkdir()
        signum, launched = tries.rng.choice(SIGNUMS), launch(run)
        while len(launched.processes()) < 2:  # the launcher and its first process
            time.sleep(0.01)
        launched.wait_for_instant(tries.rng)
        began = time.monotonic()
        launched.process.send_signal(signum)
        code, text = launched.end(), launched.text
        if code != 0:
            assert code == 128 + signum, text
            assert text.count(f"launch: {signum.name}: asked the workers to save and stop") == 1
            assert "Traceback" not in text
            assert time.monotonic() - began < longest_ending(), text
            counts["signals: launch"] += 1
        resumed = launch(run)
        assert resumed.end() == 0, resumed.text
        assert run_results(run) == undisturbed
