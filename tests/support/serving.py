"""multi-model-server on this machine, for tests."""

from __future__ import annotations

import contextlib
import shutil

import pytest
from benchmarking.servers import model_server


@contextlib.contextmanager
def serving(store, folder, names, batch_size):
    """Start the server on a store and register archives; skip where it cannot run."""
    pytest.importorskip("mms", reason="the extra `serve` is not installed")
    if not shutil.which("java"):
        pytest.skip("there is no Java")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        with model_server(store, folder) as server:
            for name in names:
                done = server.register(f"{name}.mar", batch_size=batch_size, max_batch_delay=50)
                assert done.status == 200, done.body
            yield server
