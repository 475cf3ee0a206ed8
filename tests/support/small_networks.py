"""A small network of each family, two stages deep."""

from __future__ import annotations

DENSE = {"growth_rate": 6, "num_init_features": 10, "block_config": (1, 2)}
DUAL = {
    "num_init_features": 6,
    "num_blocks": (1, 2),
    "increments": (3, 4),
    "bottleneck_width": 8,
    "residual_width": 8,
    "groups": 4,
}
RESIDUAL = {"num_init_features": 6, "num_blocks": (1, 2), "widths": (8, 12), "groups": 2}
MIXING = {
    "num_init_features": 16,
    "num_blocks": (1, 2),
    "growth_rates": (8, 16),
    "num_layers": 1,
    "squeeze_excite_from": 2,
}
DARK = {
    "num_init_features": 6,
    "num_blocks": (1, 2),
    "widths": (8, 12),
    "bottleneck_ratios": (0.5, 1.0),
    "expand_ratios": (2.0, 1.0),
}
TWO_WAY = {"growth_rate": 6, "num_init_features": 10, "block_config": (1, 2), "bn_sizes": (1, 2)}
FAMILIES = {
    "densenet121": DENSE,
    "csp_densenet121": DENSE,
    "dpn92": DUAL,
    "csp_resnext50": RESIDUAL,
    "rdnet_tiny": MIXING,
    "csp_darknet53": DARK,
    "csp_peleenet": TWO_WAY,
}
BATCH_NORMALIZED = [name for name in FAMILIES if name != "rdnet_tiny"]
