# SPDX-License-Identifier: Apache-2.0
"""`gluondense convert` from a checkout."""

from gluondense.commands.convert_weights import main

if __name__ == "__main__":
    raise SystemExit(main())
