# SPDX-License-Identifier: Apache-2.0
"""`gluondense detection anchors` from a checkout."""

from gluondense.commands.detection.anchors import main

if __name__ == "__main__":
    raise SystemExit(main())
