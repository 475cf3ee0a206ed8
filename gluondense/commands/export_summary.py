# SPDX-License-Identifier: Apache-2.0
"""What `gluondense export` prints about an export."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mxnet import gluon

    from ..deploy.artifact_files import Files
    from ..deploy.metadata import ExportMetadata
    from ..evaluation.model import EvaluatedModel
    from ..training.data import Data

_WIDTH = 100  # columns of the list of layers


def file_lines(title: str, files: Files) -> list[str]:
    """List the files and the code that loads them."""
    from ..deploy.artifact_files import OnnxFiles, content_files, is_native
    from ..deploy.metadata import read_metadata

    metadata = read_metadata(files.metadata)
    batch, channels, *sides = shape = metadata.input_shape
    dtype, argument = "float32", ""
    if metadata.preprocess:
        shape, dtype, argument = (batch, *sides, channels), "uint8", ", dtype='uint8'"
    lines = [f"{title}, checked by loading it back:"]
    for file in (*content_files(files, metadata.target).values(), files.metadata):
        lines.append(f"  {file} ({file.stat().st_size:,} bytes)")
    if isinstance(files, OnnxFiles):
        code = [
            "import numpy as np, onnxruntime",
            f"session = onnxruntime.InferenceSession('{files.model}')",
            f"outputs = session.run(None, {{'data': np.zeros({shape}, '{dtype}')}})",
        ]
    else:
        code = [
            "import mxnet as mx",
            f"net = mx.gluon.SymbolBlock.imports('{files.symbol}', ['data'], '{files.params}')",
            f"outputs = net(mx.nd.zeros({shape}{argument}))",
        ]
        if is_native(metadata.target):
            code.insert(1, f"mx.library.load('{files.library.resolve()}')")
    runtime = "ONNX Runtime" if isinstance(files, OnnxFiles) else "stock MXNet"
    return [*lines, f"Load it in {runtime}:", *(f"  {line}" for line in code)]


def quantization_lines(metadata: ExportMetadata) -> list[str]:
    """Report the quantization error and the layers that stay in float32."""
    from ..deploy.quantization.metrics import QuantizationMetrics

    record = metadata.quantization
    assert record is not None  # of an int8 target
    kept = record["kept"]
    lines = [
        f"Calibrated with {record['images']} images ({record['method']}); "
        f"{len(kept)} of {record['layers']} layers stay in float32; "
        f"{QuantizationMetrics(record['error'], record['agreement'])}."
    ]
    if kept:
        prefix = f"{metadata.model}_"
        names = (name[len(prefix) :] if name.startswith(prefix) else name for name in kept)
        text = ", ".join(name[: -len("_fwd")] if name.endswith("_fwd") else name for name in names)
        lines += textwrap.wrap(f"In float32: {text}.", _WIDTH, subsequent_indent="  ")
    return lines


def accuracy_line(model: EvaluatedModel, block: gluon.Block, data: Data) -> str:
    """Evaluate a model and its int8 export on the test set; return the scores of both."""
    from ..evaluation.evaluate import evaluate_model
    from ..training.devices import find_devices

    model = replace(model, preprocessing=block.metadata.preprocessing)
    batch_size = model.config.batch_size if model.config else 32
    (name, before), (_, after) = (
        evaluate_model(each, data, find_devices(()), batch_size=batch_size).score
        for each in (model, replace(model, net=block))
    )
    return (
        f"{name} over all {data.test_count:,} test images of {data.info.name}: "
        f"{before:.2%} in float32, {after:.2%} in int8 ({100 * (after - before):+.2f} points)."
    )
