"""Damaged programs of the native operator, for its fuzzer."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence

NUMBERS = [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 1023, 4096]
NUMBERS += [65535, 1 << 20, (1 << 24) - 1, 1 << 24, 1 << 31, 1 << 32, 10**12, 1 << 63]
ODD_NUMBERS = [str(n) for n in NUMBERS] + ["-1", "0.5", "1e9", "1e300", "nan", "inf", "", "0x10"]
NUMBER = re.compile(r"(?<=[=,])[^,\s]*")


def change_number(lines: list[str], source: random.Random, other: Sequence[str]) -> None:
    """Replace a number by another of the program, a neighbour, a multiple or an odd one."""
    i = source.randrange(len(lines))
    found = list(NUMBER.finditer(lines[i]))
    if not found:
        return
    match = source.choice(found)
    text = match.group()
    new = [source.choice(ODD_NUMBERS), text]
    new += NUMBER.findall(source.choice(lines)) or [text]
    if text.isdigit():
        new += [str(int(text) + n) for n in (-32, -4, -1, 1, 4, 32) for _ in range(2)]
        new += [str(int(text) * 2), str(int(text) // 2)]
    lines[i] = lines[i][: match.start()] + source.choice(new) + lines[i][match.end() :]


def change_everywhere(lines: list[str], source: random.Random, other: Sequence[str]) -> None:
    """Replace all words that are the same: what belongs together often stays consistent."""
    words = source.choice(lines).split()[1:]
    if not words:
        return
    old = source.choice(words)
    changed = [old]
    change_number(changed, source, other)
    lines[:] = [" ".join(changed[0] if w == old else w for w in line.split(" ")) for line in lines]


def edit_words(lines: list[str], source: random.Random, other: Sequence[str]) -> None:
    """Drop, repeat, insert or exchange words of a line."""
    i = source.randrange(len(lines))
    words = lines[i].split(" ")
    j = source.randrange(len(words))
    taken = source.choice(source.choice(source.choice([lines, other])).split(" "))
    words[j : j + source.randrange(2)] = source.choice([[], [taken], [words[j]] * 2])
    lines[i] = " ".join(words)


def drop_line(lines: list[str], source: random.Random, other: Sequence[str]) -> None:
    del lines[source.randrange(len(lines))]


def move_line(lines: list[str], source: random.Random, other: Sequence[str]) -> None:
    lines.insert(source.randrange(len(lines)), lines.pop(source.randrange(len(lines))))


def repeat_line(lines: list[str], source: random.Random, other: Sequence[str]) -> None:
    lines.insert(source.randrange(len(lines)), source.choice(lines))


def insert_line(lines: list[str], source: random.Random, other: Sequence[str]) -> None:
    lines.insert(source.randrange(len(lines)), source.choice(other))


def change_kind(lines: list[str], source: random.Random, other: Sequence[str]) -> None:
    """Replace the kind of a line."""
    i = source.randrange(len(lines))
    lines[i] = " ".join([source.choice(other).split(" ")[0], *lines[i].split(" ")[1:]])


def splice(lines: list[str], source: random.Random, other: Sequence[str]) -> None:
    """Go on with another program."""
    lines[source.randrange(len(lines)) :] = other[source.randrange(len(other)) :]


def change_byte(lines: list[str], source: random.Random, other: Sequence[str]) -> None:
    i = source.randrange(len(lines))
    j = source.randrange(len(lines[i]) + 1)
    lines[i] = lines[i][:j] + chr(source.randrange(128)) + lines[i][j + source.randrange(2) :]


# Numbers are changed most: other edits are nearly always refused.
MUTATIONS: list[Callable[[list[str], random.Random, Sequence[str]], None]] = [
    *[change_number] * 8,
    *[change_everywhere] * 4,
    *[edit_words] * 3,
    *(drop_line, move_line, repeat_line, insert_line, change_kind, splice, change_byte),
]


def mutated(programs: Sequence[str], source: random.Random) -> Iterator[str]:
    """Yield the programs, then damaged ones without end; each has one to four mutations."""
    yield from programs
    while True:
        lines = source.choice(programs).splitlines()
        for _ in range(source.choice([1, 1, 1, 2, 3, 4])):
            source.choice(MUTATIONS)(lines, source, source.choice(programs).splitlines())
            if not lines:
                break
        yield "\n".join(lines) + "\n"
