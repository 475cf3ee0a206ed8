"""One training run in progress: network, trainer and data, and where it stands."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from tqdm import tqdm

from ..data import ArrayLoader, ImageArrays
from ..models import build_model
from . import checkpoint
from .config import TrainConfig
from .devices import find_devices
from .evaluate import evaluate
from .metrics import Meter
from .report import write_report
from .runfolder import RunFolder
from .schedule import make_schedule
from .seeds import seed_all
from .signals import Stopped, StopRequest
from .targets import mixup, soft_labels

SAVE_SECONDS = 300.0  # a crash within a long epoch loses at most so much work


@dataclass
class Position:
    """Where a run stands within its epoch, and what it took; saved with each checkpoint."""

    batch: int = 0
    loss_sum: float = 0.0
    hits: float = 0.0
    images: int = 0
    train_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0


class Run:
    """The state that training changes, and the steps that change it.

    Parameters
    ----------
    config
        What to do.
    folder
        Where results go.
    data
        The data set's arrays.

    Raises
    ------
    ValueError
        If a device isn't there, or the model, the data and the configuration don't fit each other.
    """

    def __init__(self, config: TrainConfig, folder: RunFolder, data: ImageArrays) -> None:
        self.config, self.folder, self.data = config, folder, data
        self.devices = find_devices(config.gpus)
        self.net = build_model(
            config.model,
            classes=len(data.info.class_names),
            in_channels=data.info.in_channels,
            **config.model_args,
        )
        self.image_size = _image_size(config, data.info.image_size, self.net)
        channels = data.info.in_channels
        self.mean = data.info.mean if config.normalize else (0.0,) * channels
        self.std = data.info.std if config.normalize else (1.0,) * channels
        _check_ragged(config, len(data.train_labels))
        self.train_loader = self._loader(train=True)
        self.test_loader = self._loader(train=False)
        self.schedule = make_schedule(config, len(self.train_loader))
        seed_all(config.seed)
        self.net.initialize(mx.init.Xavier() if config.init == "xavier" else None, ctx=self.devices)
        self.trainer = _trainer(self.net, config)
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
        self.epoch = 0
        self.at = Position()
        self.log: list[dict[str, float]] = []
        self._clock = time.perf_counter(), time.process_time()

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.epoch * len(self.train_loader) + self.at.batch

    def restore(self) -> None:
        """Take over the folder's last checkpoint, if the run came as far as one.

        Raises
        ------
        ValueError
            If it is damaged or of another model.
        """
        if checkpoint.find(self.folder.last) is None:
            return
        saved = checkpoint.load(self.folder.last)
        checkpoint.check_same_model(saved, self.net)
        if saved.progress["batch"] and saved.config["batch_size"] != self.config.batch_size:
            raise ValueError(
                f"`batch_size` can't change from {saved.config['batch_size']} to "
                f"{self.config.batch_size} within an epoch: resume with the old one."
            )
        saved.load_parameters(self.net, self.devices)
        saved.load_states(self.trainer)
        self.epoch, self.at = saved.epoch, Position(**saved.progress)

    def train_epoch(self, stop: StopRequest, progress: bool) -> bool:
        """Train to the end of the epoch (then True), or to where a signal came (then False)."""
        meter = Meter(self.at.loss_sum, self.at.hits, self.at.images)
        seed_all(self.config.seed, self.epoch, self.at.batch)
        self._tick()
        saved_at = time.perf_counter()
        with self._bar(progress) as bar:
            for images, labels in self.train_loader.batches(self.epoch, start=self.at.batch):
                self._train_step(meter, images, labels)
                if meter.images:
                    bar.set_postfix_str(f"loss {meter.loss:.3f}, acc {meter.accuracy:.3f}", False)
                bar.update(len(labels))
                if stop.signum is not None:
                    break
                if time.perf_counter() - saved_at > SAVE_SECONDS:
                    self._note(meter)
                    self._save(self.folder.last)
                    saved_at = time.perf_counter()
        self._note(meter)
        if stop.signum is not None:
            self._save(self.folder.last)
        return stop.signum is None

    def finish_epoch(self, stop: StopRequest) -> None:
        """Evaluate, log and save; if a signal comes meanwhile, save the training without these."""
        began = time.perf_counter()
        try:
            batches = stop.watch(self.test_loader)
            answers = evaluate(self.net, batches, self.config.batch_size, self.devices)
        except Stopped:
            self._save(self.folder.last)
            return
        if not np.isfinite(answers.loss):
            raise FloatingPointError(
                f"The loss on the test set became {answers.loss} after step {self.step}: "
                "lower the learning rate or lengthen the warm-up."
            )
        self._tick()
        row = self._row(answers.accuracy, answers.loss, time.perf_counter() - began)
        best = all(row["test_acc"] > earlier["test_acc"] for earlier in self.log)
        self.epoch += 1
        self.at = Position(wall_s=self.at.wall_s, cpu_s=self.at.cpu_s)
        self.log.append(row)
        self.folder.append(row)
        if best:
            self._save(self.folder.best)
            self.folder.save_answers(answers, self.epoch, self.data.test_images)
        self._save(self.folder.last)
        print(self._line(row, best), flush=True)

    def write_report(self) -> None:
        """Write the report, once there is an epoch to report on."""
        if self.log:
            write_report(self.folder.path)

    def _train_step(self, meter: Meter, images: np.ndarray, labels: np.ndarray) -> None:
        config = self.config
        targets = soft_labels(labels, len(self.data.info.class_names), config.label_smoothing)
        if config.mixup:
            rng = np.random.default_rng([config.seed, self.epoch, self.at.batch])
            images, targets = mixup(images, targets, config.mixup, rng)
        xs = gluon.utils.split_and_load(images, self.devices, even_split=False)
        ys = gluon.utils.split_and_load(targets, self.devices, even_split=False)
        with autograd.record():
            logits = [self.net(x) for x in xs]
            losses = [self.loss(score, y) for score, y in zip(logits, ys)]
        autograd.backward(losses)
        self.trainer.set_learning_rate(self.schedule(self.step))
        self.trainer.step(len(labels))
        self.at.batch += 1
        meter.add(self.step, losses, logits, ys)

    def _note(self, meter: Meter) -> None:
        meter.sync()
        self.at.loss_sum, self.at.hits, self.at.images = meter.loss_sum, meter.hits, meter.images
        self.at.train_s += self._tick()

    def _tick(self) -> float:
        """Add the time since the last tick to the totals, and return it."""
        before, self._clock = self._clock, (time.perf_counter(), time.process_time())
        self.at.wall_s += self._clock[0] - before[0]
        self.at.cpu_s += self._clock[1] - before[1]
        return self._clock[0] - before[0]

    def _row(self, accuracy: float, loss: float, evaluate_s: float) -> dict[str, float]:
        at = self.at
        return {
            "epoch": self.epoch + 1,
            "step": self.step,
            "lr": self.trainer.learning_rate,
            "train_loss": at.loss_sum / at.images,
            "train_acc": at.hits / at.images,
            "test_acc": accuracy,
            "test_loss": loss,
            "images_per_s": at.images / at.train_s,
            "epoch_s": at.train_s + evaluate_s,
            "wall_s": at.wall_s,
            "cpu_s": at.cpu_s,
        }

    def _save(self, place: Path) -> None:
        info = self.data.info
        facts = {
            "class_names": info.class_names,
            "mean": self.mean,
            "std": self.std,
            "input_shape": (1, info.in_channels, *self.image_size),
            "config": self.config.to_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "progress": asdict(self.at),
            "metrics": self.log[-1] if self.log else {},
        }
        checkpoint.save(place, self.net, self.trainer, facts)

    def _loader(self, train: bool) -> ArrayLoader:
        config, data = self.config, self.data
        return ArrayLoader(
            data.train_images if train else data.test_images,
            data.train_labels if train else data.test_labels,
            config.batch_size,
            shuffle=train,
            augment=config.augment if train else (),
            resize=config.resize,
            mean=self.mean,
            std=self.std,
            seed=config.seed,
            last="discard" if train and config.drop_last else "keep",
        )

    def _bar(self, progress: bool) -> tqdm:
        count = len(self.data.train_labels)
        if self.config.drop_last:
            count -= count % self.config.batch_size
        return tqdm(
            total=count,
            initial=self.at.batch * self.config.batch_size,
            desc=f"epoch {self.epoch + 1}/{self.config.epochs}",
            unit=" images",
            leave=False,
            dynamic_ncols=True,
            disable=None if progress else True,  # None: only on a terminal
        )

    def _line(self, row: dict[str, float], best: bool) -> str:
        left = (self.config.epochs - self.epoch) * row["epoch_s"]
        return (
            f"epoch {self.epoch}/{self.config.epochs}  loss {row['train_loss']:.4f}  "
            f"train {row['train_acc']:.2%}  test {row['test_acc']:.2%}{' (best)' if best else ''}  "
            f"{row['images_per_s']:,.0f} images/s  {left / 60:.0f} min left"
        )


def _trainer(net: gluon.HybridBlock, config: TrainConfig) -> gluon.Trainer:
    parameters = net.collect_params()
    if config.no_decay_bn:
        for parameter in net.collect_params(".*(gamma|beta|bias)$").values():
            parameter.wd_mult = 0.0
    settings = {"learning_rate": config.lr, "momentum": config.momentum, "wd": config.wd}
    # Updates stay in this process, so that the learning rate and the states are in our hands.
    trainer = gluon.Trainer(parameters, config.optimizer, settings, update_on_kvstore=False)
    # This starts the key-value store. Else the first step on several devices starts it, after
    # its forward pass, and its broadcast undoes the first update of BatchNorm's running statistics.
    trainer.save_states(os.devnull)
    return trainer


def _image_size(config: TrainConfig, native: tuple[int, int], net: gluon.Block) -> tuple[int, int]:
    size = native if config.resize is None else (config.resize, config.resize)
    if min(size) < net.min_size:
        raise ValueError(
            f"Images of {size[0]}x{size[1]} are too small for {config.model}, which needs "
            f"{net.min_size}x{net.min_size}: pass --resize {net.min_size} or more."
        )
    return size


def _check_ragged(config: TrainConfig, images: int) -> None:
    rest = images % config.batch_size
    if not config.drop_last and 0 < rest < len(config.gpus):
        raise ValueError(
            f"`batch_size` (={config.batch_size}) leaves {rest} of {images} images for the last "
            f"step, too few for {len(config.gpus)} GPUs: choose another one."
        )
