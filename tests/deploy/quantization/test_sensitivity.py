"""Selection of the layers that are excluded from quantization."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from gluondense.deploy import Calibration
from gluondense.deploy.quantization.sensitivity import group_by_block, select_excluded

# Two classes: image number i changes its class if the logits are off by more than i + 0.5.
IMAGES = 40
EXPECTED = [np.stack([np.arange(IMAGES) + 0.5, np.zeros(IMAGES)], axis=1).astype("float32")]
# The error that each block of two layers adds.
ERRORS = {"stem": 1, "stage1": 9, "stage2": 2, "stage3": 5, "stage4": 4, "stage5": 3, "stage6": 6}
LAYERS = [f"net_{block}_conv{n}_fwd" for block in ERRORS for n in (1, 2)]


def select(max_changed, exclude=(), required=()):
    """Return the excluded layers, the record, and the number of networks that were built."""
    built = []

    def build(excluded):
        built.append(excluded)
        off = sum(ERRORS[name.split("_")[1]] / 2 for name in LAYERS if name not in excluded)

        def outputs(x):
            first = x[:, 0, 0, 0] + 0.5 - off
            return mx.nd.stack(first, mx.nd.zeros_like(first), axis=1)

        return outputs

    images = np.tile(np.arange(IMAGES, dtype="float32").reshape(-1, 1, 1, 1), (1, 1, 2, 2))
    calibration = Calibration(images, exclude=exclude, max_changed=max_changed)
    excluded, record = select_excluded(LAYERS, calibration, build, EXPECTED, required)
    return excluded, record, len(built)


@pytest.mark.parametrize(
    ("allowed", "blocks"),
    [
        (30, []),
        (29, ["stage1"]),
        (15, ["stage1", "stage6"]),
        (14, ["stage1", "stage6", "stage3"]),
        (7, ["stage1", "stage6", "stage3", "stage4"]),
        (4, ["stage1", "stage6", "stage3", "stage4", "stage5"]),
        (0, list(ERRORS)),
    ],
)
def test_the_fewest_of_the_most_sensitive_blocks_are_excluded(allowed, blocks):
    excluded, record, built = select(allowed / IMAGES)
    assert excluded == {name for name in LAYERS if name.split("_")[1] in blocks}
    left = sum(ERRORS.values()) - sum(ERRORS[block] for block in blocks)
    assert record["agreement"] == 1 - left / IMAGES >= 1 - allowed / IMAGES
    assert record["kept"] == [name for name in LAYERS if name in excluded]
    assert (record["layers"], record["images"]) == (14, IMAGES)
    # One without exclusions, one for each block, and the search: 1, 2, 4, 7 and bisection.
    assert built <= 1 + len(ERRORS) + 6 if blocks else built == 1


def test_required_and_named_layers_are_excluded():
    excluded, record, _ = select(1, ("*stage1_conv1*", "*stem*"), {"net_stage2_conv2_fwd"})
    names = ("stem_conv1", "stem_conv2", "stage1_conv1", "stage2_conv2")
    assert record["kept"] == [f"net_{name}_fwd" for name in names]
    assert excluded == set(record["kept"])
    assert select(0, ("*",))[0] == set(LAYERS)


def test_a_pattern_without_a_layer_is_named():
    with pytest.raises(ValueError, match=r"exclude \(='conv9'\) is the name of no layer; some are"):
        select(1, ("conv9",))


def test_layers_are_grouped_by_block():
    names = ["net_stem_conv_fwd", "net_stage1_conv1_fwd", "net_stage1_conv2_fwd", "other"]
    assert group_by_block(names) == {
        "net_stem": {"net_stem_conv_fwd"},
        "net_stage1": {"net_stage1_conv1_fwd", "net_stage1_conv2_fwd"},
        "other": {"other"},
    }
    assert group_by_block(["net_a_fwd", "net_b_fwd"]) == {
        "net_a_fwd": {"net_a_fwd"},
        "net_b_fwd": {"net_b_fwd"},
    }
    assert group_by_block([]) == {}
