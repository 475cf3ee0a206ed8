# SPDX-License-Identifier: Apache-2.0
"""`gluondense explain reuse` from a checkout."""

from gluondense.commands.explain.reuse import main

if __name__ == "__main__":
    raise SystemExit(main())
