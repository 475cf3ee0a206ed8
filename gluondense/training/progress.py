"""What a run says of itself while it goes on."""

from __future__ import annotations

from collections.abc import Mapping

from tqdm import tqdm

from .config import TrainConfig
from .metrics import Meter


def progress_bar(config: TrainConfig, images: int, epoch: int, batch: int, shown: bool) -> tqdm:
    """Make the bar of an epoch of so many images, which begins at a batch; only on a terminal."""
    if config.drop_last:
        images -= images % config.batch_size
    return tqdm(
        total=images,
        initial=batch * config.batch_size,
        desc=f"epoch {epoch + 1}/{config.epochs}",
        unit=" images",
        leave=False,
        dynamic_ncols=True,
        disable=None if shown else True,  # None: only on a terminal
    )


def step_line(epoch: int, batch: int, meter: Meter, seconds: float, rate: float) -> str:
    """Say how an epoch goes, in the words of GluonCV's scripts, which people's tools read."""
    speed = meter.images / max(seconds, 1e-9)
    return (
        f"Epoch[{epoch}] Batch [{batch}]\tSpeed: {speed:f} samples/sec\t"
        f"accuracy={meter.accuracy:f}\tloss={meter.loss:f}\tlr={rate:f}"
    )


def epoch_line(config: TrainConfig, row: Mapping[str, float], best: bool) -> str:
    """Say how an epoch went, given its row of the log."""
    epoch = round(row["epoch"])
    left = (config.epochs - epoch) * row["epoch_s"]
    return (
        f"epoch {epoch}/{config.epochs}  loss {row['train_loss']:.4f}  "
        f"train {row['train_acc']:.2%}  test {row['test_acc']:.2%}{' (best)' if best else ''}  "
        f"{row['images_per_s']:,.0f} images/s  {left / 60:.0f} min left"
    )
