# SPDX-License-Identifier: Apache-2.0
"""Training backends of the benchmark: this project's settings and their peers.

A backend is built in a worker process. It is a function that runs one step with its update and
waits for it, and a function that returns the megabytes its executor planned, 0 if unknown.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

Step = Callable[[], Any]
Build = Callable[[str, int, int, int], "tuple[Step, Callable[[], int]]"]


@dataclasses.dataclass(frozen=True)
class TrainingBackend:
    """A backend that trains a network."""

    build: Build  # makes both functions from the network's name, batch, image size and threads
    needs: tuple[str, ...]  # modules that must be installed
    ours: bool = False  # whether it is this project's, as opposed to a peer


def _mxnet(memory_efficient: Any, native: bool = False, dtype: str = "float32") -> Build:
    def build(model: str, batch: int, size: int, threads: int) -> tuple[Step, Callable[[], int]]:
        import mxnet as mx
        from mxnet import gluon

        from gluondense.training import TrainStep
        from gluondense.zoo import get_model

        net = get_model(model, memory_efficient=memory_efficient)
        net.initialize()
        backend = "native" if native else None
        net.hybridize(backend=backend, dtype=dtype, static_alloc=True, static_shape=True)
        settings = {"learning_rate": 0.01, "momentum": 0.9}
        trainer = gluon.Trainer(net.collect_params(), "nag", settings)
        step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), dtype=dtype)
        x = mx.nd.random.normal(shape=(batch, net.spec.in_channels, size, size))
        y = mx.nd.arange(batch) % net.spec.classes

        def run() -> None:
            step(x, y)
            trainer.step(batch)
            mx.nd.waitall()

        return run, step.planned_mb

    return build


def _torch(compiled: bool = False, checkpointed: bool = False, bf16: bool = False) -> Build:
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
        x = torch.randn(batch, 3, size, size)
        y = torch.arange(batch) % 10  # classes that every network has
        if bf16:  # faster in this memory layout
            net.to(memory_format=torch.channels_last)
            x = x.to(memory_format=torch.channels_last)

        def run() -> None:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = torch.nn.functional.cross_entropy(forward(x), y)
            loss.backward()
            optimizer.step()

        return run, lambda: 0

    return build


BACKENDS: dict[str, TrainingBackend] = {
    "plain": TrainingBackend(_mxnet(False), ("mxnet",), ours=True),
    "light": TrainingBackend(_mxnet("light"), ("mxnet",), ours=True),
    "balanced": TrainingBackend(_mxnet("balanced"), ("mxnet",), ours=True),
    "most": TrainingBackend(_mxnet("most"), ("mxnet",), ours=True),
    "native": TrainingBackend(_mxnet(False, native=True), ("mxnet",), ours=True),
    "native-balanced": TrainingBackend(_mxnet(True, native=True), ("mxnet",), ours=True),
    "native-bf16": TrainingBackend(
        _mxnet(False, native=True, dtype="bfloat16"), ("mxnet",), ours=True
    ),
    "native-bf16-balanced": TrainingBackend(
        _mxnet(True, native=True, dtype="bfloat16"), ("mxnet",), ours=True
    ),
    "torch": TrainingBackend(_torch(), ("torch",)),
    "torch-bf16": TrainingBackend(_torch(bf16=True), ("torch",)),
    "torch.compile-bf16": TrainingBackend(_torch(compiled=True, bf16=True), ("torch",)),
    "torch.compile": TrainingBackend(_torch(compiled=True), ("torch",)),
    "torch-checkpoint": TrainingBackend(_torch(checkpointed=True), ("torch",)),
}
