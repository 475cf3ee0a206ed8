"""Export of networks to files that MXNet or ONNX runtimes load without gluondense."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from ..data.transforms.batch import normalize
from ..graph.ir import Lowered, Params
from ..graph.trace import INPUT, trace
from ..models.network import Network
from ..native.build import build
from ..version import versions
from .artifact import ExportMetadata, import_block, write_metadata
from .artifact_files import ExportedFiles, Files, OnnxFiles, files_of, is_native, replacing_export
from .export_arguments import (
    check_calibration,
    example_input,
    select_class_names,
    select_normalization,
)
from .onnx.convert import save, set_metadata
from .outputs import all_outputs, outputs_of
from .pre_post import PrePost
from .quantization.calibration import Calibration
from .targets import Target, get_target
from .verification import TOLERANCE, check_close, check_quantized


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
        ``"native_bf16"``: as ``"native"``, but 1x1 convolutions multiply in bfloat16 and accumulate
        in float32 on processors with AVX512_BF16; on others as ``"native"``. The parameters stay
        float32.
        ``"int8"``: as ``"onednn"``, with int8 layers; sensitive layers stay in float32. Needs
        ``calibration``.
        ``"native_int8"``: as ``"native"``, with all layers in int8. Needs ``calibration``.
        ``"onnx"``: one file ``{path}.onnx`` of opset 13 instead of the two of MXNet, for ONNX
        Runtime, OpenVINO, TensorRT and others; float32 networks only. Requires the packages of
        ``gluondense[onnx]``. N, H and W are dynamic.
        ``"onnx_int8"``: the same with int8 layers as QuantizeLinear and DequantizeLinear pairs
        (QDQ) and weights with a scale per filter; sensitive layers stay in float32. Needs
        ``calibration``.
    class_names
        A label for each output; by default the classes of the loaded published weights.
    mean, std
        Normalization of pixels scaled to [0, 1], a number per channel; by default that of the
        loaded published weights.
    calibration
        For int8 targets: images, or a :class:`gluondense.deploy.Calibration` with more options.
        The export is verified on these images, and the metadata records the quantization error.
    preprocess
        Whether the graph takes pixels (N, H, W, C) from 0 to 255, uint8 or (except ONNX) float32,
        and normalizes them with ``mean`` and ``std``.
    output
        ``"logits"``: the network's outputs. ``"probabilities"``: their softmax. ``"features"``: the
        input of the network's last layer, (N, C); not for int8 targets.
    params_dtype
        ``"float16"``: store the weights in half the size; the graph casts them to float32, so that
        any device runs it. Only for ``"portable"``; MXNet 1.4 loads such files with ``Module``
        only. (To compute in float16 on a GPU, call ``net.cast("float16")`` first.)

    Raises
    ------
    ValueError
        If an argument is invalid, or the network is not initialized or not supported by the target.
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
    pre_post = PrePost(preprocess, output, params_dtype)
    example = example_input(net, input_shape)
    shape = outputs_of(net, example)[0].shape  # also infers the shapes of deferred parameters
    names = select_class_names(net, class_names, shape)
    mean, std = select_normalization(net, mean, std, example.shape[1])
    pre_post.check(target, row.needs_calibration, mean, std)
    job = _Export(net, target, row, pre_post, example, names, mean or (), std or ())

    if row.needs_calibration:
        calibration = Calibration.of(calibration).read(example.shape, mean, std)
    batches = calibration.batches() if calibration is not None else [job.example_batch()]
    expected = job.expected_outputs(batches)
    lowered = job.lower(calibration)
    metadata = job.metadata(lowered, expected)
    files = files_of(target, path)
    with replacing_export(files, target) as new:
        _write(new, lowered, metadata)
        error = job.verify(new, batches, expected, calibration)
        if error:
            record = {**(metadata.quantization or {}), **error}
            metadata = dataclasses.replace(metadata, quantization=record)
        write_metadata(new, metadata)
    return files


@dataclasses.dataclass(frozen=True, eq=False)
class _Export:
    """The validated arguments of an export, and the steps that depend on them.

    Parameters
    ----------
    net
        The network.
    target, row
        Name and row of the target.
    pre_post
        Pre- and post-processing in the graph.
    example
        A random input (N, C, H, W) on the network's device.
    class_names
        A label for each output, if known.
    mean, std
        A number per channel; empty if unknown.
    """

    net: gluon.HybridBlock
    target: str
    row: Target
    pre_post: PrePost
    example: mx.nd.NDArray
    class_names: tuple[str, ...] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def example_batch(self) -> np.ndarray:
        """Return the example input, rounded to values that pixels can have with ``preprocess``."""
        batch = self.example.asnumpy()
        if self.pre_post.preprocess:
            pixels = self.pre_post.graph_input(batch, self.mean, self.std)
            batch = normalize(pixels, self.mean, self.std)
        return batch

    def expected_outputs(self, batches: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Compute the outputs that the graph has to give."""
        source, x = self.pre_post.source(self.net), self.example
        return self.pre_post.graph_outputs(all_outputs(source, batches, x.ctx, x.dtype))

    def lower(self, calibration: Calibration | None) -> Lowered:
        """Lower the network to the target and attach the pre- and post-processing."""
        symbol = trace(self.pre_post.source(self.net))
        params = parameter_arrays(self.net)
        arguments = () if calibration is None else (calibration,)
        lowered = self.row.lower(symbol, params, self.example.shape, *arguments)
        return self.pre_post.attach(lowered, self.mean, self.std, self.target == "portable")

    def metadata(self, lowered: Lowered, expected: Sequence[np.ndarray]) -> ExportMetadata:
        """Describe the export; checksums are added when the files are written."""
        known, shape = isinstance(self.net, Network), self.example.shape
        return ExportMetadata(
            model=self.net.model_name if known else None,
            spec=dataclasses.asdict(self.net.spec) if known else None,
            target=self.target,
            input_name=INPUT,
            input_shape=shape,
            outputs=_output_names(lowered.graph),
            class_names=None if self.pre_post.output == "features" else self.class_names,
            mean=self.mean or None,
            std=self.std or None,
            versions=versions(),
            sha256={},
            quantization=lowered.quantization,
            output_shapes=tuple((shape[0], *array.shape[1:]) for array in expected),
            **dataclasses.asdict(self.pre_post),
        )

    def verify(
        self,
        files: Files,
        batches: Sequence[np.ndarray],
        expected: Sequence[np.ndarray],
        calibration: Calibration | None,
    ) -> dict[str, Any]:
        """Load the files, compare their outputs, and return the quantization error, if any."""
        ctx = self.example.ctx if self.target == "portable" else mx.cpu()
        inputs = [self.pre_post.graph_input(batch, self.mean, self.std) for batch in batches]
        dtype = inputs[0].dtype if self.pre_post.preprocess else self.example.dtype
        outputs = all_outputs(import_block(files, ctx), inputs, ctx, dtype)
        if calibration is not None:
            excludes = self.row.excludes_layers
            return dataclasses.asdict(check_quantized(outputs, expected, calibration, excludes))
        stored = self.pre_post.params_dtype
        stored = self.example.dtype if stored == "float32" else stored
        check_close(outputs, expected, self.row.tolerance or TOLERANCE[np.dtype(stored).name])
        return {}


def parameter_arrays(net: gluon.HybridBlock) -> Params:
    """Return the values of all parameters by name, averaged over the devices."""
    return {name: value._reduce().asnumpy() for name, value in net.collect_params().items()}


def _output_names(graph: Any) -> tuple[str, ...]:
    if isinstance(graph, str):
        return tuple(mx.sym.load_json(graph).list_outputs())
    return tuple(output.name for output in graph.graph.output)


def _write(files: Files, lowered: Lowered, metadata: ExportMetadata) -> None:
    if isinstance(files, OnnxFiles):
        set_metadata(lowered.graph, metadata)
        save(lowered.graph, files.model)
    else:
        _write_mxnet(files, lowered)
        if is_native(metadata.target):
            shutil.copy2(build(), files.library)


def _write_mxnet(files: ExportedFiles, lowered: Lowered) -> None:
    files.symbol.write_text(lowered.graph, encoding="utf-8")
    symbol = mx.sym.load_json(lowered.graph)
    kinds = {"arg": symbol.list_arguments(), "aux": symbol.list_auxiliary_states()}
    arrays = {
        f"{kind}:{name}": mx.nd.array(
            lowered.params[name], ctx=mx.cpu(), dtype=lowered.params[name].dtype
        )
        for kind, names in kinds.items()
        for name in names
        if name != INPUT
    }
    mx.nd.save(str(files.params), arrays)
