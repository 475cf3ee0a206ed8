# SPDX-License-Identifier: Apache-2.0
"""Serve a native export with BentoML: the classes or labels of an image, without MXNet.

GLUONDENSE_EXPORT is the export's prefix. docs/serving.md has the commands.
"""

import os
from pathlib import Path
from typing import Any, Optional

import bentoml
from bentoml.exceptions import InvalidArgument

from gluondense import runtime
from gluondense.deploy import predict


@bentoml.service(workers=1)  # one request at a time: the network uses all cores
class Classifier:
    """Preprocessing and answers are those of ``gluondense predict``."""

    def __init__(self) -> None:
        self.network = runtime.load(os.environ["GLUONDENSE_EXPORT"])

    @bentoml.api
    def predict(self, image: Path, top: Optional[int] = None) -> dict[str, Any]:
        """Return the most probable classes, by default 5, or all labels of a multi-label net."""
        try:
            (found,) = predict(self.network, [image], top=top)
        except ValueError as error:  # not an image, a truncated one, or an invalid `top`
            raise InvalidArgument(str(error).replace(str(image), image.name)) from None
        answer = found.to_dict()
        del answer["image"]  # a temporary file
        return answer
