from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gluondense.training.distributed import rank
from gluondense.training.distributed.launcher import job, supervisor
from gluondense.training.distributed.launcher.hosts import LOCALHOST, Host, read_hosts
from gluondense.training.distributed.launcher.job import Job

SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
MARK = "GLUONDENSE_TEST_MARK"


@pytest.fixture(autouse=True)
def mark(monkeypatch):
    """Replace the servers, shorten the grace period, and check that no process is left."""
    monkeypatch.setattr(job, "SERVER", SLEEP)
    monkeypatch.setattr(job, "GRACE_SECONDS", 0.5)
    monkeypatch.setenv(MARK, f"{os.getpid()}-{time.monotonic_ns()}")
    yield os.environ[MARK]
    assert marked(os.environ[MARK]) == []


def marked(mark: str) -> list[int]:
    """Return the other processes with the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"{MARK}={mark}".encode() in (folder / "environ").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if ours and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", f"import os, signal, sys, time\n{code}"]


NUMBER = "number = int(os.environ['GLUONDENSE_WORKER'])\n"


@pytest.fixture
def ssh(tmp_path):
    """A command like ssh that runs the remote command on this host, with PORT set."""
    path = tmp_path / "ssh"
    path.write_text('#!/bin/sh\n[ "$1" = dead ] && exit 255\nPORT=1 exec sh -c "$2"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_workers_get_their_rank_and_their_output_is_prefixed(monkeypatch, capsys):
    for name in ("PORT", "DMLC_RANK", "DMLC_ROLE"):
        monkeypatch.setenv(name, "1")
    names = "GLUONDENSE_WORKER DMLC_ROLE DMLC_NUM_WORKER DMLC_NUM_SERVER DMLC_PS_ROOT_URI PORT"
    code = f"print(*[os.environ.get(n) for n in '{names} DMLC_RANK GLUONDENSE_SHARE'.split()])"
    assert Job(python(code + "\nprint('bad', file=sys.stderr)"), 2, 3).run() == 0
    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == [
        f"worker {n} | {n} worker 2 3 127.0.0.1 None None 2" for n in (0, 1)
    ]
    assert sorted(err.splitlines()) == ["worker 0 | bad", "worker 1 | bad"]


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        ("sys.exit(3)", 3, "worker 1 on 127.0.0.1 ended with exit code 3: stopping all"),
        ("os.kill(os.getpid(), 9)", 137, "worker 1 on 127.0.0.1 was killed by SIGKILL"),
    ],
)
def test_a_failing_worker_stops_all_and_is_named(end, code, message, capsys):
    began = time.monotonic()
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    work = python(
        NUMBER + stubborn + f"if number == 1:\n    time.sleep(0.3)\n    {end}\ntime.sleep(60)"
    )
    assert Job(work, 3).run() == code
    assert message in capsys.readouterr().err
    assert time.monotonic() - began < 20


def test_the_cause_is_named_rather_than_its_consequences(capsys):
    work = python(NUMBER + "sys.exit(75 if number == 0 else 2)")
    assert Job(work, 2).run() == 2
    assert "worker 1 on 127.0.0.1 ended with exit code 2" in capsys.readouterr().err


def test_a_failing_server_is_named(monkeypatch, capsys):
    monkeypatch.setattr(
        job, "SERVER", python("time.sleep(60 * (sys.argv[1] != 'server')); sys.exit(4)")
    )
    assert Job(SLEEP, 2).run() == 4
    assert "server 0 on 127.0.0.1 ended with exit code 4" in capsys.readouterr().err


def test_child_processes_of_a_worker_are_stopped():
    code = f"import subprocess; subprocess.Popen({SLEEP})"
    assert Job(python(code), 1).run() == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_forwarded_to_the_workers_which_may_finish(signum, capsys):
    work = python(
        "def finish(signum, frame):\n"
        "    time.sleep(0.5)\n"
        "    print('saved', flush=True)\n"
        "    sys.exit(128 + signum)\n"
        "signal.signal(signal.SIGINT, finish)\nsignal.signal(signal.SIGTERM, finish)\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    timer = threading.Timer(2, os.kill, (os.getpid(), signum))
    timer.start()
    before = signal.getsignal(signum)
    assert Job(work, 2).run() == 128 + signum
    assert signal.getsignal(signum) == before
    out, err = capsys.readouterr()
    assert out.count("saved") == 2
    assert "stopping all" not in err


def test_a_worker_that_loses_one_that_stopped_at_once_has_stopped_too(capsys):
    """A worker that is still starting ends at the signal; one that waits for it loses it."""
    work = python(
        NUMBER + "code = 75 if number else 128 + signal.SIGTERM\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(code))\ntime.sleep(60)"
    )
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert Job(work, 2).run() == 128 + signal.SIGTERM
    assert "stopping all" not in capsys.readouterr().err


def test_a_second_signal_stops_all_at_once():
    work = python("signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)")
    for seconds in (1.5, 2):
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert Job(work, 1).run() == 143


def test_all_processes_stop_when_the_launcher_is_killed(mark):
    code = "\n".join(
        [
            "from gluondense.training.distributed.launcher import job",
            f"job.SERVER = {SLEEP}",
            f"job.Job({SLEEP}, 2).run()",
        ]
    )
    with subprocess.Popen([sys.executable, "-c", code]) as launcher:
        until = time.monotonic() + 60
        while len(marked(mark)) < 1 + 2 * 4:  # the launcher, and a supervisor for each process
            assert time.monotonic() < until
            time.sleep(0.1)
        launcher.kill()
    until = time.monotonic() + 15
    while marked(mark) and time.monotonic() < until:
        time.sleep(0.1)
    assert marked(mark) == []


def test_remote_processes_start_through_ssh(ssh, capsys, monkeypatch, tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MY_OWN", "it's $HOME")
    hosts = [Host("127.0.0.1", "one"), Host("127.0.0.2", "two")]
    code = (
        NUMBER + "print(number, os.getcwd(), os.environ['DMLC_NODE_HOST'], os.environ.get('PORT'))"
    )
    code += "\nprint(os.environ['MY_OWN'], os.environ['GLUONDENSE_SHARE'])"
    assert Job(python(code), 3, hosts=hosts, ssh=ssh, env=["MY_OWN"]).run() == 0
    lines = sorted(capsys.readouterr().out.splitlines())
    assert lines == [
        f"worker 0 | 0 {folder} 127.0.0.1 None",
        "worker 0 | it's $HOME 2",
        f"worker 1 | 1 {folder} 127.0.0.1 None",
        "worker 1 | it's $HOME 2",
        f"worker 2 | 2 {folder} 127.0.0.2 None",
        "worker 2 | it's $HOME 1",
    ]


def test_an_unreachable_host_is_named(ssh, capsys):
    hosts = [Host("127.0.0.1", "alive"), Host("127.0.0.1", "dead")]
    assert Job(SLEEP, 2, hosts=hosts, ssh=ssh).run() == 255
    assert "worker 1 on dead is out of reach" in capsys.readouterr().err


def test_gpus_are_assigned_per_host(ssh, capsys):
    hosts = [Host("127.0.0.1", "one"), Host("127.0.0.1", "two")]
    code = "print(os.environ['CUDA_VISIBLE_DEVICES'])"
    assert Job(python(code), 4, hosts=hosts, ssh=ssh, gpus_per_worker=2).run() == 0
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line[-3:] for line in lines] == ["0,1", "2,3", "0,1", "2,3"]


def test_a_missing_command_is_named(capsys):
    assert Job(["no-such-command"], 1).run() == 127
    assert "cannot start 'no-such-command': No such file" in capsys.readouterr().err


def test_the_supervisor_hides_the_same_variables_as_the_workers():
    """It is sent over ssh as text, so it has a copy of the names."""
    assert supervisor.MISREAD_BY_PS_LITE == rank.MISREAD_BY_PS_LITE


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"command": []}, "There is no command: write it after --"),
        ({"workers": 0}, r"workers \(=0\) must be a positive integer"),
        ({"servers": 0}, r"servers \(=0\) must be a positive integer"),
    ],
)
def test_invalid_jobs_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Job(**{"command": SLEEP, "workers": 1, **values})


def test_hosts_file(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("# two\nme@localhost\n\ngpu7 10.0.0.7  # in the cellar\n")
    hosts = read_hosts(path)
    assert [(host.name, host.address) for host in hosts] == [
        ("me@localhost", "127.0.0.1"),
        ("gpu7", "10.0.0.7"),
    ]
    assert [str(host) for host in (*hosts, LOCALHOST)] == ["me@localhost", "gpu7", "127.0.0.1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# none\n", "names no host"),
        ("a 1.2.3.4 5\n", "line 1: 'a 1.2.3.4 5' is not NAME"),
        ("a 1.2.3.\n", "line 1: '1.2.3.' has no address"),
    ],
)
def test_invalid_hosts_files_are_refused(tmp_path, text, message):
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_hosts(path)
