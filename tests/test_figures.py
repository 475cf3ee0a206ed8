"""The committed figures are those that the tables and results give now, and the blocks'."""

from __future__ import annotations

import importlib
import io
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from support.paths import ROOT

import gluondense
from gluondense.blocks.darknet import DarknetBlock
from gluondense.blocks.dense import DenseLayer, Transition
from gluondense.blocks.dual_path import DualPathBlock
from gluondense.blocks.mixer import FeatureMixer
from gluondense.blocks.pelee import TwoWayLayer
from gluondense.models.csp_densenet import FUSIONS

draw = importlib.import_module("dev.draw_figures")
draw_images = importlib.import_module("dev.draw_images")
DRAWN = draw.drawn()
BLOCKS = {
    "dense-layer": lambda: DenseLayer(8, 4),
    "transition": lambda: Transition(8, 4),
    "darknet": lambda: DarknetBlock(8),
    "peleenet": lambda: TwoWayLayer(8, 4, bn_size=1),
    "dual-path": lambda: DualPathBlock(8, 8, 6, 2, groups=2),
    "rdnet": lambda: FeatureMixer(8, 4),
}


@pytest.mark.parametrize("path", sorted(DRAWN), ids=lambda path: path.stem)
def test_a_figure_is_current(path):
    stale = "run python scripts/dev/draw_figures.py"
    assert path.read_text(encoding="utf-8") == DRAWN[path], stale
    ET.fromstring(DRAWN[path])
    assert "\n\n" not in DRAWN[path]  # an empty line would end the block of HTML in a page


def test_every_committed_svg_is_drawn():
    assert set((ROOT / "docs").rglob("*.svg")) == set(DRAWN)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_figure_has_the_convolutions_of_its_block(name):
    nodes = draw.BLOCKS[name].nodes.values()
    shown = [int(size) for node in nodes for size in re.findall(r"Conv (\d)×", node.content)]
    shapes = [parameter.shape for parameter in BLOCKS[name]().collect_params().values()]
    assert shown == [shape[2] for shape in shapes if len(shape) == 4]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_figure_of_a_fusion_has_the_transitions_of_the_network(fusion):
    nodes = draw.BLOCKS[f"csp-{fusion}"].nodes
    net = gluondense.get_model("csp_densenet121", fusion=fusion, block_config=(1, 1))
    children = net.features._children
    assert ("T" in nodes) == (children["stage1"].transition is not None)
    weights = children["transition1"].collect_params()
    assert ("U" in nodes) == any("conv" in name for name in weights)


def test_every_committed_image_is_drawn():
    kinds = {".png", ".jpg", ".jpeg", ".webp", ".gif"}
    found = {path for path in (ROOT / "docs").rglob("*") if path.suffix in kinds}
    assert found == {ROOT / "docs/assets" / name for name in draw_images.IMAGES}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", draw_images.IMAGES)
def test_an_image_is_current(shared, name):
    path = ROOT / "docs/assets" / name
    drawn = draw_images.encoded(draw_images.IMAGES[name](shared), path.suffix)
    old, new = (np.asarray(Image.open(file), float) for file in (path, io.BytesIO(drawn)))
    stale = "run python scripts/dev/draw_images.py SHARED"
    assert old.shape == new.shape, stale
    # Other versions of Pillow and other CPUs round differently; a moved box changes more.
    assert np.abs(old - new).mean() < 0.5, stale


def test_the_feature_reuse_is_that_of_the_weights(shared):
    stored = json.loads(draw_images.REUSE.read_text(encoding="utf-8"))
    for old, new in zip(stored, draw_images.reuse(shared)):
        assert old["readers"] == list(new["readers"])
        values, expected = (np.array(each["shares"], float) for each in (old, new))
        np.testing.assert_allclose(values, expected, atol=0.002)
