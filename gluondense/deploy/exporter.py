# SPDX-License-Identifier: Apache-2.0
"""Export of networks to files that MXNet or ONNX runtimes load without gluondense."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from typing import Any

import mxnet as mx
from mxnet import gluon

from ..blocks.reorders import wait_for_reorders
from ..data.preprocessing import Preprocessing
from ..files import save_arrays
from ..graph.ir import Lowered, Params
from ..graph.split_detector import split_detector
from ..graph.trace import INPUT, trace
from ..native.build import build
from ..version import versions
from ..weights.finite import check_finite
from .artifact_files import Files, OnnxFiles, files_of, is_native, replacing_export
from .detector import lower_detector, network_block, output_names
from .export_arguments import (
    check_calibration,
    example_input,
    select_class_names,
    select_preprocessing,
    select_task,
    to_logits,
)
from .metadata import ExportMetadata, write_metadata
from .onnx.convert import set_metadata
from .outputs import all_outputs, outputs_of
from .pre_post import PrePost, select_output
from .quantization.calibration import Calibration
from .targets import get_target, lower_to
from .verification import Reference, verify


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
    preprocessing: Preprocessing | None = None,
    task: str | None = None,
    thresholds: Sequence[float] | None = None,
    allow_nan: bool = False,
) -> Files:
    """Export a network to files for inference and verify their outputs.

    The files are written to a temporary folder, loaded, compared with the network, and then moved
    into place, so that a failure leaves earlier files untouched. Equal networks give equal bytes in
    every process.

    Parameters
    ----------
    net
        An initialized network, or any HybridBlock with one input. It is not modified.
    path
        Prefix of the files ``{path}-symbol.json``, ``{path}-0000.params`` and ``{path}.json``. The
        folder is created if necessary.
    input_shape
        Shape (N, C, H, W) of the input for verification. The graph accepts any N, and every H and W
        that the network accepts.
    target
        ``"portable"``: operators that MXNet 1.4 and later run, with ``Module`` or Gluon.
        ``"onednn"``: fused oneDNN operators, faster on CPUs, for MXNet 1.9 with oneDNN and float32
        networks; inference only.
        ``"native"``: gluondense's own operator, faster still, compiled with the C++ compiler of
        this machine. The library is written to ``{path}-native.so``; load it with
        ``mx.library.load`` in any process of MXNet 1.9.1 on the same kind of machine.
        ``"native_bf16"``: as ``"native"``, but on processors with AVX512_BF16 or AMX, convolutions
        multiply in bfloat16 and accumulate in float32, and most feature maps are stored in
        bfloat16; outputs are not rounded. On others as ``"native"``. The parameters stay float32.
        ``"int8"``: as ``"onednn"``, with int8 layers; sensitive layers stay in float32. Needs
        ``calibration``.
        ``"native_int8"``: as ``"native"``, with int8 layers; sensitive layers stay in float32.
        Needs ``calibration``.
        ``"onnx"``: one file ``{path}.onnx`` of opset 13 instead of the two of MXNet, for ONNX
        Runtime, OpenVINO, TensorRT and others; float32 networks only. Requires the packages of
        ``gluondense[onnx]``. N, H and W are dynamic.
        ``"onnx_int8"``: the same with int8 layers as QuantizeLinear and DequantizeLinear pairs
        (QDQ) and weights with a scale per filter; sensitive layers stay in float32. Needs
        ``calibration``.
    class_names
        A label for each output; by default the classes of the loaded published weights.
    mean, std
        Normalization of pixels scaled to [0, 1], a number per channel; by default that of
        ``preprocessing``.
    calibration
        For int8 targets: images, or a :class:`gluondense.deploy.Calibration` with more options.
        The export is verified on these images, and the metadata records the quantization error.
    preprocess
        Whether the graph takes pixels (N, H, W, C) from 0 to 255, uint8 or (except ONNX) float32,
        and normalizes them with ``mean`` and ``std``. Only the normalization is in the graph: the
        pixels are those after decoding, resize and crop, as ``Preprocessing.pixels`` returns them.
    output
        ``"logits"``: the network's outputs. ``"probabilities"``: their softmax, or the
        sigmoid of a multi-label network. ``"features"``: the input of the network's last layer,
        (N, C), also the only output of a network of ``classes=0``; not for int8 targets.
        ``"boxes"``, always that of a detector: class indices and scores (N, K, 1), and corners of
        boxes (N, K, 4) in pixels of the input, sorted by score; rows without a box are -1.
    params_dtype
        ``"float16"``: store the weights in half the size; the graph casts them to float32, so that
        any device runs it. Only for ``"portable"``; MXNet 1.4 loads such files with ``Module``
        only. (To compute in float16 on a GPU, call ``net.cast("float16")`` first.)
    preprocessing
        How an image becomes the input: resize, crop, normalization; by default that of the network
        of a run or of published weights, ``net.preprocessing``. Its ``input_size`` is replaced by
        that of ``input_shape``. It is stored in the metadata, and used by
        :func:`gluondense.deploy.predict`, ``gluondense evaluate``, calibration with image files and
        the service of an archive. If it is unknown and only ``mean`` and ``std`` are given, both
        sides of an image are resized; without them it stays unknown.
    task, thresholds
        ``"classification"``, or ``"multi_label"`` with the probability from which on each label is
        present; by default those of the network of a run. ``"detection"`` if the network's graph
        has non-maximum suppression, as GluonCV's detectors have.
    allow_nan
        Whether to export NaN and infinite weights, with a warning, instead of refusing them. The
        verification then compares the finite outputs. Not for int8 targets.

    Raises
    ------
    ValueError
        If an argument is invalid, or the network is not initialized, has weights that are not
        finite, or is not supported by the target.
    OSError
        If the files cannot be written.
    RuntimeError
        If the outputs of the loaded graph differ from those of the network.

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
    check_calibration(target, row.needs_calibration, calibration)
    example = example_input(net, input_shape)
    shapes = [array.shape for array in outputs_of(net, example)]  # also infers deferred shapes
    shape = shapes[0]
    symbol = trace(net)
    detector = split_detector(symbol)
    output = select_output(net, output, class_names, detector is not None)
    names = select_class_names(net, class_names, shape, detector is not None)
    preprocessing = select_preprocessing(net, preprocessing, mean, std, example.shape)
    task, thresholds = select_task(net, task, thresholds, shape, detector is not None)
    pre_post = PrePost(preprocessing, preprocess, output, params_dtype, task)
    pre_post.check(target, row.needs_calibration)
    source, params = pre_post.source(net), parameter_arrays(net)
    check_finite("the network", params.items(), allow_nan and not row.needs_calibration)

    if row.needs_calibration:
        calibration = Calibration.of(calibration).read(example.shape, preprocessing)
        if thresholds is not None:
            calibration = dataclasses.replace(calibration, thresholds=to_logits(thresholds))
        batches = calibration.batches()
    else:
        batches = [pre_post.round_to_pixels(example.asnumpy())]
    tensors: tuple[str, ...] = ()
    boxes = None
    if detector is None:
        expected = pre_post.graph_outputs(all_outputs(source, batches, example.ctx, example.dtype))
        shapes = [array.shape for array in expected]
        symbol = symbol if source is net else trace(source)
        lowered = lower_to(target, symbol, params, example.shape, calibration)
    else:
        network = network_block(detector, params, example.ctx)
        expected = all_outputs(network, batches, example.ctx, example.dtype)
        lowered, tensors = lower_detector(target, net, detector, params, example.shape, calibration)
        if row.needs_calibration:
            boxes = all_outputs(source, batches, example.ctx, example.dtype)
    inputs = [pre_post.graph_input(batch) for batch in batches]
    reference = Reference(example.ctx, example.dtype, inputs, expected, tensors, boxes)
    lowered = pre_post.attach(lowered, portable=target == "portable")
    metadata = ExportMetadata(
        **_registry_row(net),
        target=target,
        input_name=INPUT,
        input_shape=example.shape,
        outputs=output_names(lowered.graph),
        class_names=None if output == "features" else names,
        versions=versions(),
        sha256={},  # known when the files are written
        quantization=lowered.quantization,
        output_shapes=tuple((example.shape[0], *shape[1:]) for shape in shapes),
        preprocessing=preprocessing,
        preprocess=preprocess,
        output=output,
        params_dtype=params_dtype,
        task=task,
        thresholds=None if output == "features" else thresholds,
    )

    files = files_of(target, path)
    with replacing_export(files, target) as new:
        _write(new, lowered, metadata)
        record = verify(new, metadata, reference, calibration, allow_nan)
        write_metadata(new, dataclasses.replace(metadata, quantization=record))
    return files


def parameter_arrays(net: gluon.HybridBlock) -> Params:
    """Return the values of all parameters by name, averaged over the devices."""
    wait_for_reorders()
    return {name: value._reduce().asnumpy() for name, value in net.collect_params().items()}


def _registry_row(net: gluon.HybridBlock) -> dict[str, Any]:
    spec = getattr(net, "spec", None)
    if spec is None or not hasattr(net, "model_name"):
        return {"model": None, "spec": None}
    return {"model": net.model_name, "spec": dataclasses.asdict(spec)}


def _write(files: Files, lowered: Lowered, metadata: ExportMetadata) -> None:
    """Write all files except the metadata."""
    if isinstance(files, OnnxFiles):
        set_metadata(lowered.graph, metadata)
        # Equal models give equal bytes.
        files.model.write_bytes(lowered.graph.SerializeToString(deterministic=True))
        return
    files.symbol.write_text(lowered.graph, encoding="utf-8")
    symbol = mx.sym.load_json(lowered.graph)
    names = {f"arg:{name}": name for name in symbol.list_arguments() if name != INPUT}
    names |= {f"aux:{name}": name for name in symbol.list_auxiliary_states()}
    stored = {key: lowered.params[name] for key, name in names.items()}
    arrays = {k: mx.nd.array(a, ctx=mx.cpu(), dtype=a.dtype) for k, a in stored.items()}
    save_arrays(files.params, arrays)
    if is_native(metadata.target):
        shutil.copy2(build(), files.library)
