"""Encoded pictures to pixels, fast where the picture is an ordinary one and right for all.

An ordinary JPEG, grey or coloured, goes to OpenCV, which is twice as fast as Pillow; so does a PNG
of 8 bits without transparency. Everything else, CMYK, 16 bits, transparency, palettes, other
formats, goes to Pillow and :func:`.images.decode_image`'s rules. Pictures come upright, as their
EXIF orientation says.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import cv2
import numpy as np

from .image import decode_picture

MAX_PIXELS = 178_956_970  # Pillow's limit against decompression bombs
_EXIF = b"\xff\xe1"
_START_OF_SCAN, _END = b"\xff\xda", b"\xff\xd9"
# C4, C8 and CC in the same range are tables, not frames.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


@dataclass(frozen=True)
class JPEGHeader:
    """What the head of a JPEG file says, in its own orientation, and at which byte its frame is."""

    height: int
    width: int
    components: int
    oriented: bool
    frame: int

    @classmethod
    def read(cls, data: bytes) -> JPEGHeader | None:
        """Read it; None if the bytes are no JPEG or have no frame.

        Examples
        --------
        >>> picture = np.zeros((3, 5, 3), np.uint8)
        >>> JPEGHeader.read(cv2.imencode(".jpg", picture)[1].tobytes())
        JPEGHeader(height=3, width=5, components=3, oriented=False, frame=158)
        """
        if data[:2] != b"\xff\xd8":
            return None
        at, oriented = 2, False
        while at + 10 <= len(data) and data[at] == 0xFF:
            code = data[at + 1]
            if code == 0xFF:  # fill bytes may stand before a marker
                at += 1
                continue
            if code in _FRAMES:
                height, width, components = struct.unpack_from(">HHB", data, at + 5)
                return cls(height, width, components, oriented, at)
            oriented |= data[at : at + 2] == _EXIF
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        return None


def decode(data: bytes, name: str, at_least: int = 0) -> np.ndarray:
    """Decode a picture to uint8 RGB (H, W, 3).

    Parameters
    ----------
    data
        The file's bytes.
    name
        What messages call it.
    at_least
        If not 0, a JPEG may come at 1/2, 1/4 or 1/8 of its size, averaged by its own inverse cosine
        transform, as long as its shorter side keeps so many pixels.

    Raises
    ------
    ValueError
        If it is empty, truncated, not readable, or larger than ``MAX_PIXELS``.

    Examples
    --------
    >>> file = cv2.imencode(".jpg", np.full((300, 400, 3), 200, np.uint8))[1].tobytes()
    >>> decode(file, "a.jpg").shape, decode(file, "a.jpg", at_least=70).shape
    ((300, 400, 3), (75, 100, 3))
    """
    if not data:
        raise ValueError(f"{name} is empty; get it again")
    header = JPEGHeader.read(data)
    if header is not None and header.components in (1, 3):
        return _decode_jpeg(data, name, header, at_least)
    if _is_plain_png(data):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if picture is not None:
            return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return np.asarray(decode_picture(io.BytesIO(data), name).convert("RGB"))


def reduction(header: JPEGHeader, at_least: int) -> int:
    """Find the largest of 8, 4, 2 and 1 that leaves the shorter side ``at_least`` pixels."""
    shorter = min(header.height, header.width)
    return next((by for by in (8, 4, 2) if at_least and shorter // by >= at_least), 1)


def _decode_jpeg(data: bytes, name: str, header: JPEGHeader, at_least: int) -> np.ndarray:
    if header.height * header.width > MAX_PIXELS:
        raise ValueError(
            f"{name} has {header.height}x{header.width} pixels, more than {MAX_PIXELS}; "
            "shrink it first"
        )
    # OpenCV fills what is missing with grey and says so on the terminal only. The search begins at
    # the frame, for a thumbnail before it has an end of its own.
    scan = data.rfind(_START_OF_SCAN, header.frame)
    if scan < 0 or data.find(_END, scan) < 0:
        raise ValueError(f"{name} is truncated; get it again")
    flag = _REDUCED[reduction(header, at_least)]
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if picture is None:
        raise ValueError(f"{name} is not a readable picture; check that it opens elsewhere")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _is_plain_png(data: bytes) -> bool:
    """Whether it is a PNG of 8 bits, grey or RGB, with no chunk of transparency."""
    return (
        data[:8] == b"\x89PNG\r\n\x1a\n"
        and data[24:25] == b"\x08"
        and data[25:26] in (b"\x00", b"\x02")
        and b"tRNS" not in data[:1024]
        and b"eXIf" not in data
        and data.rstrip(b"\0").endswith(b"IEND\xaeB`\x82")
    )
