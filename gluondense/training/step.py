"""One training step: forward, loss and backward, with everything kept or some of it recomputed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Union

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.ndarray import NDArray

from ..graph.ir import Graph
from ..graph.mixed_precision import lower
from ..graph.onednn_layouts import use_onednn_layouts
from ..graph.recompute import feature_map_shapes, find_policy, mark_recomputed
from ..graph.sync_batch_norm import synchronize
from .precision import check_dtype

Arrays = Union[NDArray, Sequence[NDArray]]


class StepResult(NamedTuple):
    """What a step gives: the loss of each image and the network's output, a list if it got one."""

    loss: Any
    output: Any


class TrainStep:
    """Forward, loss and backward of a batch, on one or several devices.

    The gradients land in the network's parameters, so a ``gluon.Trainer`` goes on from there:
    ``step(data, label)``, then ``trainer.step(batch_size)``. It is what ``autograd.record()`` and
    ``backward()`` do, and does just that unless something is asked for that Gluon hasn't: a network
    made with ``memory_efficient``, ``dtype`` or ``sync_bn``. Then MXNet's executor runs the graph
    on the same parameters, gradients and running statistics, and computes in backward again what
    ``memory_efficient`` names: results are equal to the bit, as the same operators see the same
    numbers. On a CPU, stages of ``hybridize(backend="native")`` recompute within ``autograd``,
    their bottlenecks. Nothing here waits for the device.

    Parameters
    ----------
    net
        A hybridized network with initialized parameters.
    loss
        Of the network's output and the labels; gives one number an image.
    accumulate
        Parts that each device's batch is cut into, one after the other; gradients are added up, so
        a step is that of the whole batch in less memory. BatchNorm sees the parts. Sets
        ``grad_req`` of the parameters to ``"add"``.
    dtype
        ``"float32"``; in ``"float16"`` (GPUs) or ``"bfloat16"`` (CPUs) convolutions and
        fully-connected layers compute in half precision on rounded copies of float32 parameters.
    sync_bn
        Whether batch normalization takes its statistics from the batches of all devices together.

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
        self.net, self.loss, self.accumulate = net, loss, accumulate
        self.dtype, self.sync_bn = dtype, sync_bn
        self.how = find_policy(getattr(net, "memory_efficient", False))
        check_dtype(dtype, ())
        self._executors: dict[tuple[Any, ...], _Executor] = {}
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
            What the gradients are multiplied by, for half precision.
        """
        single = isinstance(data, NDArray)
        datas: list[NDArray] = [data] if single else list(data)
        labels: list[NDArray] = [label] if single else list(label)
        check_dtype(self.dtype, [x.context for x in datas])
        if self.accumulate > 1:
            self.net.collect_params().zero_grad()
        results = [
            self._part(xs, ys, scale)
            for xs, ys in zip(zip(*map(self._cut, datas)), zip(*map(self._cut, labels)))
        ]
        losses, outputs = (
            [parts[0] if len(parts) == 1 else mx.nd.concat(*parts, dim=0) for parts in zip(*column)]
            for column in zip(*results)
        )
        return StepResult(losses[0], outputs[0]) if single else StepResult(losses, outputs)

    def planned_mb(self) -> int:
        """Return the megabytes that the executors planned for maps, 0 where there is none."""
        return sum(executor.planned_mb for executor in self._executors.values())

    def _cut(self, batch: NDArray) -> list[NDArray]:
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

    def _part(
        self, datas: Sequence[NDArray], labels: Sequence[NDArray], scale: float
    ) -> tuple[list[NDArray], list[NDArray]]:
        synced = self.sync_bn and len(datas) > 1
        recomputes = getattr(self.net, "recomputes", None)
        plain = not self.how.operators or (recomputes and all(map(recomputes, datas)))
        if plain and self.dtype == "float32" and not synced:
            with autograd.record():
                outputs = [self.net(x) for x in datas]
                losses = [self.loss(output, y) for output, y in zip(outputs, labels)]
                heads = losses if scale == 1 else [loss * scale for loss in losses]
            autograd.backward(heads)
            return losses, outputs
        executors = [self._executor(x, len(datas)) for x in datas]
        # A CPU device has one thread. It would wait in SyncBatchNorm for another device, which may
        # wait for what stands behind that in the first one's queue.
        stall = synced and datas[0].context.device_type == "cpu"
        if stall:
            mx.nd.waitall()
        outputs = [executor.forward(x) for executor, x in zip(executors, datas)]
        with autograd.record():
            losses = [self.loss(output, y) for output, y in zip(outputs, labels)]
            heads = losses if scale == 1 else [loss * scale for loss in losses]
        autograd.backward(heads)
        if stall:
            mx.nd.waitall()
        for executor, output in zip(executors, outputs):
            executor.backward(output.grad)
        return losses, outputs

    def _executor(self, x: NDArray, devices: int) -> _Executor:
        key = x.context, x.shape, x.dtype, devices
        executor = self._executors.get(key)
        if executor is None or not executor.fits():
            executor = None  # two of them at once would need twice the memory
            self._executors = {k: v for k, v in self._executors.items() if v.fits()}
            shared = [v for k, v in self._executors.items() if k[0] == x.context]
            executor = self._executors[key] = _Executor(self, x, devices, shared)
        return executor


def _graph(step: TrainStep, x: NDArray, devices: int) -> tuple[str, mx.sym.Symbol]:
    """Return the name of the network's input, and the graph that the step runs for it."""
    (data,), symbol = step.net._get_graph(x)
    graph = Graph(symbol, {})
    is_native = getattr(step.net, "is_native", None)
    if is_native and is_native(x):
        use_onednn_layouts(graph)
        symbol, _ = graph.to_symbol()
    if step.sync_bn and devices > 1:
        synchronize(graph, devices)
    if step.how.operators:
        mark_recomputed(graph, feature_map_shapes(symbol, **{data.name: x.shape}), step.how)
    if step.dtype != "float32":
        lower(graph, step.dtype)
    return data.name, mx.sym.load_json(graph.to_json())


class _Executor:
    """MXNet's executor of a marked graph, on the arrays of a network's parameters on a device."""

    _executor: Any

    def __init__(
        self, step: TrainStep, x: NDArray, devices: int, shared: Sequence[_Executor]
    ) -> None:
        self._context = x.context
        data, symbol = _graph(step, x, devices)
        parameters = step.net.collect_params()
        self._parameters = [parameters[name] for name in symbol.list_inputs() if name != data]
        self._input = mx.nd.empty(x.shape, x.context, x.dtype)
        self._bound = self._arrays()
        values = {data: self._input}
        gradients, requests = {}, {data: "null"}
        for parameter, (value, gradient) in zip(self._parameters, self._bound):
            values[parameter.name] = value
            requests[parameter.name] = parameter.grad_req
            if gradient is not None:
                gradients[parameter.name] = gradient
        states = symbol.list_auxiliary_states()
        with _planning():
            self._executor = symbol.bind(
                x.context,
                {name: values[name] for name in symbol.list_arguments()},
                args_grad=gradients,
                grad_req={name: requests[name] for name in symbol.list_arguments()},
                aux_states={name: values[name] for name in states},
                shared_exec=shared[0]._executor if shared else None,
            )

    def fits(self) -> bool:
        """Whether the parameters still are what was bound: moving or casting them replaces them."""
        now = self._arrays()
        return all(a is b and g is h for (a, g), (b, h) in zip(now, self._bound))

    def _arrays(self) -> list[tuple[NDArray, Any]]:
        context = self._context
        return [
            (p.data(context), p.grad(context) if p.grad_req != "null" else None)
            for p in self._parameters
        ]

    def forward(self, x: NDArray) -> NDArray:
        x.copyto(self._input)
        (output,) = self._executor.forward(is_train=True)
        # The next step writes into the executor's own.
        output = output.copy()
        output.attach_grad()
        return output

    def backward(self, head: NDArray) -> None:
        self._executor.backward([head])
        for value, gradient in self._bound:
            if gradient is not None:
                value._fresh_grad = True  # else the trainer takes it for a forgotten one

    @property
    def planned_mb(self) -> int:
        found = re.search(r"Total (\d+) MB allocated", self._executor.debug_str())
        return int(found[1]) if found else 0


@contextmanager
def _planning() -> Iterator[None]:
    """Let MXNet try several plans of memory and take the smallest, and say nothing of its backend.

    By default it takes the first plan. It reads the variables each time; a user's own stay.
    """
    wanted = {"NNVM_AUTO_SEARCH_MATCH_RANGE": "1", "MXNET_SUBGRAPH_VERBOSE": "0"}
    mine = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            del os.environ[name]
