"""One training run in progress: network, trainer and data, and where it stands."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..analysis.predictions import Predictions, evaluate
from ..models import build_model
from ..native import CompilerError
from . import checkpoint
from .config import TrainConfig
from .data import Data, make_loader, mean_and_std, test_batch
from .devices import find_devices
from .distill import Lesson
from .distributed.workers import Workers
from .ema import MovingAverage
from .events import Events
from .labels import mix, soft_labels
from .metrics import Meter
from .precision import LossScale, check_dtype
from .progress import epoch_line, progress_bar, step_line
from .report import write_report
from .run_folder import RunFolder
from .schedule import make_schedule
from .seeds import seed_all
from .signals import Stopped, StopRequest
from .step import TrainStep

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
    loss_scale: float = 0.0  # of float16, and the steps since it changed
    good_steps: int = 0


class Run:
    """The state that training changes, and the steps that change it.

    Parameters
    ----------
    config
        What to do.
    folder
        Where results go.
    data
        The data set.
    workers
        Who trains together; by default this process alone.

    Raises
    ------
    ValueError
        If a device isn't there, or the model, the data and the configuration don't fit each other.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        data: Data,
        workers: Optional[Workers] = None,
    ) -> None:
        self.config, self.folder, self.data = config, folder, data
        self.workers = workers or Workers(config.kvstore)
        self.devices = find_devices(config.gpus)
        self.net = build_model(
            config.model,
            classes=len(data.info.class_names),
            in_channels=data.info.in_channels,
            memory_efficient=config.memory_efficient,
            **config.model_args,
        )
        _check_size(config, self.net)
        self.mean, self.std = mean_and_std(config, data)
        _check_ragged(config, data.train_count, self.workers.world_size)
        self.train_loader = make_loader(config, data, True, self.workers)
        self.test_loader = make_loader(config, data, False, self.workers)
        if config.native and not config.gpus:
            _train_natively(self.net)
        self.schedule = make_schedule(config, len(self.train_loader))
        seed_all(config.seed)
        self.net.initialize(mx.init.Xavier() if config.init == "xavier" else None, ctx=self.devices)
        self.trainer = _trainer(self.net, config, self.workers)
        self.lesson = Lesson(config, self.devices, len(data.info.class_names))
        check_dtype(config.dtype, self.devices)
        self.train_step = TrainStep(
            self.net, self.lesson.loss, config.accumulate, config.dtype, config.sync_bn
        )
        self.scale = LossScale() if config.dtype == "float16" else None
        self.average = MovingAverage(self.net, config.ema) if config.ema else None
        self.events = Events(None)
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
        saved = checkpoint.load_newest(self.folder.last)
        checkpoint.check_same_model(saved, self.net)
        if saved.progress["batch"] and saved.config["batch_size"] != self.config.batch_size:
            raise ValueError(
                f"`batch_size` can't change from {saved.config['batch_size']} to "
                f"{self.config.batch_size} within an epoch: resume with the old one."
            )
        saved.load_parameters(self.net, self.devices)
        saved.load_states(self.trainer)
        if self.average is not None and (saved.folder / checkpoint.AVERAGE).is_file():
            self.average.load(saved.folder / checkpoint.AVERAGE)
        self.epoch, self.at = saved.epoch, Position(**saved.progress)
        if self.scale and self.at.loss_scale:
            self.scale = LossScale(self.at.loss_scale, self.at.good_steps)

    def start(self) -> None:
        """Begin where the run stands, with all workers at the same place; write the folder."""
        self.workers.init_kvstore(self.trainer, self.schedule, self.step)
        if self.workers.is_rank_zero:
            self.folder.start(self.config)
            self.log = self.folder.keep_rows(self.epoch)
            if self.config.tensorboard:
                self.events = Events(self.folder.events, self.step)
        self.log = self.workers.all_gather(self.log)[0]

    def stops(self, stop: StopRequest) -> bool:
        """Whether a signal came to any worker."""
        return self.workers.any(stop.signum is not None)[0]

    def train_epoch(self, stop: StopRequest, progress: bool) -> bool:
        """Train to the end of the epoch (then True), or to where a signal came (then False)."""
        workers = self.workers
        meter = Meter(self.at.loss_sum, self.at.hits, self.at.images, total=workers.all_reduce)
        stopped = False
        self._tick()
        saved_at = time.perf_counter()
        with progress_bar(
            self.config,
            self.data.train_count,
            self.epoch,
            self.at.batch,
            progress and workers.is_rank_zero,
        ) as bar:
            for images, labels in self.train_loader.batches(self.epoch, start=self.at.batch):
                self._train_step(meter, images, labels)
                self._report_step(meter)
                if meter.images:
                    bar.set_postfix_str(f"loss {meter.loss:.3f}, acc {meter.accuracy:.3f}", False)
                bar.update(self.train_loader.count(self.at.batch - 1))
                due = workers.is_rank_zero and self._due(saved_at)
                stopped, due = workers.any(stop.signum is not None, due)
                if stopped:
                    break
                if due:
                    self._note(meter)
                    self._save(self.folder.last)
                    saved_at = time.perf_counter()
        self._note(meter)
        if stopped:
            self._save(self.folder.last)
        return not stopped

    def finish_epoch(self, stop: StopRequest) -> None:
        """Evaluate, log and save; if a signal comes meanwhile, save the training without these."""
        began = time.perf_counter()
        answers = self._evaluate(stop)
        if answers is None:
            self._save(self.folder.last)
            return
        if not np.isfinite(answers.loss):
            raise FloatingPointError(
                f"The loss on the test set became {answers.loss} after step {self.step}: "
                "lower the learning rate or lengthen the warm-up."
            )
        self._tick()
        row = self._row(answers, time.perf_counter() - began)
        best = all(row["test_acc"] > earlier["test_acc"] for earlier in self.log)
        self.epoch += 1
        self.at = Position(wall_s=self.at.wall_s, cpu_s=self.at.cpu_s)
        self.log.append(row)
        if self.workers.is_rank_zero:
            self.folder.append(row)
            if best:
                self._write(self.folder.best)
                self.folder.save_predictions(answers, self.epoch, self._pictures)
            self._write(self.folder.last)
            self.events.add(self.step, {f"epoch/{name}": value for name, value in row.items()})
            print(epoch_line(self.config, row, best), flush=True)

    def write_report(self) -> None:
        """Write the report, once there is an epoch to report on."""
        self.events.close()
        if self.log and self.workers.is_rank_zero:
            write_report(self.folder.path)

    def _evaluate(self, stop: StopRequest) -> Optional[Predictions]:
        """Return the answers to the test set, of which each worker asks a part; None if stopped."""
        self.workers.synchronize(self.net, self.trainer)
        mine = None
        try:
            batches = stop.watch(self.test_loader)
            with self.average.in_place() if self.average is not None else nullcontext():
                size = test_batch(self.config, self.workers)
                mine = evaluate(self.net, batches, size, self.devices)
        except Stopped:
            pass
        if self.workers.any(mine is None)[0] or mine is None:
            return None
        return Predictions(*map(self.workers.all_gather_rows, mine.arrays))

    def _train_step(self, meter: Meter, images: np.ndarray, labels: np.ndarray) -> None:
        config = self.config
        self._seed_step()
        targets = soft_labels(labels, len(self.data.info.class_names), config.label_smoothing)
        if self.epoch < config.epochs - config.mix_off_epochs:
            key = [config.seed, self.epoch, self.at.batch, *self.workers.rng_key]
            alphas = config.mixup, config.cutmix
            images, targets = mix(images, targets, alphas, np.random.default_rng(key))
        xs = gluon.utils.split_and_load(images, self.devices, even_split=False)
        ys = gluon.utils.split_and_load(targets, self.devices, even_split=False)
        scale = self.scale.value if self.scale else 1.0
        losses, logits = self.train_step(xs, self.lesson.targets(xs, ys), scale)
        self.trainer.set_learning_rate(self.schedule(self.step))
        images_of_all = self.train_loader.count(self.at.batch)
        size = self.workers.step_batch_size(images_of_all)
        if self.scale:
            self.scale.step(self.trainer, size, lambda overflow: self.workers.any(overflow)[0])
        else:
            self.trainer.step(size)
        if self.average is not None:
            # MXNet lets others read BatchNorm's running statistics before they are updated.
            mx.nd.waitall()
            self.average.update()
        self.at.batch += 1
        meter.add(self.step, losses, logits, ys)

    def _seed_step(self) -> None:
        # At each step, so that a run that goes on from any checkpoint drops what it would have.
        if self.net.spec.dropout:
            seed_all(self.config.seed, self.epoch, self.at.batch, *self.workers.rng_key)

    def _due(self, saved_at: float) -> bool:
        if self.config.save_steps:
            return self.step % self.config.save_steps == 0
        return time.perf_counter() - saved_at > SAVE_SECONDS

    def _report_step(self, meter: Meter) -> None:
        every = self.config.log_interval
        if every and self.at.batch % every == 0 and self.workers.is_rank_zero and meter.images:
            seconds = self.at.train_s + time.perf_counter() - self._clock[0]
            rate = self.trainer.learning_rate
            print(step_line(self.epoch, self.at.batch, meter, seconds, rate), flush=True)
            self.events.add(self.step, {"step/loss": meter.loss, "step/lr": rate})

    def _pictures(self, indices: np.ndarray) -> np.ndarray:
        return self.data.read_test_images(indices, self.config.input_size)

    def _note(self, meter: Meter) -> None:
        meter.sync()
        # MXNet lets others read BatchNorm's running statistics before backward has updated them.
        mx.nd.waitall()
        self.at.loss_sum, self.at.hits, self.at.images = meter.loss_sum, meter.hits, meter.images
        self.at.train_s += self._tick()

    def _tick(self) -> float:
        """Add the time since the last tick to the totals, and return it."""
        before, self._clock = self._clock, (time.perf_counter(), time.process_time())
        self.at.wall_s += self._clock[0] - before[0]
        self.at.cpu_s += self._clock[1] - before[1]
        return self._clock[0] - before[0]

    def _row(self, answers: Predictions, evaluate_s: float) -> dict[str, float]:
        at = self.at
        return {
            "epoch": self.epoch + 1,
            "step": self.step,
            "lr": self.schedule(
                self.step - 1
            ),  # not the trainer's, which may just have been restored
            "train_loss": at.loss_sum / at.images,
            "train_acc": at.hits / at.images,
            "test_acc": answers.accuracy,
            "test_loss": answers.loss,
            "images_per_s": at.images / at.train_s,
            "epoch_s": at.train_s + evaluate_s,
            "wall_s": at.wall_s,
            "cpu_s": at.cpu_s,
            "test_top5": answers.top_accuracy(5),
        }

    def _save(self, place: Path) -> None:
        self.workers.synchronize(self.net, self.trainer)
        if self.workers.is_rank_zero:
            self._write(place)

    def _write(self, place: Path) -> None:
        info = self.data.info
        if self.scale:
            self.at.loss_scale, self.at.good_steps = self.scale.value, self.scale.good
        facts = {
            "class_names": info.class_names,
            "mean": self.mean,
            "std": self.std,
            "input_shape": (1, info.in_channels, *self.config.input_size),
            "config": self.config.to_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "progress": asdict(self.at),
            "metrics": self.log[-1] if self.log else {},
        }
        keep = self.config.keep_checkpoints if place == self.folder.last else 1
        checkpoint.save(place, self.net, self.trainer, facts, self.average, keep)


def _trainer(net: gluon.HybridBlock, config: TrainConfig, workers: Workers) -> gluon.Trainer:
    parameters = net.collect_params()
    if config.no_decay_bn:
        for parameter in net.collect_params(".*(gamma|beta|bias)$").values():
            parameter.wd_mult = 0.0
    settings = {"learning_rate": config.lr, "momentum": config.momentum, "wd": config.wd}
    return workers.make_trainer(parameters, config.optimizer, settings)


def _train_natively(net: gluon.HybridBlock) -> None:
    """Give dense stages to the native operator where it can be compiled and loaded."""
    try:
        net.hybridize(backend="native", static_alloc=True, static_shape=True)
    except (CompilerError, OSError, RuntimeError) as error:
        print(f"training with MXNet's own operators, which take longer: {error}", flush=True)


def _check_size(config: TrainConfig, net: gluon.Block) -> None:
    size = config.input_size
    if min(size) < net.min_size:
        raise ValueError(
            f"Images of {size[0]}x{size[1]} are too small for {config.model}, which needs "
            f"{net.min_size}x{net.min_size}: pass --resize {net.min_size} or more."
        )


def _check_ragged(config: TrainConfig, images: int, workers: int) -> None:
    rest = images % config.batch_size
    devices = workers * max(len(config.gpus), 1)
    if not config.drop_last and 0 < rest < devices * config.accumulate:
        parts = f" of {config.accumulate} parts each" * (config.accumulate > 1)
        raise ValueError(
            f"`batch_size` (={config.batch_size}) leaves {rest} of {images} images for the last "
            f"step, too few for {devices} devices{parts}: choose another one."
        )
