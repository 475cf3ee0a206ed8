# SPDX-License-Identifier: Apache-2.0
"""`gluondense demo` from a checkout."""

from gluondense.commands.demo import main

if __name__ == "__main__":
    raise SystemExit(main())
