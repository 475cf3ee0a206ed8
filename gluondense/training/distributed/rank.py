# SPDX-License-Identifier: Apache-2.0
"""The rank of this process, from the environment variables that the launcher sets."""

from __future__ import annotations

import os

PEER_LOST_EXIT = 75  # exit code of a worker that stops because a peer has gone: EX_TEMPFAIL
# ps-lite, inside MXNet, listens on PORT and takes its rank from DMLC_RANK, which container
# platforms export for other reasons.
MISREAD_BY_PS_LITE = ("PORT", "DMLC_RANK")


def is_rank_zero() -> bool:
    """Whether this process reports to the user: rank 0, or the only process.

    Examples
    --------
    >>> is_rank_zero()
    True
    """
    return os.environ.get("GLUONDENSE_WORKER", "0") == "0"


def launched_world_size() -> int:
    """Return the number of workers that the launcher started, 1 without a launcher.

    Examples
    --------
    >>> launched_world_size()
    1
    """
    return int(os.environ.get("DMLC_NUM_WORKER", "1"))
