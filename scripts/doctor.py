# SPDX-License-Identifier: Apache-2.0
"""`gluondense doctor` from a checkout."""

from gluondense.commands.doctor import main

if __name__ == "__main__":
    raise SystemExit(main())
