# SPDX-License-Identifier: Apache-2.0
"""Loads a file of weights once: ``python load_weights.py torch|gluondense FILE MODEL``.

Before, the file is read into the page cache, all is imported and the network is built. It prints
the time in ms, and the peak of the added memory over the file's size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch_peer  # type: ignore[import-not-found]  # in this folder
from infer import memory_mb, timed  # type: ignore[import-not-found]


def _loading(library: str, path: Path, model: str) -> Callable[[], object]:
    if library == "torch":
        import torch

        peer = torch_peer.build(model)
        return lambda: peer.load_state_dict(torch.load(path))

    from gluondense import get_model, load_weights

    net = get_model(model)
    return lambda: load_weights(net, path)


def main(library: str, file: str, model: str) -> None:
    """Load the file and print both numbers."""
    run, path = _loading(library, Path(file), model), Path(file)
    megabytes = len(path.read_bytes()) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak of VmRSS
    before = memory_mb("VmRSS")
    (seconds,) = timed(run, 1)
    print(1e3 * seconds, (memory_mb("VmHWM") - before) / megabytes)


if __name__ == "__main__":
    main(*sys.argv[1:])
