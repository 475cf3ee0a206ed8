"""The necks in plain NumPy, written from docs/detectors.md."""

from __future__ import annotations

import numpy as np

from support.reference import below, conv_norm_relu, pad, sigmoid, windows


def unit(x, parameters, stride=1):
    return conv_norm_relu(x, parameters, slope=0.1, stride=stride)


def maxout(x, groups=2):
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).max(1)


def attention(x, parameters):
    return x * sigmoid(conv_norm_relu(x, below(parameters, "gate"), act=False))


def space_to_depth(x, block):
    """Each channel of the output is a subsampled channel of the input."""
    places = [(i, j) for i in range(block) for j in range(block)]
    return np.concatenate([x[:, :, i::block, j::block] for i, j in places], 1)


def upsample(x, factor):
    return np.kron(x, np.ones((1, 1, factor, factor)))


def spp(x, parameters):
    x = unit(x, below(parameters, "reduce"))
    pools = [windows(pad(x, k // 2, -np.inf), k, 1).max((4, 5)) for k in (5, 9, 13)]
    return unit(np.concatenate([x, *pools], 1), below(parameters, "fuse"))


def head(x, parameters, depth):
    body = below(parameters, "body")
    for index in range(1, depth):
        x = unit(unit(x, below(body, f"reduce{index}")), below(body, f"expand{index}"))
    if "attention.gate.conv.weight" in body:
        x = attention(x, below(body, "attention"))
    route = unit(x, below(body, f"reduce{depth}"))
    return unit(route, below(parameters, "expand")), route


def moved(x, source, target, parameters):
    """Resample a map to the stride of another scale."""
    if source == target:
        return x
    x = unit(x, below(parameters, f"resample.from{source}to{target}.unit"))
    if source > target:
        return upsample(x, source // target)
    return space_to_depth(x, target // source)


def fpn(maps, parameters, depth):
    outputs, x = [], maps[32]
    for stride in (32, 16, 8):
        out, route = head(x, below(parameters, f"head.stride{stride}"), depth)
        outputs.append(out)
        if stride > 8:
            up = moved(route, stride, stride // 2, parameters)
            x = np.concatenate([up, maps[stride // 2]], 1)
    return outputs


def gather(maps, parameters, depth, sources):
    laterals = {}
    for stride in {s for each in sources.values() for s in each}:
        weights = below(parameters, f"lateral.stride{stride}.unit")
        source, step = (maps[32], 2) if stride == 64 else (maps[stride], 1)
        laterals[stride] = maxout(unit(source, weights, step))
    outputs = []
    for target in (32, 16, 8):
        h, w = maps[target].shape[2:]
        parts = [moved(laterals[s], s, target, parameters)[:, :, :h, :w] for s in sources[target]]
        fused = np.concatenate(parts, 1)
        outputs.append(head(fused, below(parameters, f"head.stride{target}"), depth)[0])
    return outputs


def gfm(maps, parameters, depth):
    return gather(maps, parameters, depth, dict.fromkeys((8, 16, 32), (8, 16, 32)))


def efm(maps, parameters, depth):
    sources = {8: (4, 8, 16), 16: (8, 16, 32), 32: (16, 32, 64)}
    return gather(maps, parameters, depth, sources)


NECKS = {"fpn": fpn, "gfm": gfm, "efm": efm}


def neck(fusion, maps, parameters, depth=2):
    if "spp.reduce.conv.weight" in parameters:
        maps = {**maps, 32: spp(maps[32], below(parameters, "spp"))}
    return NECKS[fusion](maps, parameters, depth)
