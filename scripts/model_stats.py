# SPDX-License-Identifier: Apache-2.0
"""`gluondense stats` from a checkout."""

from gluondense.commands.model_stats import main

if __name__ == "__main__":
    raise SystemExit(main())
