# SPDX-License-Identifier: Apache-2.0
"""`gluondense experiment` from a checkout."""

from gluondense.commands.experiment import main

if __name__ == "__main__":
    raise SystemExit(main())
