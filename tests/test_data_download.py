from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gluondense.data import fashion_mnist
from gluondense.data.download import download_file

GOOD = b"good content" * 1000


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.pages``; content under /truncated/ stops half-way."""

    def do_GET(self):
        self.server.requested.append(self.path)
        content = self.server.pages.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if "truncated" in self.path else content)

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.pages, server.requested = {}, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def refused_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/file"


def is_good(content: bytes) -> bool:
    return content == GOOD


def test_takes_the_first_mirror_with_the_right_content(server, refused_url, tmp_path):
    server.pages = {"/wrong/file": b"wrong", "/truncated/file": GOOD, "/good/file": GOOD}
    places = ("missing", "wrong", "truncated", "good", "unused")
    urls = [refused_url] + [f"{server.url}/{place}/file" for place in places]
    path = tmp_path / "deep" / "file"
    download_file(urls, path, is_good, "do it yourself")
    assert path.read_bytes() == GOOD
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
    assert "/unused/file" not in server.requested


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("missing", "HTTP status 404"),
        ("wrong", "wrong checksum of 5 bytes"),
        ("truncated", "(the connection broke off|no connection|wrong checksum of 6000 bytes)"),
    ],
)
def test_says_why_each_mirror_failed(server, tmp_path, place, reason):
    server.pages = {"/wrong/file": b"wrong", "/truncated/file": GOOD}
    url = f"{server.url}/{place}/file"
    with pytest.raises(ConnectionError, match=f"{url}: {reason}.*; do it yourself$") as caught:
        download_file([url], tmp_path / "file", is_good, "do it yourself")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_says_that_there_is_no_connection(refused_url, tmp_path):
    with pytest.raises(ConnectionError, match=r"can't download file \(.*: no connection\); try"):
        download_file([refused_url], tmp_path / "file", is_good, "try")


def test_fashion_mnist_offline_names_data_dir(refused_url, tmp_path, monkeypatch):
    monkeypatch.setenv("GLUONDENSE_MIRROR", refused_url)
    monkeypatch.setattr(fashion_mnist, "MIRRORS", ())
    with pytest.raises(ConnectionError, match=r"train-images-idx3-ubyte\.gz .*--data-dir$"):
        fashion_mnist.load(root=tmp_path)
