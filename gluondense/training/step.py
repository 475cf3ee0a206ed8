# SPDX-License-Identifier: Apache-2.0
"""One training step: forward, loss and backward, with stored or recomputed activations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.ndarray import NDArray

from ..graph.executor import TrainingExecutor
from ..graph.ir import Graph
from ..graph.onednn_layouts import use_onednn_layouts
from ..graph.recompute import feature_map_shapes, find_policy, mark_recomputed
from ..graph.sync_batch_norm import use_sync_batch_norm
from .precision import check_dtype, use_precision
from .running_statistics import RunningStatistics

Arrays = Union[NDArray, Sequence[NDArray]]
_NUMBERS = itertools.count()


class StepResult(NamedTuple):
    """Loss of each image and output of the network; lists if the step got lists."""

    loss: Any
    output: Any


class TrainStep:
    """Forward, loss and backward of a batch, on one or several devices.

    The gradients are those of the network's parameters, so a ``gluon.Trainer`` updates them:
    ``step(data, label)``, then ``trainer.step(batch_size)``.

    A step is ``autograd.record()`` and ``backward()``, unless the network was made with
    ``memory_efficient``, or ``dtype`` or ``sync_bn`` is given. In these cases MXNet's executor runs
    the graph on the same parameters, gradients and running statistics, and recomputes in the
    backward pass what ``memory_efficient`` selects. Recomputation changes no bit of the results, as
    the same operators get the same numbers. On a CPU, stages of ``hybridize(backend="native")``
    recompute their bottlenecks within ``autograd``. The step does not wait for the device.
    Operators that are issued after it see its running statistics.

    Parameters
    ----------
    net
        A hybridized network with initialized parameters.
    loss
        Loss of the network's output and the labels, (N,).
    accumulate
        Number of parts of each device's batch that are computed one after the other; their
        gradients are added, so the step is that of the whole batch in less memory. BatchNorm
        normalizes each part alone. Sets ``grad_req`` of the parameters to ``"add"``.
    dtype
        ``"float32"``; with ``"float16"`` (GPUs), convolutions and fully-connected layers compute in
        half precision from rounded copies of the float32 parameters, with the layout of the
        network's spec. ``"bfloat16"`` (CPUs) is that of the stages of
        ``hybridize(backend="native", dtype="bfloat16")``; other networks compute as in float16,
        which is slower than float32.
    sync_bn
        Whether batch normalization computes its statistics over the batches of all devices.

    Raises
    ------
    ValueError
        If a part would have no image, or a device can't compute in ``dtype``.

    Examples
    --------
    >>> import gluondense
    >>> net = gluondense.get_model("densenet40_k12_cifar10", memory_efficient=True)
    >>> net.initialize()
    >>> trainer = gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.1})
    >>> step = TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss())
    >>> loss, logits = step(mx.nd.ones((2, 3, 32, 32)), mx.nd.array([3, 7]))
    >>> trainer.step(2)
    >>> loss.shape, logits.shape
    ((2,), (2, 10))
    """

    def __init__(
        self,
        net: gluon.HybridBlock,
        loss: gluon.Block,
        accumulate: int = 1,
        dtype: str = "float32",
        sync_bn: bool = False,
    ) -> None:
        check_dtype(dtype, ())
        self.net, self.loss, self.accumulate = net, loss, accumulate
        self.dtype, self.sync_bn = dtype, sync_bn
        self._number = next(_NUMBERS)
        self._statistics = RunningStatistics(net)
        self._policy = find_policy(getattr(net, "memory_efficient", False))
        self._executors: dict[tuple[Any, ...], TrainingExecutor] = {}
        if accumulate > 1:
            for parameter in net.collect_params().values():
                if parameter.grad_req != "null":
                    parameter.grad_req = "add"

    def __call__(self, data: Arrays, label: Arrays, scale: float = 1.0) -> StepResult:
        """Run the step.

        Parameters
        ----------
        data, label
            A batch, or one for each device.
        scale
            Factor on the loss of the backward pass, for half precision.
        """
        single = isinstance(data, NDArray)
        datas: list[NDArray] = [data] if single else list(data)
        labels: list[NDArray] = [label] if single else list(label)
        contexts = [x.context for x in datas]
        check_dtype(self.dtype, contexts)
        if self.accumulate > 1:
            self.net.collect_params().zero_grad()
        self._statistics.declare_write(contexts)
        results = [
            self._forward_backward(xs, ys, scale)
            for xs, ys in zip(zip(*map(self._split, datas)), zip(*map(self._split, labels)))
        ]
        self._statistics.declare_write(contexts)
        losses, outputs = (
            [parts[0] if len(parts) == 1 else mx.nd.concat(*parts, dim=0) for parts in zip(*column)]
            for column in zip(*results)
        )
        return StepResult(losses[0], outputs[0]) if single else StepResult(losses, outputs)

    def planned_mb(self) -> int:
        """Return the megabytes that executors planned for activations, 0 without executors."""
        return sum(executor.planned_mb for executor in self._executors.values())

    def _split(self, batch: NDArray) -> list[NDArray]:
        count = self.accumulate
        if count == 1:
            return [batch]
        if len(batch) < count:
            raise ValueError(
                f"`accumulate` (={count}) parts of {len(batch)} images leave one empty: "
                "give each device a larger batch."
            )
        bounds = [len(batch) * part // count for part in range(count + 1)]
        return [batch[low:high] for low, high in zip(bounds, bounds[1:])]

    def _forward_backward(
        self, datas: Sequence[NDArray], labels: Sequence[NDArray], scale: float
    ) -> tuple[list[NDArray], list[NDArray]]:
        """Return losses and outputs of one part on each device."""
        synced = self.sync_bn and len(datas) > 1
        recomputes = getattr(self.net, "recomputes", None)
        stored = not self._policy.operators or (recomputes and all(map(recomputes, datas)))
        if not synced and (self._is_bfloat16(datas) or (stored and self.dtype == "float32")):
            with autograd.record():
                outputs = [self.net(x) for x in datas]
                losses, heads = self._losses(outputs, labels, scale)
            autograd.backward(heads)
            return losses, outputs
        executors = [self._find_executor(x, len(datas)) for x in datas]
        # A CPU device has one thread, which would wait in SyncBatchNorm for another device, which
        # may wait for an operator that is queued after it on the first device.
        blocking = synced and datas[0].context.device_type == "cpu"
        if blocking:
            mx.nd.waitall()
        outputs = [executor.forward(x) for executor, x in zip(executors, datas)]
        with autograd.record():
            losses, heads = self._losses(outputs, labels, scale)
        autograd.backward(heads)
        if blocking:
            mx.nd.waitall()
        for executor, output in zip(executors, outputs):
            executor.backward(output.grad)
        return losses, outputs

    def _is_bfloat16(self, datas: Sequence[NDArray]) -> bool:
        """Return whether native stages compute in bfloat16, which no executor does."""
        dtype = getattr(self.net, "native_dtype", lambda x: None)
        return self.dtype == "bfloat16" and all(dtype(x) == "bfloat16" for x in datas)

    def _losses(
        self, outputs: Sequence[NDArray], labels: Sequence[NDArray], scale: float
    ) -> tuple[list[NDArray], list[NDArray]]:
        """Return the losses, and the scaled losses to differentiate."""
        losses = list(map(self.loss, outputs, labels))
        return losses, losses if scale == 1 else [loss * scale for loss in losses]

    def _find_executor(self, x: NDArray, devices: int) -> TrainingExecutor:
        key = x.context, x.shape, x.dtype, devices
        if key not in self._executors or not self._executors[key].is_current:
            # Frees the memory of executors that are not current before another one is bound.
            self._executors = {k: e for k, e in self._executors.items() if e.is_current}
            shared = next((e for k, e in self._executors.items() if k[0] == x.context), None)
            data, symbol = self._graph(x, devices)
            parameters = self.net.collect_params()
            self._executors[key] = TrainingExecutor(symbol, data, x, parameters, shared)
        return self._executors[key]

    def _graph(self, x: NDArray, devices: int) -> tuple[str, mx.sym.Symbol]:
        """Return the name of the network's input, and the transformed graph for it."""
        (data,), symbol = self.net._get_graph(x)
        graph = Graph(symbol, {})
        is_native = getattr(self.net, "is_native", None)
        if is_native and is_native(x):
            use_onednn_layouts(graph)
            symbol, _ = graph.to_symbol()
        if self.sync_bn and devices > 1:
            use_sync_batch_norm(graph, devices, f"step{self._number}_")
        if self._policy.operators:
            shapes = feature_map_shapes(symbol, **{data.name: x.shape})
            mark_recomputed(graph, shapes, self._policy)
        use_precision(graph, self.net, self.dtype)
        return data.name, mx.sym.load_json(graph.to_json())
