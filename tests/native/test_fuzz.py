"""The operators under sanitizers: exported programs, damaged ones, kernels, and dense stages.

`make test-native` is the short form; INPUTS and SEED make it long.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections import Counter

import pytest
from fuzz.mutation import mutated as mutated_files
from support import sanitized
from support.exported_networks import VARIANTS, build
from support.program_mutations import mutated

import gluondense

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("native_operator")]
ISAS = list(dict.fromkeys(["base", sanitized.newest_isa()]))
# A program that needs more memory than this ends as a finding.
LIMITS = "max_allocation_size_mb=1024:hard_rss_limit_mb=2048"
# Programs of one process: what a process keeps of one must not hide what the next one does.
BATCH = 5000


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sanitized")
    return sanitized.compile_objects(folder, sanitized.ADDRESS, ISAS)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return sanitized.exported_programs(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def runner(tmp_path_factory, objects):
    folder = tmp_path_factory.mktemp("runner")
    return sanitized.link(folder, sanitized.ADDRESS, "program_runner", objects)


def answers(runner, texts, folder, isa="base"):
    """Run programs in one process; return what became of each."""
    with open(folder / "programs", "wb") as file:
        for text in texts:
            file.write(b"%d\n%s" % (len(text.encode()), text.encode()))
    environment = {**os.environ, "GLUONDENSE_ISA": isa, "OMP_NUM_THREADS": "2"}
    environment.update(ASAN_OPTIONS=LIMITS, UBSAN_OPTIONS="print_stacktrace=1")
    command = [runner, folder / "programs"]
    done = subprocess.run(command, env=environment, capture_output=True)
    found = done.stdout.decode(errors="replace").split("\n")[:-1]
    if done.returncode:
        report = done.stderr.decode(errors="replace")[:6000]
        last = texts[min(done.stdout.count(b"\n"), len(texts) - 1)]
        pytest.fail(f"exit code {done.returncode} after the program\n{last}\n{report}")
    return found


@pytest.mark.parametrize("isa", ISAS)
def test_exported_and_damaged_programs(runner, programs, isa, request, tmp_path):
    """Each damaged program is refused, or runs without an error of a sanitizer."""
    count, seed = (request.config.getoption(f"--fuzz-{name}") for name in ("inputs", "seed"))
    inputs = itertools.islice(mutated(programs, random.Random(seed)), len(programs) + count)
    assert answers(runner, list(itertools.islice(inputs, len(programs))), tmp_path, isa) == [
        "accepted"
    ] * len(programs)
    found = Counter()
    while batch := list(itertools.islice(inputs, BATCH)):
        found.update(answers(runner, batch, tmp_path, isa))
    print(f"{isa}, seed {seed}: {count} damaged programs, {found['accepted']} of them valid")
    # The mutations reach the kernels, and most rules.
    assert found["accepted"] > count / 20
    assert len(found) > min(count / 50, 60)


def test_measured_algorithms(runner, programs, tmp_path, monkeypatch):
    """Each program measures its algorithms, and reads them in the next process."""
    monkeypatch.setenv("GLUONDENSE_TUNE", "1")
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    for _ in range(2):
        assert answers(runner, programs, tmp_path, ISAS[-1]) == ["accepted"] * len(programs)
    found = [file.read_text().split() for file in (tmp_path / "native").glob("tuning-*")]
    assert len(found) > len(programs) / 4
    assert {"direct", "winograd"} <= {word for words in found for word in words}


@pytest.mark.parametrize("isa", ISAS)
def test_kernels(tmp_path, objects, isa):
    kernels = [o for o in objects if o.stem == "dispatch" or o.stem.endswith(tuple(ISAS))]
    program = sanitized.link(tmp_path, sanitized.ADDRESS, "kernel_check", kernels)
    environment = {**os.environ, "GLUONDENSE_ISA": isa}
    subprocess.run([program], env=environment, check=True)


def test_the_operator_of_boxes(tmp_path):
    """MXNet's part of it too, which compile_objects leaves out."""
    done = subprocess.run([sanitized.compile_boxes(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[:6000]


def train_stages(folder, flags, objects, isa="base"):
    """Run forward and backward of dense stages of all kinds, with an odd number of threads."""
    program = sanitized.link(folder, flags, "stage_check", objects)
    environment = {**os.environ, "GLUONDENSE_ISA": isa, "OMP_NUM_THREADS": "3"}
    done = subprocess.run([program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[:6000]


@pytest.mark.parametrize("isa", ISAS)
def test_dense_stages(tmp_path, objects, isa):
    train_stages(tmp_path, sanitized.ADDRESS, objects, isa)


@pytest.fixture(scope="module")
def thread_objects(tmp_path_factory):
    return sanitized.compile_objects(tmp_path_factory.mktemp("threads"), sanitized.THREAD, ISAS[:1])


def test_threads_do_not_race(tmp_path, programs, thread_objects):
    """Exported programs under ThreadSanitizer. Damaged ones may overwrite what they read."""
    runner = sanitized.link(tmp_path, sanitized.THREAD, "program_runner", thread_objects)
    assert answers(runner, programs, tmp_path) == ["accepted"] * len(programs)


def test_damaged_exports_are_refused_or_run(objects, tmp_path):
    """The functions of gluondense.h."""
    runner = sanitized.link(tmp_path, sanitized.ADDRESS, "export_runner", objects)
    net = build(*VARIANTS["densenet"])
    files = gluondense.export(net, tmp_path / "net", (1, 3, 32, 32), target="native")
    seed = {file.name: file.read_bytes() for file in (files.symbol, files.params)}
    rng = random.Random(int(os.environ.get("SEED", "0")))
    count = int(os.environ.get("INPUTS", "1500")) // 5
    folders = []
    for number in range(count + 1):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        damaged = mutated_files(rng, [seed], rng.choice(list(seed))) if number else seed
        for name, content in damaged.items():
            (folder / name).write_bytes(content)
        folders.append(folder / "net")
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    environment["ASAN_OPTIONS"] = "max_allocation_size_mb=1024:allocator_may_return_null=1"
    done = subprocess.run([runner, *folders], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[:6000]
    lines = done.stdout.decode(errors="replace").split("\n")[:-1]
    assert len(lines) == count + 1
    assert lines[0] == "ran"
    kinds = Counter(line == "ran" for line in lines)
    assert min(kinds.values()) > count / 20, kinds


def test_threads_of_dense_stages_do_not_race(tmp_path, thread_objects):
    train_stages(tmp_path, sanitized.THREAD, thread_objects)
