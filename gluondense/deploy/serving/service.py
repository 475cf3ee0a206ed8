"""What multi-model-server runs: pictures in, the likeliest classes out as JSON.

An archive holds this file with the few others of ``archive.SERVED``, so it may import nothing else
of gluondense. The server calls :func:`handle`, once with no data and then with a batch of requests;
each gets its own answer, so a broken picture harms none but itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from PIL import Image

from ...data.files.image import decode_image
from ...data.transforms.batch import normalize
from ...environment.process import usable_cores

logger = logging.getLogger(__name__)

TOP = 5
# A picture of so many pixels takes 150 MB while it is decoded; what its bytes are doesn't tell.
MAX_PIXELS = 50_000_000
# Pictures as they are, or in a form's field; curl's -T says nothing.
CONTENT_TYPES = ("image/", "application/octet-stream", "binary/octet-stream", "multipart/form-data")


class RefusedError(Exception):
    """A request that gets another status than 200."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind

    def content(self) -> dict[str, Any]:
        """Return the answer, in the words of the server's own refusals."""
        return {"code": self.status, "type": self.kind, "message": str(self)}


class Service:
    """A network and what its inputs and outputs mean.

    Parameters
    ----------
    folder
        Of an export's files, which are verified.
    ctx
        Device.
    batch_size
        Of the largest batch; that and a single picture are tried at once, as the first prediction
        of a process takes longer.

    Raises
    ------
    ValueError
        If the folder is not of one export, or a file is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], ctx: mx.Context, batch_size: int) -> None:
        graphs = sorted(Path(folder).resolve().glob("*-symbol.json"))
        if len(graphs) != 1:
            raise ValueError(f"{folder} must hold one export, not {len(graphs)}.")
        prefix = str(graphs[0])[: -len("-symbol.json")]
        self.about = json.loads(Path(f"{prefix}.json").read_text(encoding="utf-8"))
        suffixes = {"symbol": "-symbol.json", "params": "-0000.params", "library": "-native.so"}
        files = {name: f"{prefix}{suffixes[name]}" for name in self.about["sha256"]}
        for name, file in files.items():
            if hashlib.sha256(Path(file).read_bytes()).hexdigest() != self.about["sha256"][name]:
                raise ValueError(f"{file} is damaged: make the archive again.")
        if "library" in files:
            mx.library.load(files["library"], False)
        self.ctx = ctx
        self.block = mx.gluon.SymbolBlock.imports(
            files["symbol"], [self.about["input_name"]], files["params"], ctx=ctx
        )
        self.block.hybridize(static_alloc=True, static_shape=True)
        self.readers = ThreadPoolExecutor(usable_cores())
        _, channels, height, width = self.about["input_shape"]
        self.channels, self.size = channels, (height, width)
        for count in (1, batch_size):
            self.outputs(np.zeros((count, height, width, channels), np.uint8))
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        logger.info(
            "%s: target %s on %s, %s threads", Path(prefix).name, self.about["target"], ctx, threads
        )

    def outputs(self, pixels: np.ndarray) -> np.ndarray:
        """Run uint8 pictures (N, H, W, C); return probabilities or features (N, K)."""
        about = self.about
        if not about["preprocess"]:
            pixels = normalize(pixels, about["mean"], about["std"])
        outputs = self.block(mx.nd.array(pixels, ctx=self.ctx, dtype=pixels.dtype))
        if about["output"] == "logits":
            outputs = outputs.astype("float32").softmax()
        return outputs.asnumpy()

    def answer(self, requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Answer a batch.

        Parameters
        ----------
        requests
            Of each the picture as bytes, named ``body``, ``data`` or by its form's field; its
            ``content-type``, None if not told; and perhaps the field ``top``, how many classes to
            name.

        Returns
        -------
        list
            What becomes JSON, or a :class:`RefusedError`.
        """
        answers: list[Any] = list(self.readers.map(self._read_or_refuse, requests))
        good = [index for index, found in enumerate(answers) if not isinstance(found, RefusedError)]
        if good:
            outputs = self.outputs(np.stack([answers[index][0] for index in good]))
            for index, row in zip(good, outputs):
                answers[index] = self._say(row, answers[index][1])
        return answers

    def _read_or_refuse(self, request: Mapping[str, Any]) -> Any:
        try:
            return self._read(request), _top(request)
        except RefusedError as refused:
            return refused

    def _read(self, request: Mapping[str, Any]) -> np.ndarray:
        told = request.get("content-type")
        if told and not told.lower().startswith(CONTENT_TYPES):
            raise RefusedError(
                415,
                "UnsupportedMediaTypeException",
                f"content type {told} is no picture: send a picture's bytes (curl -T image.jpg) as "
                "image/*, application/octet-stream or a field of a form (curl -F data=@image.jpg).",
            )
        picture = _picture(request)
        if not picture:
            raise RefusedError(
                400, "BadRequestException", "there is no picture: send its bytes as the body."
            )
        try:
            self._check_size(picture)
            return decode_image(io.BytesIO(picture), "the request's body", self.channels, self.size)
        except RefusedError:
            raise
        except Exception as error:  # whatever Pillow's decoders raise, it is the picture's fault
            message = " ".join(str(error).split())
            raise RefusedError(400, "BadRequestException", message) from None

    def _check_size(self, picture: bytes) -> None:
        try:
            with Image.open(io.BytesIO(picture)) as opened:
                width, height = opened.size
        except Image.DecompressionBombError:
            width = height = MAX_PIXELS
        except Exception:  # decoding has the words for it
            return
        if width * height > MAX_PIXELS:
            raise RefusedError(
                413,
                "RequestEntityTooLargeException",
                f"the picture has more than {MAX_PIXELS:,} pixels: make it smaller.",
            )

    def _say(self, row: np.ndarray, top: int) -> Any:
        if self.about["output"] == "features":
            return {"features": row.tolist()}
        names = self.about["class_names"]
        return [
            {"class": names[index] if names else str(index), "probability": float(row[index])}
            for index in np.argsort(-row, kind="stable")[:top].tolist()
        ]


def _picture(request: Mapping[str, Any]) -> bytes:
    named = [request[name] for name in ("body", "data") if name in request]
    fields = [v for k, v in request.items() if k not in ("top", "content-type")]
    return bytes(next((v for v in named + fields if isinstance(v, (bytes, bytearray))), b""))


def _top(request: Mapping[str, Any]) -> int:
    value = request.get("top", TOP)
    text = value.decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else str(value)
    if not text.isdecimal() or int(text) < 1:
        raise RefusedError(
            400, "BadRequestException", f"top (={text[:20]!r}) must be a positive integer."
        )
    return int(text)


_service: Service | None = None


def handle(requests: Sequence[dict[str, Any]] | None, context: Any) -> list[str]:
    """Load the network at the first call; then answer requests, as multi-model-server asks."""
    global _service
    if _service is None:
        has = context.system_properties
        gpu = has.get("gpu_id")
        ctx = mx.cpu() if gpu is None or int(gpu) < 0 else mx.gpu(int(gpu))
        _service = Service(has["model_dir"], ctx, int(has.get("batch_size") or 1))
        context.get_response_content_type = _is_json
    if requests is None:
        return []
    answers = _service.answer(
        [
            {**request, "content-type": _content_type(context.get_all_request_header(index))}
            for index, request in enumerate(requests)
        ]
    )
    texts = []
    for index, answer in enumerate(answers):
        refused = isinstance(answer, RefusedError)
        phrase = answer.kind if refused else ""
        if refused:
            context.set_response_status(answer.status, phrase, index)
        texts.append(_padded(json.dumps(answer.content() if refused else answer), phrase))
    return texts


# multi-model-server 1.1.11 reads a batch's answers in pieces whose ends are multiples of 16 bytes,
# and restarts the worker, failing the whole batch, where an end lies in an answer's status or in
# one of its headers (its ModelResponseDecoder and CodecUtils.readMap do not wait for the rest). So
# no answer has a header, the content type is told another way, and white space behind each answer
# keeps the next one's status at 6 bytes behind a multiple of 16: there the first one's always is.
def _is_json(index: int) -> str:
    return "application/json"


def _padded(text: str, phrase: str) -> str:
    return text + " " * ((4 - len(phrase) - len(text)) % 16)


def _content_type(headers: Mapping[str, Any]) -> str | None:
    told = (str(value) for name, value in headers.items() if name.lower() == "content-type")
    return next(told, None)
