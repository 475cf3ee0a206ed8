# SPDX-License-Identifier: Apache-2.0
"""Import MXNet, try each GPU, and print the findings as JSON.

``python -m gluondense.doctor.probe`` runs in another process, because MXNet or a driver may end it.
"""

from __future__ import annotations

import json
from typing import Any, Optional


def main() -> None:
    """Print the findings."""
    import mxnet as mx

    from ..environment.process import patches

    findings = {
        "version": mx.__version__,
        "features": [row.name for row in mx.runtime.feature_list() if row.enabled],
        "patches": patches(),
        "gpus": try_gpus(mx),
        "native": native_operator(),
    }
    print(json.dumps(findings))


def try_gpus(mx: Any) -> list[Optional[str]]:
    """Return for each GPU that MXNet finds why it cannot compute there, or None."""
    from ..environment.gpu import gpu_problem

    if not mx.runtime.Features().is_enabled("CUDA"):
        return []
    try:
        return [gpu_problem(n) or error_on(mx, n) for n in range(mx.context.num_gpus())]
    except mx.MXNetError as error:
        return [str(error).strip().splitlines()[-1]]


def error_on(mx: Any, number: int) -> Optional[str]:
    """Return why a small convolution fails on a GPU, or None; it uses CUDA and cuDNN."""
    try:
        data, weight = (mx.nd.ones(shape, ctx=mx.gpu(number)) for shape in ((1, 4, 8, 8),) * 2)
        weight = weight.reshape((4, 4, 4, 4))
        mx.nd.Convolution(data, weight, kernel=(4, 4), num_filter=4, no_bias=True).asnumpy()
    except mx.MXNetError as error:
        return str(error).strip().splitlines()[-1]
    return None


def native_operator() -> dict[str, Any]:
    """Return compiler and instruction sets of the native operator, and if it is built."""
    from ..native.build import CompilerError, find_compiler, instruction_sets, library_path

    try:
        compiler = find_compiler()
    except CompilerError as error:
        return {"error": str(error)}
    sets, built = instruction_sets(compiler), library_path().exists()
    return {"compiler": " ".join(compiler), "sets": sets, "built": built}


if __name__ == "__main__":
    main()
