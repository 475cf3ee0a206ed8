"""Every reader refuses damaged files with one line that names the file, soon and in little memory.

`make test-faults` is the short form; ``--minutes`` and ``--fuzz-seed`` make it long and different.
"""

from __future__ import annotations

import pytest
from fuzz.worker import READERS


# The share of the other tests' time is theirs; these have as much, together.
@pytest.mark.faults(share=0)
@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_read_or_refused(fuzz, reader):
    result = fuzz(reader)
    assert result["inputs"] >= 20
    found = [
        f"{result['times'][place]} of {result['inputs']:,} inputs: {place}\n{details}"
        for place, details in result["defects"].items()
    ]
    assert not found, "\n".join(found)
