"""A reader of files under test, and what it may do with damaged files."""

from __future__ import annotations

import os
import shutil
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzz.mutation import Files
from PIL import Image

# A damaged file is refused with exactly one of these, not with a subclass of another module.
ERRORS = (
    ValueError,
    OSError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    FileExistsError,
)
LONGEST_MESSAGE = 1000


def as_they_are(files: Files) -> Files:
    return files


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Parameters
    ----------
    name
        What it reads.
    seeds
        Makes valid files in an empty folder; returns a list of their contents by name.
    read
        Reads the files in a folder.
    damaged
        Pattern of the names of the files to damage.
    pack
        Makes the files of a seed's damaged ones: puts them into an archive, corrects checksums.
    memory
        MiB that reading may need.
    """

    name: str
    seeds: Callable[[Path], Sequence[Files]]
    read: Callable[[Path], object]
    damaged: str = "*"
    pack: Callable[[Files], Files] = as_they_are
    memory: int = 512


@dataclass(frozen=True)
class Defect:
    """What a reader did wrong: where, and the traceback or how its process ended."""

    place: str
    details: str


def write(folder: Path, files: Files) -> None:
    """Write files, and remove what else is in the folder."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry)
        elif entry.name not in files:
            os.unlink(entry)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def try_reading(reader: Reader, folder: Path, files: Files) -> Defect | bool:
    """Read the files in a folder; return whether they were accepted, or what went wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # NumPy's RuntimeWarning tells of a number that became another one.
            warnings.simplefilter("error", RuntimeWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # a RuntimeWarning
            reader.read(folder)
    except ERRORS as error:
        problem = _problem(error, folder, files)
        return _defect(error, problem) if problem else False
    except Exception as error:
        return _defect(error, "not a documented error")
    return True


def _problem(error: Exception, folder: Path, files: Files) -> str:
    message = str(error)
    if type(error) not in ERRORS:
        return "not a documented error"
    if len(message.splitlines()) > 1 or any(unicodedata.category(c) == "Cc" for c in message):
        return "a message of several lines or with control characters"
    if len(message) > LONGEST_MESSAGE + 2 * len(str(folder)):
        return f"a message of {len(message)} characters"
    if str(folder) not in message and not any(name in message for name in files):
        return "a message that does not name the file"
    return ""


def _defect(error: Exception, problem: str) -> Defect:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/gluondense/" in frame.filename] or frames
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {type(error).__name__}: {problem}"
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return Defect(place, text[-3000:])
