"""Where the checkout and the shared data are."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("GLUONDENSE_SHARED", ROOT.parent / "shared"))  # may not exist
