"""Downloads from a local server that breaks connections, sends wrong content and delays."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import re
import subprocess
import sys
import threading
import time

import pytest
from support import local_server as answers
from support.paths import ROOT

from gluondense.download import file as download
from gluondense.download.file import cache_folder, download_file, has_sha256

# Several chunks.
GOOD = bytes(range(251)) * 1000
SIZE = len(GOOD)
DIGEST = hashlib.sha256(GOOD).hexdigest()


def is_good(path) -> bool:
    return has_sha256(path, DIGEST)


def fetch(path, *urls: str) -> None:
    download_file(urls, path, is_good, "do it yourself")


def failure(path, *urls: str) -> str:
    with pytest.raises(ConnectionError) as caught:
        fetch(path, *urls)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"can't download {path.name} (")
    assert message.endswith("); do it yourself")
    return message


@pytest.fixture
def url(server) -> str:
    server.pages["/file"] = GOOD
    return server.url + "/file"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "file"


@pytest.fixture
def part(path):
    path.parent.mkdir()
    return path.with_name("file.part")


def names(path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


# Requests


def test_a_valid_file_is_requested_once(server, url, path):
    fetch(path, url)
    fetch(path, url)
    assert path.read_bytes() == GOOD
    assert names(path) == ["file"]
    assert server.requests == [("/file", None)]


def test_a_damaged_file_is_replaced(url, path, part):
    path.write_bytes(GOOD[:-1])
    fetch(path, url)
    assert path.read_bytes() == GOOD


def test_a_valid_file_in_a_read_only_folder_needs_no_lock(path, part, monkeypatch, refused_url):
    path.write_bytes(GOOD)
    monkeypatch.setattr(download, "_locked", lambda part: pytest.fail("locked"))
    fetch(path, refused_url)


def test_takes_the_first_source_with_the_right_content(server, refused_url, path):
    server.pages = {"/wrong": b"wrong", "/cut": GOOD, "/good": GOOD, "/unused": GOOD}
    server.plans["/cut"] = itertools.repeat(answers.without_range(SIZE // 2))
    places = ("missing", "wrong", "cut", "good", "unused")
    fetch(path, refused_url, *(f"{server.url}/{place}" for place in places))
    assert path.read_bytes() == GOOD
    assert names(path) == ["file"]
    assert "/unused" not in server.paths


# Servers


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answers.status(404), "HTTP status 404"),
        (answers.status(403), "HTTP status 403"),
        (answers.status(500), "HTTP status 500"),
        (answers.status(503), "HTTP status 503"),
        (answers.status(200, b"wrong"), "wrong checksum of 5 bytes"),
        (answers.status(200), "wrong checksum of 0 bytes"),
        (answers.page("<!DOCTYPE html>…"), r"wrong checksum of \d+ bytes \(a web page\)"),
        (answers.redirect("/file"), "too many redirects"),
        (answers.redirect("ftp://127.0.0.1/file"), r"neither http\(s\) nor a folder"),
        (answers.without_range(SIZE // 2), "the connection broke"),
        (answers.unframed(SIZE // 2), f"wrong checksum of {SIZE // 2} bytes"),
        (answers.misplace(7), f"wrong checksum of {SIZE - 7} bytes"),
    ],
)
def test_reports_why_a_source_failed(server, url, path, answer, words):
    server.plans["/file"] = itertools.repeat(answer)
    assert re.search(rf"\({url}: {words}\);", failure(path, url))
    assert not path.exists()


def test_reports_a_missing_connection(refused_url, path):
    assert f"({refused_url}: no connection)" in failure(path, refused_url)
    assert names(path) == []


def test_reports_why_each_source_failed(server, url, refused_url, path):
    server.plans["/file"] = itertools.repeat(answers.status(500))
    message = failure(path, refused_url, url)
    assert f"({refused_url}: no connection; {url}: HTTP status 500)" in message


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_retries_after_a_temporary_status(server, url, path, code):
    server.plans["/file"] = iter([answers.status(code)] * 3)
    fetch(path, url)
    assert len(server.requests) == 4


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_does_not_retry_after_a_permanent_status(server, url, path, code):
    server.plans["/file"] = itertools.repeat(answers.status(code))
    failure(path, url)
    assert len(server.requests) == 1


def test_waits_longer_each_time(server, url, path, monkeypatch):
    waits = []
    monkeypatch.setattr("gluondense.download.web.BACKOFF_SECONDS", 0.5)
    monkeypatch.setattr("gluondense.download.web.time.sleep", waits.append)
    server.plans["/file"] = itertools.repeat(answers.status(503))
    failure(path, url)
    assert waits == [0.5, 1, 2]


def test_follows_redirects_with_its_range(server, url, path, part):
    part.write_bytes(GOOD[:1000])
    server.plans["/old"] = itertools.repeat(answers.redirect("/file"))
    fetch(path, server.url + "/old")
    assert path.read_bytes() == GOOD
    assert server.requests == [("/old", "bytes=1000-"), ("/file", "bytes=1000-")]


def test_retries_a_server_that_stops_sending(server, url, path, monkeypatch):
    monkeypatch.setattr("gluondense.download.web.CONNECT_READ_SECONDS", (1, 0.1))
    server.plans["/file"] = iter([answers.stall(SIZE // 2, 0.5)])
    fetch(path, url)
    assert path.read_bytes() == GOOD


def test_abandons_a_server_that_does_not_respond(server, url, path, monkeypatch):
    monkeypatch.setattr("gluondense.download.web.CONNECT_READ_SECONDS", (1, 0.02))
    slow = threading.Event()
    server.plans["/file"] = itertools.repeat(lambda handler: slow.wait(60))
    try:
        assert "timeout" in failure(path, url)
    finally:
        slow.set()
    assert len(server.requests) == 4


def test_no_content_length_is_needed(server, url, path):
    server.plans["/file"] = iter([answers.unframed()])
    fetch(path, url)


# Going on where a connection broke.


def test_resumes_while_each_connection_makes_progress(server, url, path):
    ends = range(SIZE // 8, SIZE, SIZE // 8)
    assert len(ends) > 4
    server.plans["/file"] = iter([answers.cut(end) for end in ends])
    fetch(path, url)
    assert path.read_bytes() == GOOD
    starts = [int(asked[6:-1]) for asked in server.ranges[1:]]
    assert starts == sorted(set(starts))
    assert starts[-1] > SIZE // 2


def test_resumes_the_part_of_an_earlier_run(server, url, path, part):
    part.write_bytes(GOOD[:1000])
    fetch(path, url)
    assert path.read_bytes() == GOOD
    assert server.ranges == ["bytes=1000-"]


def test_resumes_from_the_next_source(server, url, path):
    server.pages["/cut"] = GOOD
    server.plans["/cut"] = itertools.chain(
        [answers.cut(SIZE // 2)], itertools.repeat(answers.status(404))
    )
    fetch(path, server.url + "/cut", url)
    assert path.read_bytes() == GOOD
    assert server.ranges[-1] is not None


def test_a_complete_part_is_not_requested(server, url, path, part):
    part.write_bytes(GOOD)
    fetch(path, url)
    assert names(path) == ["file"]
    assert not server.requests


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * SIZE, GOOD + b"x"], ids=len)
def test_a_part_of_another_file_is_discarded(server, url, path, part, left):
    part.write_bytes(left)
    fetch(path, url)
    assert path.read_bytes() == GOOD
    assert server.ranges == [f"bytes={len(left)}-", None]


@pytest.mark.parametrize(
    "answer", [answers.without_range(), answers.misplace(7), answers.status(206, GOOD[1000:])]
)
def test_a_wrong_range_is_detected(server, url, path, part, answer):
    part.write_bytes(GOOD[:1000])
    server.plans["/file"] = iter([answer])
    fetch(path, url)
    assert path.read_bytes() == GOOD


def test_the_part_is_kept_if_all_sources_fail(server, url, path):
    server.plans["/file"] = itertools.chain(
        [answers.cut(SIZE // 2)], itertools.repeat(answers.status(503))
    )
    failure(path, url)
    assert names(path) == ["file.part"]
    assert GOOD.startswith(path.with_name("file.part").read_bytes())
    server.plans.clear()
    fetch(path, url)
    assert path.read_bytes() == GOOD


# Where from and where to.


def test_the_mirror_is_tried_first(server, url, path, monkeypatch):
    server.pages = {"/mirror/file": GOOD}
    monkeypatch.setenv("GLUONDENSE_MIRROR", server.url + "/mirror/")
    fetch(path, url)
    assert server.paths == ["/mirror/file"]


@pytest.mark.parametrize("content", [None, b"wrong"])
def test_sources_serve_files_missing_in_the_mirror(server, url, path, monkeypatch, content):
    server.pages["/mirror/file"] = content
    monkeypatch.setenv("GLUONDENSE_MIRROR", server.url + "/mirror")
    fetch(path, url)
    assert server.paths == ["/mirror/file", "/file"]


@pytest.mark.parametrize("offline", ["", "1"])
def test_the_mirror_can_be_a_folder(server, url, path, tmp_path, monkeypatch, offline):
    monkeypatch.setenv("GLUONDENSE_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("GLUONDENSE_OFFLINE", offline)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "file").write_bytes(GOOD)
    fetch(path, url)
    assert path.read_bytes() == GOOD
    assert not server.requests


def test_a_folder_without_the_file_is_named(server, url, path, tmp_path, monkeypatch):
    monkeypatch.setenv("GLUONDENSE_MIRROR", str(tmp_path))
    monkeypatch.setenv("GLUONDENSE_OFFLINE", "1")
    message = failure(path, url)
    assert f"({tmp_path / 'file'}: no such file; GLUONDENSE_OFFLINE is set)" in message


def test_the_password_of_a_mirror_is_not_shown(refused_url, path, monkeypatch):
    secret = refused_url.replace("//", "//me:secret@")
    monkeypatch.setenv("GLUONDENSE_MIRROR", secret)
    message = failure(path, refused_url)
    assert "secret" not in message
    assert f"({refused_url}/file: no connection" in message


def test_a_mirror_of_another_scheme_is_named(path, monkeypatch, server, url):
    monkeypatch.setenv("GLUONDENSE_MIRROR", "file:///mirror")
    server.pages.clear()
    assert "file:///mirror/file: neither http(s) nor a folder" in failure(path, url)


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_uses_no_network(server, url, path, monkeypatch, value):
    monkeypatch.setenv("GLUONDENSE_OFFLINE", value)
    monkeypatch.setenv("GLUONDENSE_MIRROR", server.url)
    assert "(GLUONDENSE_OFFLINE is set)" in failure(path, url)
    assert not server.requests
    path.write_bytes(GOOD)
    fetch(path, url)


@pytest.mark.parametrize("value", ["", "0", "false", "No"])
def test_offline_can_be_switched_off(url, path, monkeypatch, value):
    monkeypatch.setenv("GLUONDENSE_OFFLINE", value)
    fetch(path, url)


def test_root_takes_precedence_over_mxnet_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MXNET_HOME", raising=False)
    assert cache_folder("models") == tmp_path / ".mxnet" / "models"
    assert cache_folder("models", "~/mine") == tmp_path / "mine"
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    assert cache_folder("datasets") == tmp_path / "home" / "datasets"
    assert cache_folder("models", tmp_path / "mine") == tmp_path / "mine"


# Operating system


def disk_error(path, url: str) -> OSError:
    with pytest.raises(OSError, match=r"^[^\n]*$") as caught:
        fetch(path, url)
    assert not isinstance(caught.value, ConnectionError)
    assert f"can't download to {path} (" in str(caught.value)
    return caught.value


def test_a_folder_that_cannot_be_created_is_named(url, tmp_path):
    (tmp_path / "deep").write_text("a file")
    assert f"({tmp_path / 'deep'}: File exists)" in str(disk_error(tmp_path / "deep" / "file", url))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(url, path, part):
    path.parent.chmod(0o500)
    assert isinstance(disk_error(path, url), PermissionError)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_named(url, path, part):
    part.symlink_to("/dev/full")
    assert f"({part}: No space left on device)" in str(disk_error(path, url))


def test_an_interruption_leaves_a_part_to_resume(server, url, path, monkeypatch):
    calls = itertools.count()

    def interrupt(self, count):
        if next(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gluondense.download.web.tqdm.update", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(path, url)
    assert names(path) == ["file.part"]
    fetch(path, url)
    assert path.read_bytes() == GOOD
    assert server.ranges[1] is not None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, True), (io.StringIO, False)])
def test_progress_is_shown_on_terminals(url, path, part, monkeypatch, stream, shown):
    stderr = stream()
    monkeypatch.setattr(sys, "stderr", stderr)
    part.write_bytes(GOOD[:1000])
    fetch(path, url)
    assert ("file: 100%" in stderr.getvalue() and "251k/251k" in stderr.getvalue()) == shown
    assert bool(stderr.getvalue()) == shown


@pytest.mark.parametrize("digits", [8, 9, 64])
def test_a_checksum_may_be_its_first_digits(tmp_path, digits):
    (tmp_path / "file").write_bytes(GOOD)
    assert has_sha256(tmp_path / "file", DIGEST[:digits])
    assert has_sha256(tmp_path / "file", DIGEST[:digits].upper())
    assert not has_sha256(tmp_path / "file", "0" * digits)


@pytest.mark.parametrize("digits", ["", "a639ec9"])
def test_a_checksum_of_few_digits_is_refused(tmp_path, digits):
    with pytest.raises(ValueError, match="at least 8 digits"):
        has_sha256(tmp_path / "file", digits)


# Several processes.

# Without the package around it, as MXNet takes seconds to import.
SCRIPT = f"""
import sys, types
from pathlib import Path
sys.modules["gluondense"] = package = types.ModuleType("gluondense")
package.__path__ = ["{ROOT / "gluondense"}"]
from gluondense.download.file import download_file, has_sha256

print("ready", flush=True)
download_file(
    [sys.argv[2]], Path(sys.argv[1]), lambda path: has_sha256(path, "{DIGEST}"), "do it yourself"
)
"""


@contextlib.contextmanager
def process(path, url: str):
    """Start another process that downloads, and wait until it has begun."""
    command = [sys.executable, "-c", SCRIPT, str(path), url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def until(condition) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_two_processes_download_once(server, url, path):
    gate = threading.Event()
    server.plans["/file"] = iter([answers.wait_for(gate)])
    with process(path, url) as first, process(path, url) as second:
        until(lambda: server.requests)
        waiting = threading.Timer(0.3, gate.set)
        waiting.start()
        errors = [child.communicate(timeout=30)[1] for child in (first, second)]
        waiting.join()
        assert (first.returncode, second.returncode) == (0, 0)
    assert len(server.requests) == 1
    assert names(path) == ["file"]
    assert sorted(map(bool, errors)) == [False, True]
    assert "waiting for another process that is downloading" in "".join(errors)


def test_two_threads_download_once(server, url, path):
    gate = threading.Event()
    server.plans["/file"] = iter([answers.wait_for(gate)])
    threads = [threading.Thread(target=fetch, args=(path, url)) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: server.requests)
    gate.set()
    for thread in threads:
        thread.join(30)
    assert len(server.requests) == 1
    assert names(path) == ["file"]


def test_a_file_that_another_process_has_just_completed(server, url, path, monkeypatch):
    lock = download._lock

    def complete(opened):
        path.write_bytes(GOOD)
        return lock(opened)

    monkeypatch.setattr(download, "_lock", complete)
    fetch(path, url)
    assert server.requests == []
    assert names(path) == ["file"]


def test_a_process_that_waits_takes_over_from_one_that_fails(server, url, path):
    gate = threading.Event()
    never = f"{server.url}/missing"
    server.plans["/missing"] = iter([lambda handler: (gate.wait(60), answers.status(404)(handler))])
    with process(path, never) as first:
        until(lambda: server.requests)
        second = threading.Thread(target=fetch, args=(path, url))
        second.start()
        time.sleep(0.2)
        gate.set()
        assert "ConnectionError" in first.communicate(timeout=30)[1]
        second.join(30)
    assert path.read_bytes() == GOOD
    assert names(path) == ["file"]


def test_a_killed_process_leaves_its_part_and_no_lock(server, url, path):
    gate = threading.Event()
    server.plans["/file"] = iter([answers.wait_for(gate, SIZE // 2)])
    part = path.with_name("file.part")
    with process(path, url) as child:
        until(lambda: part.exists() and part.stat().st_size > SIZE // 4)
        child.kill()
        child.wait(30)
    gate.set()
    fetch(path, url)
    assert path.read_bytes() == GOOD
    assert server.ranges[1] is not None


def test_a_process_without_progress_is_reported(server, url, path, monkeypatch):
    monkeypatch.setattr(download, "LOCK_SECONDS", 0.2)
    gate = threading.Event()
    server.plans["/file"] = iter([answers.wait_for(gate)])
    with process(path, url):
        until(lambda: server.requests)
        with pytest.raises(TimeoutError, match=r"another process holds .*file\.part and appended"):
            fetch(path, url)
        gate.set()


# The guard of conftest.py.


@pytest.mark.parametrize("address", ["http://192.0.2.1/", "http://example.invalid/"])
def test_no_test_reaches_another_machine(path, address, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(pytest.fail.Exception, match="a test wanted to reach"):
        fetch(path, address)
