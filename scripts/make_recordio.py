# SPDX-License-Identifier: Apache-2.0
"""`gluondense make-recordio` from a checkout."""

from gluondense.commands.make_recordio import main

if __name__ == "__main__":
    raise SystemExit(main())
