# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime in Python's HTTP server, the baseline for model servers.

``python onnx_server.py EXPORT PORT THREADS`` serves ``EXPORT.onnx``. A request has one image;
predictions run one at a time with all threads, while other requests are decoded.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from gluondense.data.preprocessing import Preprocessing

TOP = 5


class Handler(BaseHTTPRequestHandler):
    """Gives the same answers as the service in the archives."""

    protocol_version = "HTTP/1.1"
    # Send the answer in one packet, without delay.
    wbufsize = -1
    disable_nagle_algorithm = True

    session: Any
    about: dict[str, Any]
    preprocessing: Preprocessing
    lock = threading.Lock()

    def do_GET(self) -> None:  # http.server's name
        """Report that the server is ready."""
        self._send(200, "ready")

    def do_POST(self) -> None:
        """Classify the image in the body."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            pixels = self.preprocessing.pixels(body, "the body")
        except ValueError as error:
            self._send(400, str(error))
            return
        data = self.preprocessing.normalize(pixels[None])
        with self.lock:
            (logits,) = self.session.run(None, {self.about["input_name"]: data})
        powers = np.exp(logits[0] - logits[0].max())
        row = powers / powers.sum()
        names = self.about["class_names"]
        best = np.argsort(-row, kind="stable")[:TOP].tolist()
        found = [
            {"class": names[index] if names else str(index), "probability": float(row[index])}
            for index in best
        ]
        self._send(200, found)

    def _send(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Do not log requests."""


def main(prefix: str, port: int, threads: int) -> None:
    """Serve until the process is ended."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    Handler.session = onnxruntime.InferenceSession(
        f"{prefix}.onnx", options, providers=["CPUExecutionProvider"]
    )
    with open(f"{prefix}.json", encoding="utf-8") as file:
        Handler.about = json.load(file)
    Handler.preprocessing = Preprocessing.from_dict(Handler.about["preprocessing"])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
