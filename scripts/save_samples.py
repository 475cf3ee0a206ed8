# SPDX-License-Identifier: Apache-2.0
"""`gluondense save-samples` from a checkout."""

from gluondense.commands.save_samples import main

if __name__ == "__main__":
    raise SystemExit(main())
