# SPDX-License-Identifier: Apache-2.0
"""`gluondense predict` from a checkout."""

from gluondense.commands.predict import main

if __name__ == "__main__":
    raise SystemExit(main())
