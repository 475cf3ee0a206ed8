# SPDX-License-Identifier: Apache-2.0
"""Service for multi-model-server: takes images, returns classes, labels or boxes as JSON.

An archive contains this module and the modules of ``archive.SERVED``; it must not import anything
else of gluondense. The server calls :func:`handle` first without data and then with batches of
requests. Each request gets its own response, so that an invalid image fails only its own request.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...analysis.tasks import ACTIVATIONS
from ...data.boxes import Placement
from ...data.detections import THRESHOLD, to_answer
from ...data.preprocessing import Preprocessing
from ...environment.process import usable_cores
from ...files import json_sha256, sha256
from .graph import open_graph

logger = logging.getLogger(__name__)

TOP = 5
# Decoding an image of this many pixels takes 150 MB, whatever the size of the file.
MAX_PIXELS = 50_000_000
# Images as the body or as a field of a form; `curl -T` sends no content type.
CONTENT_TYPES = ("image/", "application/octet-stream", "binary/octet-stream", "multipart/form-data")


class RefusedError(Exception):
    """A request that gets another status than 200."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind

    def content(self) -> dict[str, Any]:
        """Return the response in the format of the server's own errors."""
        return {"code": self.status, "type": self.kind, "message": str(self)}


def _bad_request(message: str) -> RefusedError:
    return RefusedError(400, "BadRequestException", message)


class _Request(NamedTuple):
    """A request whose image has been decoded."""

    pixels: np.ndarray
    placement: Placement
    top: int | None
    threshold: float


class Service:
    """A network with the pre- and post-processing of requests.

    Parameters
    ----------
    folder, gpu
        Folder of the files of one export, which are verified, and the number of a GPU or None for
        the CPU; exports that can't use a GPU stay on the CPU, see :func:`.device.choose_device`.
    batch_size
        Size of the largest batch. A single image and such a batch are run on construction, as the
        first inference of a process takes longer.
    """

    def __init__(self, folder: str | os.PathLike[str], gpu: int | None, batch_size: int) -> None:
        graphs = sorted(Path(folder).resolve().glob("*-symbol.json"))
        if len(graphs) != 1:
            raise ValueError(f"{folder} must hold one export, not {len(graphs)}.")
        prefix = str(graphs[0])[: -len("-symbol.json")]
        self.metadata = _read_metadata(Path(f"{prefix}.json"))
        suffixes = {"symbol": "-symbol.json", "params": "-0000.params", "library": "-native.so"}
        files = {name: f"{prefix}{suffixes[name]}" for name in self.metadata["sha256"]}
        for name, file in files.items():
            if sha256(Path(file)) != self.metadata["sha256"][name]:
                raise ValueError(f"{file} is damaged: make the archive again.")
        self.graph = open_graph(prefix, files, self.metadata, gpu)
        self.decoders = ThreadPoolExecutor(usable_cores())
        self.preprocessing = _preprocessing(self.metadata)
        _, channels, height, width = self.metadata["input_shape"]
        for count in (1, batch_size):
            self.outputs(np.zeros((count, height, width, channels), np.uint8))
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        name, target = Path(prefix).name, self.metadata["target"]
        logger.info("%s: target %s, %s threads", name, target, threads)

    @property
    def has_several_labels(self) -> bool:
        """Whether an image has several labels; earlier exports have one class per image."""
        return self.metadata.get("task") == "multi_label"

    @property
    def is_detector(self) -> bool:
        """Whether the answer is boxes."""
        return self.metadata.get("task") == "detection"

    def outputs(self, pixels: np.ndarray) -> np.ndarray:
        """Run a batch of uint8 images (N, H, W, C).

        Returns probabilities or features (N, K), or rows (N, K, 6) of class, score and corners.
        """
        metadata = self.metadata
        if not metadata["preprocess"]:
            pixels = self.preprocessing.normalize(pixels)
        outputs = self.graph(pixels)
        if self.is_detector:
            return np.concatenate(outputs, axis=2)
        if metadata["output"] == "logits":
            return ACTIVATIONS[metadata.get("task", "classification")](outputs[0].astype("float32"))
        return outputs[0]

    def answer(self, requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return an object to encode as JSON, or a :class:`RefusedError`, for each request.

        A request contains the bytes of an image as ``body``, ``data`` or a field of a form; its
        ``content-type`` or None; and optionally ``top``, the number of classes to return, by
        default 5, for multi-label networks and detectors all; for detectors also ``threshold``, the
        smallest probability of a box, by default 0.5.
        """
        answers: list[Any] = list(self.decoders.map(self._read_or_refuse, requests))
        valid = [i for i, found in enumerate(answers) if not isinstance(found, RefusedError)]
        if valid:
            outputs = self.outputs(np.stack([answers[index].pixels for index in valid]))
            for index, row in zip(valid, outputs):
                answers[index] = self._response(row, answers[index])
        return answers

    def _read_or_refuse(self, request: Mapping[str, Any]) -> Any:
        try:
            if "threshold" in request and not self.is_detector:
                raise _bad_request("threshold is for boxes, and the network gives none.")
            has_all = self.has_several_labels or self.is_detector
            top, threshold = _top(request, None if has_all else TOP), _threshold(request)
            return _Request(*self._read(request), top, threshold)
        except RefusedError as refused:
            return refused

    def _read(self, request: Mapping[str, Any]) -> tuple[np.ndarray, Placement]:
        content_type = request.get("content-type")
        if content_type and not content_type.lower().startswith(CONTENT_TYPES):
            raise RefusedError(
                415,
                "UnsupportedMediaTypeException",
                f"content type {content_type} is no image: send an image's bytes (curl -T "
                "image.jpg) as image/*, application/octet-stream or a field of a form (curl -F "
                "data=@image.jpg).",
            )
        image = _image_bytes(request)
        if not image:
            raise _bad_request("there is no image: send its bytes as the body.")
        try:
            self._check_size(image)
            return self.preprocessing.placed(image, "the request's body")
        except RefusedError:
            raise
        except Exception as error:  # Pillow's decoders raise any type for an invalid image
            raise _bad_request(" ".join(str(error).split())) from None

    def _check_size(self, image: bytes) -> None:
        try:
            with Image.open(io.BytesIO(image)) as opened:
                width, height = opened.size
        except Image.DecompressionBombError:
            width = height = MAX_PIXELS
        except Exception:  # decoding reports the error
            return
        if width * height > MAX_PIXELS:
            raise RefusedError(
                413,
                "RequestEntityTooLargeException",
                f"the image has more than {MAX_PIXELS:,} pixels: make it smaller.",
            )

    def _response(self, row: np.ndarray, request: _Request) -> Any:
        if self.metadata["output"] == "features":
            return {"features": row.tolist()}
        names = self.metadata["class_names"]
        if self.is_detector:
            return to_answer(row, request.placement, names, request.threshold, request.top)
        order = np.argsort(-row, kind="stable")[: request.top].tolist()
        answer: list[dict[str, Any]] = [
            {"class": names[index] if names else str(index), "probability": float(row[index])}
            for index in order
        ]
        if self.has_several_labels:
            thresholds = self.metadata["thresholds"]
            for found, index in zip(answer, order):
                found["present"] = bool(row[index] >= thresholds[index])
        return answer


def _read_metadata(path: Path) -> dict[str, Any]:
    """Read an export's metadata, which ``archive`` has checked; compare it with its checksum."""
    content = json.loads(path.read_text(encoding="utf-8"))
    expected = content.pop("content_sha256", None)
    if content["format"] != 1 and json_sha256(content) != expected:
        raise ValueError(f"{path} is damaged: make the archive again.")
    return content


def _preprocessing(metadata: Mapping[str, Any]) -> Preprocessing:
    if metadata["format"] == 1:
        height, width = metadata["input_shape"][2:]
        return Preprocessing.stretched(metadata["mean"], metadata["std"], (height, width))
    return Preprocessing.from_dict(metadata["preprocessing"])


def _image_bytes(request: Mapping[str, Any]) -> bytes:
    named = [request[name] for name in ("body", "data") if name in request]
    others = ("top", "threshold", "content-type")
    fields = [v for k, v in request.items() if k not in others]
    return bytes(next((v for v in named + fields if isinstance(v, (bytes, bytearray))), b""))


def _top(request: Mapping[str, Any], default: int | None) -> int | None:
    if "top" not in request:
        return default
    text = _text(request["top"])
    if not text.isdecimal() or int(text) < 1:
        raise _bad_request(f"top (={text[:20]!r}) must be a positive integer.")
    return int(text)


def _threshold(request: Mapping[str, Any]) -> float:
    text = _text(request.get("threshold", THRESHOLD))
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise _bad_request(f"threshold (={text[:20]!r}) must be a number from 0 to 1.")
    return value


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else str(value)


_service: Service | None = None


def handle(requests: Sequence[dict[str, Any]] | None, context: Any) -> list[str]:
    """Entry point of multi-model-server: load the network on the first call; answer requests."""
    global _service
    if _service is None:
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        number = None if gpu is None or int(gpu) < 0 else int(gpu)
        _service = Service(properties["model_dir"], number, int(properties.get("batch_size") or 1))
        context.get_response_content_type = _json_content_type
    if requests is None:
        return []
    types = (_content_type(context.get_all_request_header(i)) for i in range(len(requests)))
    typed = [{**request, "content-type": found} for request, found in zip(requests, types)]
    texts = []
    for index, answer in enumerate(_service.answer(typed)):
        refused = isinstance(answer, RefusedError)
        phrase = answer.kind if refused else ""
        if refused:
            context.set_response_status(answer.status, phrase, index)
        texts.append(_padded(json.dumps(answer.content() if refused else answer), phrase))
    return texts


# multi-model-server 1.1.11 reads the responses of a batch in pieces that end at multiples of 16
# bytes. If a piece ends within a response's status or headers, it restarts the worker and the whole
# batch fails (its ModelResponseDecoder and CodecUtils.readMap do not wait for the rest). Therefore
# no response has a header, the content type is set by another way, and trailing white space puts
# the next response's status 6 bytes after a multiple of 16, where the first one always is.
def _json_content_type(index: int) -> str:
    return "application/json"


def _padded(text: str, phrase: str) -> str:
    return text + " " * ((4 - len(phrase) - len(text)) % 16)


def _content_type(headers: Mapping[str, Any]) -> str | None:
    values = (str(value) for name, value in headers.items() if name.lower() == "content-type")
    return next(values, None)
