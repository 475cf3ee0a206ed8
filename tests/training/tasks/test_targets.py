from __future__ import annotations

import numpy as np

from gluondense.training.tasks.targets import soft_labels


def test_soft_labels_sum_to_one_and_keep_the_class():
    rows = soft_labels(np.array([2, 0]), 5, 0.1)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
    assert rows.argmax(axis=1).tolist() == [2, 0]
    assert rows.dtype == np.float32
