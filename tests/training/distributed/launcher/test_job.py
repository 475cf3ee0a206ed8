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

from gluondense.training.distributed.launcher import HERE, Host, Job, job, read_hosts

SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
MARK = "GLUONDENSE_TEST_MARK"


@pytest.fixture(autouse=True)
def mark(monkeypatch):
    """Keep servers from starting MXNet, shorten the waiting, and see that nothing is left."""
    monkeypatch.setattr(job, "SERVE", SLEEP)
    monkeypatch.setattr(job, "GRACE_SECONDS", 0.5)
    monkeypatch.setenv(MARK, f"{os.getpid()}-{time.monotonic_ns()}")
    yield os.environ[MARK]
    assert marked(os.environ[MARK]) == []


def marked(mark: str) -> list[int]:
    """Processes, but this one, whose environment has the mark."""
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
    """A command like ssh, which runs what it is given right here, and where no PORT is unset."""
    path = tmp_path / "ssh"
    path.write_text('#!/bin/sh\n[ "$1" = dead ] && exit 255\nPORT=1 exec sh -c "$2"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_workers_know_their_place_and_their_output_has_their_name(monkeypatch, capsys):
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
def test_one_that_ends_badly_ends_all_and_is_named(end, code, message, capsys):
    began = time.monotonic()
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    work = python(
        NUMBER + stubborn + f"if number == 1:\n    time.sleep(0.3)\n    {end}\ntime.sleep(60)"
    )
    assert Job(work, 3).run() == code
    assert message in capsys.readouterr().err
    assert time.monotonic() - began < 20


def test_the_cause_is_named_before_those_who_lost_it(capsys):
    work = python(NUMBER + "sys.exit(75 if number == 0 else 2)")
    assert Job(work, 2).run() == 2
    assert "worker 1 on 127.0.0.1 ended with exit code 2" in capsys.readouterr().err


def test_a_server_that_ends_is_named(monkeypatch, capsys):
    monkeypatch.setattr(
        job, "SERVE", python("time.sleep(60 * (sys.argv[1] != 'server')); sys.exit(4)")
    )
    assert Job(SLEEP, 2).run() == 4
    assert "server 0 on 127.0.0.1 ended with exit code 4" in capsys.readouterr().err


def test_what_outlives_its_worker_is_ended():
    code = f"import subprocess; subprocess.Popen({SLEEP})"
    assert Job(python(code), 1).run() == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_to_the_workers_which_may_finish(signum, capsys):
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


def test_a_second_signal_ends_all_at_once():
    work = python("signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)")
    for seconds in (1.5, 2):
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert Job(work, 1).run() == 143


def test_all_end_when_the_launcher_is_killed(mark):
    code = "\n".join(
        [
            "from gluondense.training.distributed.launcher import Job, job",
            f"job.SERVE = {SLEEP}",
            f"Job({SLEEP}, 2).run()",
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


def test_hosts_are_reached_by_ssh(ssh, capsys, monkeypatch, tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MY_OWN", "it's $HOME")
    hosts = [Host("127.0.0.1", "one"), Host("127.0.0.2", "two")]
    code = (
        NUMBER + "print(number, os.getcwd(), os.environ['DMLC_NODE_HOST'], os.environ.get('PORT'))"
    )
    code += "\nprint(os.environ['MY_OWN'], os.environ['GLUONDENSE_SHARE'])"
    assert Job(python(code), 3, hosts=hosts, ssh=ssh, pass_on=["MY_OWN"]).run() == 0
    lines = sorted(capsys.readouterr().out.splitlines())
    assert lines == [
        f"worker 0 | 0 {folder} 127.0.0.1 None",
        "worker 0 | it's $HOME 2",
        f"worker 1 | 1 {folder} 127.0.0.1 None",
        "worker 1 | it's $HOME 2",
        f"worker 2 | 2 {folder} 127.0.0.2 None",
        "worker 2 | it's $HOME 1",
    ]


def test_a_host_out_of_reach_is_named(ssh, capsys):
    hosts = [Host("127.0.0.1", "alive"), Host("127.0.0.1", "dead")]
    assert Job(SLEEP, 2, hosts=hosts, ssh=ssh).run() == 255
    assert "worker 1 on dead is out of reach" in capsys.readouterr().err


def test_gpus_are_dealt_out_on_each_host(ssh, capsys):
    hosts = [Host("127.0.0.1", "one"), Host("127.0.0.1", "two")]
    code = "print(os.environ['CUDA_VISIBLE_DEVICES'])"
    assert Job(python(code), 4, hosts=hosts, ssh=ssh, gpus_per_worker=2).run() == 0
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line[-3:] for line in lines] == ["0,1", "2,3", "0,1", "2,3"]


def test_a_command_that_is_not_there(capsys):
    assert Job(["no-such-command"], 1).run() == 127
    assert "cannot start 'no-such-command': No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"command": []}, "There is no command: write it behind --"),
        ({"workers": 0}, "`workers` must be 1 or more, got 0"),
        ({"servers": 0}, "`servers` must be 1 or more, got 0"),
    ],
)
def test_bad_jobs_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Job(**{"command": SLEEP, "workers": 1, **values})


def test_a_file_of_hosts(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("# two\nme@localhost\n\ngpu7 10.0.0.7  # in the cellar\n")
    hosts = read_hosts(path)
    assert [(host.name, host.address) for host in hosts] == [
        ("me@localhost", "127.0.0.1"),
        ("gpu7", "10.0.0.7"),
    ]
    assert [str(host) for host in (*hosts, HERE)] == ["me@localhost", "gpu7", "127.0.0.1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# none\n", "names no host"),
        ("a 1.2.3.4 5\n", "line 1: 'a 1.2.3.4 5' is not NAME"),
        ("a 1.2.3.\n", "line 1: '1.2.3.' has no address"),
    ],
)
def test_bad_files_of_hosts_are_refused(tmp_path, text, message):
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_hosts(path)
