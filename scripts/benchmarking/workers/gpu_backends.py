# SPDX-License-Identifier: Apache-2.0
"""Backends of the GPU benchmark: this project's networks and PyTorch's.

A backend is built in a worker process. It is a function that starts one prediction or training step
on the device, one that waits for the device, and one that returns the device's free bytes.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, NamedTuple

Call = Callable[[], Any]


class Built(NamedTuple):
    """The functions of a backend."""

    run: Call
    synchronize: Call
    free_bytes: Callable[[], int]


@dataclasses.dataclass(frozen=True)
class GPUBackend:
    """A backend that predicts or trains on a GPU, or on the CPU to try the benchmark."""

    build: Callable[[str, int, int, bool], Built]  # from model, batch, image size, on the CPU
    needs: tuple[str, ...]  # modules that must be installed
    ours: bool = False


def _mxnet_parts(model: str, batch: int, size: int, on_cpu: bool, **fields: Any) -> Any:
    import mxnet as mx

    from gluondense.training.devices import find_devices
    from gluondense.zoo import get_model

    device = find_devices(() if on_cpu else (0,))[0]
    net = get_model(model, **fields)
    net.initialize(ctx=device)
    net.hybridize(static_alloc=True, static_shape=True)
    x = mx.nd.random.normal(shape=(batch, net.spec.in_channels, size, size), ctx=device)
    free = (lambda: 0) if on_cpu else (lambda: mx.context.gpu_memory_info(0)[0])
    return mx, net, x, free


def _mxnet_inference(dtype: str) -> Callable[[str, int, int, bool], Built]:
    def build(model: str, batch: int, size: int, on_cpu: bool) -> Built:
        mx, net, x, free = _mxnet_parts(model, batch, size, on_cpu)
        net.cast(dtype)
        x = x.astype(dtype)
        return Built(lambda: net(x), mx.nd.waitall, free)

    return build


def _mxnet_training(dtype: str, **fields: Any) -> Callable[[str, int, int, bool], Built]:
    def build(model: str, batch: int, size: int, on_cpu: bool) -> Built:
        from gluondense.training import TrainStep
        from gluondense.training.precision import make_loss_scale

        mx, net, x, free = _mxnet_parts(model, batch, size, on_cpu, **fields)
        settings = {"learning_rate": 0.01, "momentum": 0.9}
        trainer = mx.gluon.Trainer(net.collect_params(), "nag", settings)
        step = TrainStep(net, mx.gluon.loss.SoftmaxCrossEntropyLoss(), dtype=dtype)
        y = mx.nd.arange(batch, ctx=x.context) % net.spec.classes
        scale = make_loss_scale(dtype)

        def run() -> None:
            step(x, y, scale.value)
            scale.step(trainer, batch)

        return Built(run, mx.nd.waitall, free)

    return build


def _torch_parts(model: str, batch: int, size: int, on_cpu: bool, channels_last: bool) -> Any:
    import torch
    from torch_peer import build as build_peer  # type: ignore[import-not-found]

    if not on_cpu and not torch.cuda.is_available():
        raise RuntimeError("this PyTorch finds no GPU")
    net: Any = build_peer(model)
    if net is None:
        raise RuntimeError(f"neither torchvision nor timm has {model}")
    device = "cpu" if on_cpu else "cuda"
    torch.backends.cudnn.benchmark = True  # MXNet's default, too
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = net.to(device, memory_format=layout)
    x = torch.randn(batch, 3, size, size, device=device).to(memory_format=layout)
    synchronize = (lambda: None) if on_cpu else torch.cuda.synchronize
    free = (lambda: 0) if on_cpu else (lambda: torch.cuda.mem_get_info()[0])
    return torch, net, x, synchronize, free


def _torch_inference(half: bool, compiled: bool = False) -> Callable[[str, int, int, bool], Built]:
    def build(model: str, batch: int, size: int, on_cpu: bool) -> Built:
        torch, net, x, synchronize, free = _torch_parts(model, batch, size, on_cpu, half)
        if half:
            net, x = net.half(), x.half()
        forward = torch.compile(net) if compiled else net

        def run() -> None:
            with torch.inference_mode():
                forward(x)

        return Built(run, synchronize, free)

    return build


def _torch_training(half: bool, compiled: bool = False) -> Callable[[str, int, int, bool], Built]:
    def build(model: str, batch: int, size: int, on_cpu: bool) -> Built:
        torch, net, x, synchronize, free = _torch_parts(model, batch, size, on_cpu, half)
        net.train()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True)
        scaler = torch.amp.GradScaler(x.device.type, enabled=half)
        forward = torch.compile(net) if compiled else net
        y = torch.arange(batch, device=x.device)

        def run() -> None:
            optimizer.zero_grad()
            with torch.autocast(x.device.type, torch.float16, enabled=half):
                loss = torch.nn.functional.cross_entropy(forward(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

        return Built(run, synchronize, free)

    return build


BACKENDS: dict[str, dict[str, GPUBackend]] = {
    "inference": {
        "mxnet": GPUBackend(_mxnet_inference("float32"), ("mxnet",), ours=True),
        "mxnet-fp16": GPUBackend(_mxnet_inference("float16"), ("mxnet",), ours=True),
        "torch": GPUBackend(_torch_inference(False), ("torch",)),
        "torch-fp16": GPUBackend(_torch_inference(True), ("torch",)),
        "torch.compile-fp16": GPUBackend(_torch_inference(True, compiled=True), ("torch",)),
    },
    "training": {
        "mxnet": GPUBackend(_mxnet_training("float32"), ("mxnet",), ours=True),
        "mxnet-efficient": GPUBackend(
            _mxnet_training("float32", memory_efficient=True), ("mxnet",), ours=True
        ),
        "mxnet-fp16": GPUBackend(_mxnet_training("float16"), ("mxnet",), ours=True),
        "mxnet-fp16-nhwc": GPUBackend(
            _mxnet_training("float16", layout="NHWC"), ("mxnet",), ours=True
        ),
        "mxnet-fp16-efficient": GPUBackend(
            _mxnet_training("float16", memory_efficient=True), ("mxnet",), ours=True
        ),
        "torch": GPUBackend(_torch_training(False), ("torch",)),
        "torch-fp16": GPUBackend(_torch_training(True), ("torch",)),
        "torch.compile-fp16": GPUBackend(_torch_training(True, compiled=True), ("torch",)),
    },
}
