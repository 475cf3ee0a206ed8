"""Networks written as files that MXNet, or ONNX's readers, load without gluondense."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..data.transforms.batch import normalize
from ..graph.ir import Lowered, Params
from ..graph.trace import INPUT, trace
from ..models.network import Network
from ..native.program import build
from ..version import versions
from .artifact import ExportMetadata, import_block, write_metadata
from .artifact_files import Files, OnnxFiles, files_of, folder_beside, move_in
from .onnx.convert import describe, save
from .pre_post import Ends
from .quantization.calibration import Calibration
from .quantization.onednn_int8 import Harm
from .targets import Target, get_target

# How far the reloaded graph may be off, relative to the largest output: another order of sums.
TOLERANCE = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-6}


def export(
    net: gluon.HybridBlock,
    path: str | os.PathLike[str],
    input_shape: Sequence[int],
    target: str = "portable",
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    calibration: Any = None,
    *,
    preprocess: bool = False,
    output: str = "logits",
    params_dtype: str = "float32",
) -> Files:
    """Write a network as files for serving, and check them against the network.

    The files are written beside, loaded back, compared on a random input and renamed into place, so
    a failure leaves what was there. The same network gives the same bytes in every process.

    Parameters
    ----------
    net
        An initialized network, or any HybridBlock of one input; it is left as it was.
    path
        Prefix of the files ``{path}-symbol.json``, ``{path}-0000.params`` and ``{path}.json``; its
        folder is made if need be.
    input_shape
        Shape (N, C, H, W) to compare with. The graph takes any N, and any H and W that the
        network takes.
    target
        ``"portable"``: operators that MXNet 1.4 and later run, with ``Module`` or Gluon.
        ``"onednn"``: the same function, faster, for CPUs and MXNet 1.9 with oneDNN, of float32
        networks; not for training.
        ``"native"``: faster still, as one operator of this project's own, compiled by the C++
        compiler of this machine. Its library is written as ``{path}-native.so``, for
        ``mx.library.load`` in any process of MXNet 1.9.1, on this kind of machine.
        ``"native_bf16"``: as ``"native"``, but 1x1 convolutions multiply in bfloat16, and add in
        float32, on processors that have an instruction for it (AVX512_BF16); elsewhere as
        ``"native"``. The parameters stay float32.
        ``"int8"``: as ``"onednn"``, with 8 bits for the layers that bear it; needs ``calibration``.
        ``"native_int8"``: as ``"native"``, with 8 bits for all layers; needs ``calibration``.
        ``"onnx"``: one file ``{path}.onnx`` in place of MXNet's two, of opset 13, for ONNX Runtime,
        OpenVINO, TensorRT and their like; of float32 networks. Needs the packages of
        ``gluondense[onnx]``. N, H and W are left open.
        ``"onnx_int8"``: the same with 8 bits for the layers that bear it, by QuantizeLinear and
        DequantizeLinear (QDQ), weights with a scale for each filter; needs ``calibration``.
    class_names
        A label for each output; by default those of the published weights that were loaded.
    mean, std
        A number for each channel, of pixels scaled to [0, 1]; by default those that the network's
        loaded weights take, where that is known.
    calibration
        For 8 bits: images, or a :class:`gluondense.deploy.Calibration` that says more. The
        files are compared with the network on these images; what changed is in the metadata.
    preprocess
        True: the graph takes pixels (N, H, W, C) of 0 to 255, uint8 or (not in ONNX) float32, and
        normalizes them with ``mean`` and ``std`` itself.
    output
        ``"logits"``: what the network gives. ``"probabilities"``: their softmax. ``"features"``:
        what the network's last layer reads, (N, C); not for 8 bits.
    params_dtype
        ``"float16"``: the weights take half of the bytes; the graph makes them float32, so any
        device runs it. For ``"portable"``; MXNet 1.4 reads them with ``Module`` only. (To compute
        in halves, on a GPU, call ``net.cast("float16")`` before.)

    Raises
    ------
    ValueError
        If an argument breaks its rule, or the network is not initialized or not portable.
    OSError
        If the files cannot be written.
    RuntimeError
        If the loaded graph does not give the network's outputs.

    Examples
    --------
    >>> import tempfile, gluondense
    >>> from gluondense import load_exported
    >>> net = gluondense.get_model("densenet_tutorial")
    >>> net.initialize()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = export(net, f"{folder}/tutorial", (1, 1, 96, 96))
    ...     block = load_exported(files.prefix)
    >>> files.symbol.name, block.metadata.model
    ('tutorial-symbol.json', 'densenet_tutorial')
    >>> block(mx.nd.zeros((2, 1, 64, 80))).shape
    (2, 10)
    """
    row = get_target(target)
    row.check()
    if row.needs_calibration and calibration is None:
        raise ValueError(
            f"target={target!r} needs calibration=: some hundred images as the network will see, "
            "normalized in an array (N, C, H, W), or a folder of pictures, or a RecordIO file."
        )
    if calibration is not None and not row.needs_calibration:
        raise ValueError(f"target={target!r} needs no calibration: leave it out.")
    ends = Ends(preprocess, output, params_dtype)
    _check_initialized(net)
    x = _random_input(net, input_shape)
    expected = _outputs(net, x)
    if class_names is None:
        names = getattr(net, "classes", None) or ()
        # A user may have put another output behind the features.
        class_names = names if expected[0].shape[1:] == (len(names),) else None
    labels = _labels(class_names, expected[0].shape)
    preprocessing = getattr(net, "preprocessing", None)
    if preprocessing is not None and mean is None and std is None:
        mean, std = preprocessing.mean, preprocessing.std
    mean, std = _per_channel("mean", mean, x.shape[1]), _per_channel("std", std, x.shape[1])
    if std is not None and min(std) <= 0:
        raise ValueError(f"std (={std}) must be positive.")
    ends.check(target, row.needs_calibration, mean, std)
    computed = ends.network(net)
    if computed is not net:
        labels = None
    if preprocess:  # what pixels can be
        pixels = ends.feed(x.asnumpy(), mean or (), std or ())
        x = mx.nd.array(normalize(pixels, mean or (), std or ()), ctx=x.ctx, dtype=x.dtype)
    if preprocess or computed is not net:
        expected = _outputs(computed, x)

    batches = [x.asnumpy()]
    if row.needs_calibration:
        calibration = Calibration.of(calibration).read(x.shape, mean, std)
        batches = calibration.batches()
        expected = _all_outputs(net, batches, x.ctx, x.dtype)
    expected = ends.expect(expected)
    more = [calibration] if row.needs_calibration else []
    lowered = row.lower(trace(computed), _values(net), x.shape, *more)
    lowered = ends.attach(lowered, mean or (), std or (), portable=target == "portable")
    ours = isinstance(net, Network)
    metadata = ExportMetadata(
        model=net.model_name if ours else None,
        spec=dataclasses.asdict(net.spec) if ours else None,
        target=target,
        input_name=INPUT,
        input_shape=x.shape,
        outputs=_output_names(lowered.graph),
        class_names=labels,
        mean=mean,
        std=std,
        versions=versions(),
        sha256={},
        quantization=lowered.quantization,
        output_shapes=tuple((x.shape[0], *wanted.shape[1:]) for wanted in expected),
        **dataclasses.asdict(ends),
    )
    files = files_of(target, path)
    with folder_beside(files) as folder:
        new = files_of(target, folder / Path(files.prefix).name)
        _write(new, lowered, metadata)
        ctx = x.ctx if target == "portable" else mx.cpu()
        fed = [ends.feed(batch, mean or (), std or ()) for batch in batches]
        kind = fed[0].dtype if preprocess else x.dtype
        again = _all_outputs(import_block(new, ctx), fed, ctx, kind)
        if row.needs_calibration:
            harm = dataclasses.asdict(_check_harm(again, expected, calibration, row))
            quantization = {**(metadata.quantization or {}), **harm}
            metadata = dataclasses.replace(metadata, quantization=quantization)
        else:
            kept = x.dtype if params_dtype == "float32" else params_dtype
            _compare(again, expected, row.tolerance or TOLERANCE[np.dtype(kept).name])
        write_metadata(new, metadata)
        move_in(new, files, folder)
    return files


def _output_names(graph: Any) -> tuple[str, ...]:
    if isinstance(graph, str):
        return tuple(mx.sym.load_json(graph).list_outputs())
    return tuple(output.name for output in graph.graph.output)


def _write(files: Files, lowered: Lowered, metadata: ExportMetadata) -> None:
    if isinstance(files, OnnxFiles):
        describe(lowered.graph, metadata)
        save(lowered.graph, files.model)
        return
    files.symbol.write_text(lowered.graph, encoding="utf-8")
    if metadata.target.startswith("native"):
        shutil.copy2(build(), files.library)
    symbol = mx.sym.load_json(lowered.graph)
    mx.nd.save(str(files.params), _arrays(symbol, lowered.params))


def _check_initialized(net: gluon.HybridBlock) -> None:
    for name, parameter in net.collect_params().items():
        if parameter._data is None and not parameter._deferred_init:
            raise ValueError(
                f"the network is not initialized ({name} has no values): call net.initialize() or "
                "net.load_parameters(file) first."
            )


def _random_input(net: gluon.HybridBlock, shape: Sequence[int]) -> mx.nd.NDArray:
    shape = tuple(shape)
    if len(shape) < 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in shape):
        raise ValueError(f"input_shape (={shape}) must be positive integers (N, C, H, W).")
    first = next(iter(net.collect_params().values()))
    # A generator of its own: the user's random numbers go on as if nothing had happened.
    values = np.random.default_rng(0).standard_normal(shape)
    return mx.nd.array(values, ctx=first.list_ctx()[0], dtype=first.dtype)


def _outputs(net: Callable, x: mx.nd.NDArray) -> list[np.ndarray]:
    with mx.autograd.pause(train_mode=False):
        outputs = net(x)
    return [out.asnumpy() for out in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def _all_outputs(
    net: Callable, batches: Sequence[np.ndarray], ctx: mx.Context, dtype: Any
) -> list[np.ndarray]:
    found = [_outputs(net, mx.nd.array(batch, ctx=ctx, dtype=dtype)) for batch in batches]
    return [np.concatenate(parts) for parts in zip(*found)]


def _labels(names: Sequence[str] | None, shape: tuple[int, ...]) -> tuple[str, ...] | None:
    if names is None:
        return None
    if len(shape) != 2 or shape[1] != len(names):
        raise ValueError(
            f"class_names ({len(names)} of them) must be one for each class, but the network's "
            f"output has shape {shape}."
        )
    return tuple(map(str, names))


def _per_channel(
    name: str, values: Sequence[float] | None, channels: int
) -> tuple[float, ...] | None:
    if values is None:
        return None
    if len(values) != channels:
        raise ValueError(f"{name} (={tuple(values)}) must have {channels} numbers, one a channel.")
    return tuple(map(float, values))


def _values(net: gluon.HybridBlock) -> Params:
    return {name: value._reduce().asnumpy() for name, value in net.collect_params().items()}


def _arrays(symbol: mx.sym.Symbol, params: Params) -> dict[str, mx.nd.NDArray]:
    kinds = {"arg": symbol.list_arguments(), "aux": symbol.list_auxiliary_states()}
    return {
        f"{kind}:{name}": mx.nd.array(params[name], ctx=mx.cpu(), dtype=params[name].dtype)
        for kind, names in kinds.items()
        for name in names
        if name != INPUT
    }


def _compare(outputs: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> None:
    for got, wanted in zip(outputs, expected):
        scale = np.abs(wanted).max()
        if not np.isfinite(scale):
            raise RuntimeError("the network's own outputs are not finite: nothing was written.")
        off = np.abs(got.astype("float64") - wanted).max()
        if not off <= tolerance * scale:
            raise RuntimeError(
                f"the loaded graph's outputs are off by {off:.3g} (largest output {scale:.3g}), "
                "so nothing was written: please report this with the network's spec."
            )


def _check_harm(
    outputs: list[np.ndarray],
    expected: list[np.ndarray],
    calibration: Calibration,
    target: Target,
) -> Harm:
    if not all(np.isfinite(wanted).all() for wanted in expected):
        raise RuntimeError("the network's own outputs are not finite: nothing was written.")
    harm = Harm.of(outputs, expected)
    # Another order of sums may turn one image whose two likeliest classes are nearly as likely.
    allowed = min(1.0, calibration.max_changed + 1 / len(calibration.images))
    fits = harm.within(dataclasses.replace(calibration, max_changed=allowed))
    if not fits and not target.keeps_layers:
        raise ValueError(
            f"8 bits change too much: {harm}, with max_changed={calibration.max_changed:g} of "
            f"{len(calibration.images)}. Allow more, calibrate with other images or "
            "method='entropy', or use target='int8', which keeps the layers that suffer in float."
        )
    if not fits:
        raise RuntimeError(
            f"the loaded graph's outputs are not those that were calibrated ({harm}), so nothing "
            "was written: please report this with the network's spec."
        )
    return harm
