# SPDX-License-Identifier: Apache-2.0
"""`gluondense export` from a checkout."""

from gluondense.commands.export import main

if __name__ == "__main__":
    raise SystemExit(main())
