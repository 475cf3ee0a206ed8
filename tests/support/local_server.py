"""An HTTP server on this machine that misbehaves as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable


class Handler(BaseHTTPRequestHandler):
    """Answers with ``server.pages[path]``, or does what is next in ``server.plans[path]``."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        answer = next(self.server.plans.get(self.path, iter(())), serve)
        try:
            answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    @property
    def content(self) -> bytes | None:
        return self.server.pages.get(self.path)

    def head(self, code: int, length: int, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *args):
        pass


Answer = Callable[[Handler], None]


class Server(ThreadingHTTPServer):
    """``pages`` are its contents, ``plans`` its misdeeds, ``requests`` what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, bytes] = {}
        self.plans: dict[str, Iterator[Answer]] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]

    @property
    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.requests]

    def handle_error(self, request, client_address):
        pass  # clients that are killed in the middle


@contextmanager
def running() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def serve(handler: Handler, start: int | None = None, end: int | None = None) -> None:
    """Answer well; ``start`` overrules what is asked, ``end`` is where the connection breaks."""
    content, asked = handler.content, handler.headers.get("Range")
    if content is None:
        return status(404)(handler)
    if start is None:
        start = int(asked[len("bytes=") : -1]) if asked else 0
    if asked and start >= len(content):
        return status(416)(handler)
    if asked:
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.head(206, len(content) - start, Content_Range=place)
    else:
        handler.head(200, len(content) - start)
    handler.wfile.write(content[start:end])
    handler.close_connection = end is not None
    return None


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(handler):
        handler.head(code, len(body), **headers)
        handler.wfile.write(body)

    return answer


def redirect(location: str) -> Answer:
    return status(302, Location=location)


def page(text: str) -> Answer:
    """A web page where a file was asked for, as proxies and log-ins send it."""
    return status(200, text.encode(), Content_Type="text/html")


def cut(end: int) -> Answer:
    """The connection breaks after this byte of the file."""
    return lambda handler: serve(handler, end=end)


def misplace(start: int) -> Answer:
    """A partial answer that begins somewhere else than asked."""
    return lambda handler: serve(handler, start=start)


def without_range(end: int | None = None) -> Answer:
    """The whole file whatever part is asked for."""

    def answer(handler):
        del handler.headers["Range"]
        serve(handler, end=end)

    return answer


def stall(end: int, seconds: float) -> Answer:
    """Nothing more after this byte, with the connection open."""

    def answer(handler):
        serve(handler, end=end)
        handler.wfile.flush()
        time.sleep(seconds)

    return answer


def wait_for(event: threading.Event, end: int = 0) -> Answer:
    """The rest after this byte comes when the event does."""

    def answer(handler):
        handler.head(200, len(handler.content))
        handler.wfile.write(handler.content[:end])
        event.wait(60)
        handler.wfile.write(handler.content[end:])

    return answer


def unframed(end: int | None = None) -> Answer:
    """No length is told, so the end of the connection is that of the file."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(handler.content[:end])

    return answer
