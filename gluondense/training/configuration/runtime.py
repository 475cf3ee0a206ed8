# SPDX-License-Identifier: Apache-2.0
"""The section of a configuration about devices, precision and workers; imports no NumPy."""

from __future__ import annotations

from dataclasses import dataclass

from .rules import INDICES
from .settings import Section, choice, count, number, setting, switch

DTYPES = ("float32", "float16", "bfloat16")
# MXNet accepts any other name too, "horovod" and misspellings included, and then trains alone.
KVSTORES = ("local", "device", "dist_sync", "dist_sync_device", "dist_async")


@dataclass(frozen=True)
class RuntimeConfig(Section):
    """Devices, precision, workers, random seed, checkpoints and log."""

    seed: int = setting(0, "seed of every random stream, together with the epoch", count(0))
    gpus: tuple[int, ...] = setting((), "GPU numbers; none trains on the CPU", INDICES)
    dtype: str = setting(
        "float32",
        "dtype of training: float16 on GPUs; bfloat16 on CPUs, in the dense stages of the native "
        "operator; parameters stay in float32",
        choice(*DTYPES),
    )
    accumulate: int = setting(
        1,
        "parts of each device's batch, one after the other, whose gradients are added: saves "
        "memory; batch normalization sees each part alone",
        count(),
    )
    sync_bn: bool = setting(
        False, "batch statistics over all devices of the process together", switch()
    )
    kvstore: str = setting(
        "device",
        "MXNet's key-value store that adds up gradients; dist_… needs gluondense launch",
        choice(*KVSTORES),
    )
    compression: float = setting(
        0.0,
        "threshold of the 2-bit gradients that workers send; 0 sends them uncompressed",
        number(),
    )
    save_steps: int = setting(
        0, "steps between checkpoints within an epoch; 0 is every five minutes", count(0)
    )
    keep_checkpoints: int = setting(
        1, "checkpoints to keep besides the best one", count(), flags=("--keep",)
    )
    log_interval: int = setting(0, "steps between log lines; 0 logs epochs only", count(0))
    tensorboard: bool = setting(False, "write TensorBoard event files to OUT/events", switch())

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compression and not self.distributed:
            raise ValueError(
                f"compression (={self.compression}) is for gradients between workers: it needs "
                f"`kvstore` dist_sync, dist_sync_device or dist_async, not {self.kvstore!r}."
            )
        if self.dtype == "float16" and (self.compression or self.kvstore == "dist_async"):
            raise ValueError(
                "dtype float16 changes the scale of its gradients during training, which "
                "`compression` and dist_async don't support: use dist_sync alone, or bfloat16."
            )

    @property
    def distributed(self) -> bool:
        """Whether several processes train together."""
        return self.kvstore.startswith("dist")
