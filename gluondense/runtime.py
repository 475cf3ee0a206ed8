# SPDX-License-Identifier: Apache-2.0
"""Run native exports without MXNet: NumPy and the export's own compiled library.

>>> from gluondense import runtime
>>> runtime.load.__doc__.splitlines()[0]
'Verify the files of a native export and load them without MXNet.'
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Callable

import numpy as np

from .deploy.artifact_files import (
    check_exists,
    content_files,
    files_of,
    is_native,
    prefix_of,
    verify_file,
)
from .deploy.metadata import ExportMetadata, read_metadata
from .deploy.native.network import NativeNetwork


class Network:
    """A native export; made by :func:`load`.

    Attributes
    ----------
    metadata
        The :class:`gluondense.deploy.ExportMetadata`.
    """

    takes_arrays = True  # and returns them: no NDArrays

    def __init__(self, graph: NativeNetwork, metadata: ExportMetadata) -> None:
        self.metadata = metadata
        self._graph = graph

    def __call__(self, images: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Return what the export returns for a batch in MXNet, a tuple for several outputs.

        Outputs of the network have the same bits; the softmax or sigmoid of
        ``output="probabilities"`` may differ by rounding.

        Parameters
        ----------
        images
            The normalized input, float32 (N, C, H, W); with ``metadata.preprocess`` pixels from 0
            to 255, (N, H, W, C).

        Raises
        ------
        ValueError
            If the network does not accept images of this shape.
        """
        outputs = self._graph(images)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def load(path: str | os.PathLike[str]) -> Network:
    """Verify the files of a native export and load them without MXNet.

    Parameters
    ----------
    path
        The prefix that was passed to :func:`gluondense.export` with a native target, or any of the
        files. Its library is executed, after it was compared with the checksum in the metadata: it
        runs on the kind of machine on which it was exported.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing; if one is damaged, has another format, or needs MXNet.

    Examples
    --------
    >>> import gluondense, numpy as np, tempfile
    >>> net = gluondense.get_model("densenet_tutorial")
    >>> net.initialize()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = gluondense.export(net, f"{folder}/net", (1, 1, 96, 96), target="native")
    ...     network = load(files.prefix)
    >>> network(np.zeros((2, 1, 96, 96), np.float32)).shape
    (2, 10)
    """
    prefix = prefix_of(path)
    described = Path(f"{prefix}.json")
    check_exists(prefix, described)
    metadata = read_metadata(described)
    if not is_native(metadata.target):
        raise ValueError(
            f"{prefix} is an export to {metadata.target}, which needs "
            f"{'ONNX Runtime' if metadata.target.startswith('onnx') else 'MXNet'}: "
            "export with `target` native."
        )
    files = files_of(metadata.target, prefix)
    contents = content_files(files, metadata.target)
    params = contents.pop("params")
    for name, file in contents.items():
        verify_file(prefix, file, metadata.sha256.get(name))
    # The library refuses damaged parameters or computes with them, so it may read them meanwhile.
    with _meanwhile(partial(verify_file, prefix, params, metadata.sha256.get("params"))):
        graph = NativeNetwork(prefix, dataclasses.asdict(metadata))
    return Network(graph, metadata)


@contextmanager
def _meanwhile(function: Callable[[], None]) -> Iterator[None]:
    """Call a function in another thread during the block; its exception is raised first."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        if failures:
            raise failures[0] from None


def is_trusted(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is that of a native export whose library this machine has compiled.

    Such a library may be executed without asking; another one may be anybody's program.
    """
    from .download.file import cache_folder

    try:
        digest = read_metadata(Path(f"{prefix_of(path)}.json")).sha256.get("library")
        own = [file.read_text().split() for file in cache_folder("native").glob("*.sha256")]
    except (OSError, ValueError):
        return False
    return digest is not None and any(words[:1] == [digest] for words in own)
