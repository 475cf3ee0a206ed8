"""What can train a network in the benchmark: this project's settings and their peers, one row each.

A builder runs in a process of its own and returns a function that does one step, update included,
and waits for it; and how many megabytes its executor planned, 0 where nobody knows.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

Step = Callable[[], Any]
Build = Callable[[str, int, int, int], "tuple[Step, Callable[[], int]]"]


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Something that trains a network.

    Parameters
    ----------
    build
        Makes the step from the network's name, the batch, the image's side and the threads.
    needs
        Modules that must be installed.
    ours
        Whether it is this project's, not a peer.
    """

    build: Build
    needs: tuple[str, ...]
    ours: bool = False


def _mxnet(memory_efficient: Any, native: bool = False) -> Build:
    def build(model: str, batch: int, size: int, threads: int) -> tuple[Step, Callable[[], int]]:
        import mxnet as mx
        from mxnet import gluon

        # By their full names, as this file is run by path.
        from gluondense.training import TrainStep
        from gluondense.zoo import get_model

        net = get_model(model, memory_efficient=memory_efficient)
        net.initialize()
        net.hybridize(backend="native" if native else None, static_alloc=True, static_shape=True)
        trainer = gluon.Trainer(
            net.collect_params(), "nag", {"learning_rate": 0.01, "momentum": 0.9}
        )
        step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())
        x = mx.nd.random.normal(shape=(batch, net.spec.in_channels, size, size))
        y = mx.nd.arange(batch) % net.spec.classes

        def run() -> None:
            step(x, y)
            trainer.step(batch)
            mx.nd.waitall()

        return run, step.planned_mb

    return build


def _torch(compiled: bool = False, checkpointed: bool = False) -> Build:
    def build(model: str, batch: int, size: int, threads: int) -> tuple[Step, Callable[[], int]]:
        import torch
        from torch_peer import build as build_peer  # type: ignore[import-not-found]

        torch.set_num_threads(threads)
        net: Any = build_peer(model, **({"memory_efficient": True} if checkpointed else {}))
        if net is None:
            raise RuntimeError(f"neither torchvision nor timm has {model}")
        net.train()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True)
        forward = torch.compile(net) if compiled else net
        x, y = torch.randn(batch, 3, size, size), torch.arange(batch)

        def run() -> None:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(forward(x), y).backward()
            optimizer.step()

        return run, lambda: 0

    return build


TRAINERS: dict[str, Trainer] = {
    "plain": Trainer(_mxnet(False), ("mxnet",), ours=True),
    "light": Trainer(_mxnet("light"), ("mxnet",), ours=True),
    "balanced": Trainer(_mxnet("balanced"), ("mxnet",), ours=True),
    "most": Trainer(_mxnet("most"), ("mxnet",), ours=True),
    "native": Trainer(_mxnet(False, native=True), ("mxnet",), ours=True),
    "native-balanced": Trainer(_mxnet(True, native=True), ("mxnet",), ours=True),
    "torch": Trainer(_torch(), ("torch",)),
    "torch.compile": Trainer(_torch(compiled=True), ("torch",)),
    "torch-checkpoint": Trainer(_torch(checkpointed=True), ("torch",)),
}
