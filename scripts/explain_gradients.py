# SPDX-License-Identifier: Apache-2.0
"""`gluondense explain gradients` from a checkout."""

from gluondense.commands.explain.gradients import main

if __name__ == "__main__":
    raise SystemExit(main())
