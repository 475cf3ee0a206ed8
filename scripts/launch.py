# SPDX-License-Identifier: Apache-2.0
"""`gluondense launch` from a checkout."""

from gluondense.commands.launch import main

if __name__ == "__main__":
    raise SystemExit(main())
