# SPDX-License-Identifier: Apache-2.0
"""Build the native operator: ``python -m gluondense.native``."""

import sys

from .build import CompilerError, build

if __name__ == "__main__":
    try:
        print(f"native operator: {build()}")
    except (CompilerError, OSError) as error:
        sys.exit(f"no native operator: {error}")
