"""Damage valid files: bits, numbers, lines, JSON values, and the content of containers."""

from __future__ import annotations

import fnmatch
import gzip
import json
import re
import struct
import zlib
from collections.abc import Sequence
from random import Random
from typing import Any

Files = dict[str, bytes]  # content by name

LARGEST = 1 << 20  # bytes of a damaged file
NUMBERS = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 64, 127, 128, 255, 256, 4095, 65535, 1 << 16]
NUMBERS += [(1 << bits) + more for bits in (20, 24, 31, 32, 48, 63) for more in (-1, 0, 1)]
VALUES: list[Any] = [
    None,
    True,
    False,
    "",
    "x",
    "é\n",
    "\0",
    "\ud800",
    "a" * 999,
    "../x",
    "/dev/zero",
]
VALUES += [[], {}, [[]], [None], {"x": 1}, 0.5, -1, -0.0, float("nan"), float("inf"), 10**400]
VALUES += NUMBERS
TOKENS = ["", "-1", "1.5", "nan", "inf", "-inf", "1e9", "1e400", "9" * 20, "9" * 5000, "²", "٣"]
TOKENS += [".", "..", "/", "é", "\ufeff", "\0", "\r", "\n", "\t", '"', "'", ",", "|", "#", " "]
TOKENS += ["x" * 200_000, "a/b", "../../x", *map(str, NUMBERS)]
TOKEN = re.compile(rb"[\w.+-]+|[^\w]")


def mutated(
    rng: Random, seeds: Sequence[Files], pattern: str = "*", start: Files | None = None
) -> Files:
    """Return files, by default one of the seeds, with one to six edits.

    Only files whose names match the pattern are edited; the seeds are what parts are taken from.
    """
    files = dict(start or rng.choice(seeds))
    names = sorted(fnmatch.filter(files, pattern))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        name = rng.choice(names)
        other = rng.choice(seeds).get(name, files[name])
        files[name] = damaged(rng, files[name], other)[:LARGEST]
    return files


def damaged(rng: Random, content: bytes, other: bytes) -> bytes:
    """Return content with one edit; ``other`` is content of the same kind to take parts of."""
    edits = [edit for recognize, edit in KINDS if recognize(content)]
    edit = rng.choice([*edits, *edits, change_bytes])
    return edit(rng, content, other)


# Bytes


def change_bytes(rng: Random, content: bytes, other: bytes) -> bytes:
    """Change bits, bytes or numbers; remove, insert, repeat or move a part; truncate; splice."""
    data = bytearray(content)
    at = rng.randrange(len(data) + 1)
    to = min(len(data), at + int(2 ** rng.uniform(0, 10)))
    kind = rng.randrange(10)
    if kind < 2 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 2 and at < len(data):
        data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    elif kind < 6:
        change_number(rng, data, at)
    elif kind == 6:
        data[at:to] = rng.choice((b"", bytes(to - at), rng.randbytes(to - at)))
    elif kind == 7:
        data[at:at] = rng.choice((data[at:to], rng.randbytes(to - at), other[at:to]))
    elif kind == 8:
        del data[at:]
    else:
        data[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data)


def change_number(rng: Random, data: bytearray, at: int) -> None:
    """Overwrite a number of 1 to 8 bytes by an odd one, a neighbor or a multiple."""
    size = rng.choice((1, 2, 4, 8))
    if at + size > len(data):
        return
    order = rng.choice(("little", "big"))
    old = int.from_bytes(data[at : at + size], order)
    new = rng.choice((old + 1, old - 1, old * 2, old // 2, -old, rng.choice(NUMBERS)))
    data[at : at + size] = (new % (1 << 8 * size)).to_bytes(size, order)


# Text


def is_text(content: bytes) -> bool:
    return content.isascii() and b"\0" not in content[:1000]


def change_text(rng: Random, content: bytes, other: bytes) -> bytes:
    """Replace a token, or remove, repeat, exchange or take lines."""
    lines = content.splitlines(keepends=True) or [b""]
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(8)
    if kind < 4:
        tokens = TOKEN.findall(lines[i]) or [b""]
        token = rng.choice([*map(str.encode, TOKENS), b"\x80\xff", rng.choice(tokens)])
        tokens[rng.randrange(len(tokens))] = token
        lines[i] = b"".join(tokens)
    elif kind == 4:
        del lines[i]
    elif kind == 5:
        lines[i:i] = [lines[j]] * rng.choice((1, 2, 300))
    elif kind == 6:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines[i] = rng.choice(other.splitlines(keepends=True) or [b""])
    return b"".join(lines)


# JSON


def is_json(content: bytes) -> bool:
    return content[:1] in (b"{", b"[")


def change_json(rng: Random, content: bytes, other: bytes) -> bytes:
    """Replace, remove, rename, repeat or nest a value."""
    try:
        root = [json.loads(content)]
    except (ValueError, RecursionError):
        return change_text(rng, content, other)
    places: list[tuple[Any, Any]] = []
    pending: list[Any] = [root]
    while pending:
        node = pending.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        places += [(node, key) for key in keys]
        pending += [node[key] for key in keys if isinstance(node[key], (dict, list))]
    node, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[rng.choice(("x", "", "\0", "model", f"{key}s"))] = node.pop(key)
    elif kind == 2 and isinstance(node, list):
        node[key:key] = [node[key]] * rng.choice((1, 40))
    elif kind == 3:
        giver, place = rng.choice(places)
        node[key] = json.loads(json.dumps(giver[place]))
    elif kind == 4 and rng.random() < 0.1:
        node[key] = "\0nested"
    else:
        node[key] = rng.choice(VALUES)
    text = json.dumps(root[0] if root else None)
    depth = rng.choice((10, 2000, 100_000))
    return text.replace('"\\u0000nested"', "[" * depth + "]" * depth).encode()


# Containers


def change_gzip(rng: Random, content: bytes, other: bytes) -> bytes:
    """Change the content of a gzip stream."""
    try:
        inside, taken = gzip.decompress(content), gzip.decompress(other)
    except (OSError, EOFError, zlib.error):
        return change_bytes(rng, content, other)
    return gzip.compress(damaged(rng, inside, taken), 1, mtime=0)


def is_tar(content: bytes) -> bool:
    return content[257:262] == b"ustar"


def change_tar(rng: Random, content: bytes, other: bytes) -> bytes:
    """Change a tar archive, mostly in a header, and correct the checksums of its headers."""
    data = bytearray(content)
    headers = [at for at in range(0, len(data), 512) if is_tar(data[at : at + 512])]
    at = rng.choice(headers)
    changed = bytes(data[at : at + 512])
    if rng.random() < 0.3:
        changed = changed[:156] + bytes([rng.choice(b"012345678xgLKSD\0")]) + changed[157:]
    else:
        changed = change_bytes(rng, changed, other[:512]).ljust(512, b"\0")[:512]
    data[at : at + 512] = changed[:148] + b" " * 8 + changed[156:]
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


def is_png(content: bytes) -> bool:
    return content.startswith(b"\x89PNG")


def change_png(rng: Random, content: bytes, other: bytes) -> bytes:
    """Change a chunk of a PNG file and correct its checksum."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, at)
        chunks.append(content[at + 4 : at + 8 + size])
        at += 12 + size
    if chunks:
        i = rng.randrange(len(chunks))
        chunks[i] = change_bytes(rng, chunks[i], other)
    parts = [struct.pack(">I", max(0, len(chunk) - 4)) + chunk for chunk in chunks]
    sums = [struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return content[:8] + b"".join(part + checksum for part, checksum in zip(parts, sums))


def is_safetensors(content: bytes) -> bool:
    return content[8:9] == b"{"


def change_safetensors(rng: Random, content: bytes, other: bytes) -> bytes:
    """Change the header of a safetensors file and correct its size."""
    (size,) = struct.unpack_from("<Q", content)
    header = change_json(rng, content[8 : 8 + size], other[8:])
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


KINDS = (
    (lambda content: content.startswith(b"\x1f\x8b"), change_gzip),
    (is_tar, change_tar),
    (is_png, change_png),
    (is_safetensors, change_safetensors),
    (is_json, change_json),
    (is_text, change_text),
)
