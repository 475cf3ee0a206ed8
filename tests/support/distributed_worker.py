"""The worker of the distributed tests: a tiny run that records the loss of each step."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from gluondense.training import TrainConfig, fit
from gluondense.training.distributed.rank import is_rank_zero
from gluondense.training.state import Meter
from support.training_tiny import TINY

# Without dropout, whose masks differ between devices.
STEADY = TINY.with_fields(
    model_args={**TINY.model.args, "dropout": 0.0},
    schedule="cosine",
    warmup_epochs=1,
    no_decay_bn=True,
    epochs=10,
)


@contextmanager
def recorded_losses():
    """Yield a list that receives the mean loss of each step over all workers."""
    losses: list[float] = []
    before = Meter._read

    def read(self):
        loss, images = self.sums["loss_sum"], self.images
        before(self)
        losses.append((self.sums["loss_sum"] - loss) / (self.images - images))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Meter, "_read", read)
        yield losses


def train(config: TrainConfig, out: Path) -> list[float]:
    """Train, and return the loss of each step."""
    with recorded_losses() as losses:
        fit(config, out, progress=False)
    return losses


def main(out: str, changes: str) -> None:
    config = STEADY.with_fields(**json.loads(changes))
    losses = train(config, Path(out))
    if is_rank_zero():
        (Path(out) / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(*sys.argv[1:])
