# SPDX-License-Identifier: Apache-2.0
"""Inference code for SageMaker's MXNet containers, which take images and arrays.

An archive contains this module and those of ``archive.SERVED`` in its folder ``code``, where the
containers look for ``inference.py``. They run on Python 3.8, so these modules do too. A container
calls :func:`model_fn` once and :func:`transform_fn` for each request. The package
``sagemaker_inference`` is a part of the containers.
"""

from __future__ import annotations

import json
from typing import Any

import mxnet as mx
import numpy as np

from .service import CONTENT_TYPES, RefusedError, Service

# SageMaker's examples send images as this type.
X_IMAGE = "application/x-image"


def model_fn(model_dir: str) -> Service:
    """Load the export in a folder, on the first GPU if it can use one."""
    has_gpus = mx.runtime.Features().is_enabled("CUDA")
    return Service(model_dir, 0 if has_gpus else None, batch_size=1)


def transform_fn(model: Service, data: Any, content_type: str, accept: str) -> Any:
    """Answer a request: the encoded response, or a tuple of it and its content type.

    An image, ``image/*`` or bytes, gets the same answer as from the service of multi-model-server.
    Arrays, ``application/json``, ``text/csv`` or ``application/x-npy``, are inputs of the graph and
    get its outputs, as from the default handler of the containers.
    """
    if (content_type or X_IMAGE).lower().startswith((*CONTENT_TYPES, X_IMAGE)):
        (answer,) = model.answer([{"body": data}])
        if isinstance(answer, RefusedError):
            raise _error(answer)
        return json.dumps(answer), "application/json"
    from sagemaker_inference import decoder, encoder

    array = decoder.decode(data, content_type)
    dtype = "uint8" if array.dtype == "uint8" else "float32"
    outputs = model.graph(np.asarray(array, dtype))  # of a detector: class, score and corners
    return encoder.encode(np.concatenate(outputs, axis=-1), accept)


def _error(refused: RefusedError) -> Exception:
    """Return the containers' exception for a status, as any other becomes status 500."""
    try:
        from sagemaker_inference.errors import BaseInferenceToolkitError
    except ImportError:
        return refused
    error: Exception = BaseInferenceToolkitError(refused.status, str(refused), refused.kind)
    return error
