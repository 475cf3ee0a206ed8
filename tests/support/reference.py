"""What blocks are compared with: their layers in plain NumPy, written from the formulas."""

from __future__ import annotations

import math

import mxnet as mx
import numpy as np

RANGES = {  # none of them holds a default, so a parameter that is not used is seen
    "gamma": (0.6, 0.9),
    "beta": (0.1, 0.4),
    "running_mean": (-0.3, -0.1),
    "running_var": (1.2, 1.8),
    "bias": (0.1, 0.3),
    "factor": (0.3, 0.7),
}


def randomize(block: mx.gluon.Block, seed: int = 0) -> mx.gluon.Block:
    """Initialize a block with no parameter at its default."""
    mx.random.seed(seed)
    rng = np.random.RandomState(seed)
    block.initialize(mx.init.MSRAPrelu("in", slope=0), force_reinit=True)
    for name, parameter in block.collect_params().items():
        for end, limits in RANGES.items():
            if name.endswith(end):
                parameter.set_data(mx.nd.array(rng.uniform(*limits, parameter.shape)))
    return block


def arrays(block: mx.gluon.Block) -> dict[str, np.ndarray]:
    """Return the parameters by the names that ``save_parameters`` uses, in double precision."""
    return {
        name: parameter.data().asnumpy().astype(np.float64)
        for name, parameter in block._collect_params_with_prefix().items()
    }


def below(parameters: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the parameters of a child."""
    start = len(prefix) + 1
    return {name[start:]: p for name, p in parameters.items() if name.startswith(f"{prefix}.")}


def images(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def assert_close(actual, expected, tolerance: float = 1e-5) -> None:
    """Compare relative to the largest value: single precision says no more of a sum."""
    actual, expected = (
        array.asnumpy() if isinstance(array, mx.nd.NDArray) else np.asarray(array)
        for array in (actual, expected)
    )
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def leaky_relu(x: np.ndarray, slope: float) -> np.ndarray:
    return np.where(x > 0, x, slope * x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def windows(x: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """Return ``(N, C, H', W', kernel, kernel)``."""
    views = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))
    return views[:, :, ::stride, ::stride]


def pad(x: np.ndarray, width: int, value: float = 0.0) -> np.ndarray:
    sides = ((0, 0), (0, 0), (width, width), (width, width))
    return np.pad(x, sides, constant_values=value)


def conv(x, weight, bias=None, stride=1, padding=None, groups=1) -> np.ndarray:
    kernel = weight.shape[-1]
    patches = windows(pad(x, kernel // 2 if padding is None else padding), kernel, stride)
    parts = [
        np.einsum("nchwij,ocij->nohw", part, part_weight, optimize=True)
        for part, part_weight in zip(np.split(patches, groups, 1), np.split(weight, groups, 0))
    ]
    return np.concatenate(parts, 1) + (0 if bias is None else bias[:, None, None])


def norm(x, parameters, eps) -> np.ndarray:
    gamma, beta, mean, var = (
        parameters[name][:, None, None] for name in ("gamma", "beta", "running_mean", "running_var")
    )
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def layer_norm(x, parameters, eps) -> np.ndarray:
    mean, var = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    gamma, beta = (parameters[name][:, None, None] for name in ("gamma", "beta"))
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def norm_relu_conv(x, parameters, suffix="", eps=1e-5, **kwargs) -> np.ndarray:
    x = relu(norm(x, below(parameters, f"norm{suffix}"), eps))
    weights = below(parameters, f"conv{suffix}")
    return conv(x, weights["weight"], weights.get("bias"), **kwargs)


def conv_norm_relu(x, parameters, slope=0.0, eps=1e-5, act=True, **kwargs) -> np.ndarray:
    x = norm(conv(x, parameters["conv.weight"], **kwargs), below(parameters, "norm"), eps)
    return leaky_relu(x, slope) if act else x


def avg_pool(x: np.ndarray, kernel: int = 2, stride: int = 2) -> np.ndarray:
    return windows(x, kernel, stride).mean((4, 5))


def max_pool(x: np.ndarray) -> np.ndarray:
    return windows(pad(x, 1, -np.inf), 3, 2).max((4, 5))


def dense_layer(x, parameters, eps=1e-5) -> np.ndarray:
    new = x
    for suffix in ("1", "2"):
        if f"conv{suffix}.weight" in parameters:
            new = norm_relu_conv(new, parameters, suffix, eps)
    if "attention.fc1.weight" in parameters:
        new = squeeze_excite(new, below(parameters, "attention"))
    return np.concatenate([x, new], 1)


def dense_block(x, parameters, eps=1e-5) -> np.ndarray:
    for index in range(1, 1 + len({name.split(".")[0] for name in parameters if "layer" in name})):
        x = dense_layer(x, below(parameters, f"layer{index}"), eps)
    return x


def squeeze_excite(x, parameters) -> np.ndarray:
    hidden = relu(x.mean((2, 3)) @ parameters["fc1.weight"].T + parameters["fc1.bias"])
    gate = sigmoid(hidden @ parameters["fc2.weight"].T + parameters["fc2.bias"])
    return x * gate[:, :, None, None]


def effective_squeeze_excite(x, parameters) -> np.ndarray:
    weight = parameters["fc.weight"][:, :, 0, 0]
    gate = np.clip(x.mean((2, 3)) @ weight.T / 6 + parameters["fc.bias"] / 6 + 0.5, 0, 1)
    return x * gate[:, :, None, None]


def feature_mixer(x, parameters, eps=1e-6) -> np.ndarray:
    new = conv(x, parameters["conv1.weight"], parameters["conv1.bias"], groups=x.shape[1])
    new = layer_norm(new, below(parameters, "norm"), eps)
    new = conv(new, parameters["conv2.weight"], parameters["conv2.bias"])
    new = new * (1 + np.vectorize(math.erf)(new / math.sqrt(2))) / 2
    new = conv(new, parameters["conv3.weight"], parameters["conv3.bias"])
    if "attention.fc.weight" in parameters:
        new = effective_squeeze_excite(new, below(parameters, "attention"))
    return np.concatenate([x, new * parameters["scale.factor"][:, None, None]], 1)


def path_weights(first, second, parameters) -> tuple[np.ndarray, np.ndarray]:
    mean = np.concatenate([first, second], 1).mean((2, 3))
    scores = np.exp(mean @ parameters["fc.weight"].T + parameters["fc.bias"])
    weights = 2 * scores / scores.sum(1, keepdims=True)
    return first * weights[:, :1, None, None], second * weights[:, 1:, None, None]


def dual_path_block(residual, dense, parameters, groups, stride=1, eps=1e-3):
    """Return the two paths; ``dense`` is None where the block projects."""
    x = residual if dense is None else np.concatenate([residual, dense], 1)
    out = norm_relu_conv(x, below(parameters, "conv_a"), eps=eps)
    out = norm_relu_conv(out, below(parameters, "conv_b"), eps=eps, stride=stride, groups=groups)
    out = norm_relu_conv(out, below(parameters, "conv_c"), eps=eps)
    if "se.fc1.weight" in parameters:
        out = squeeze_excite(out, below(parameters, "se"))
    if dense is None:
        both = norm_relu_conv(x, below(parameters, "projection"), eps=eps, stride=stride)
        # projection: bw + 2 inc, bottleneck: bw + inc
        increment = both.shape[1] - out.shape[1]
        residual, dense = both[:, : -2 * increment], both[:, -2 * increment :]
    width = residual.shape[1]
    added, appended = out[:, :width], out[:, width:]
    if "path.fc.weight" in parameters:
        added, appended = path_weights(added, appended, below(parameters, "path"))
    return residual + added, np.concatenate([dense, appended], 1)


def residual_block(x, parameters, groups=1, slope=0.0, eps=1e-5) -> np.ndarray:
    out = conv_norm_relu(x, below(parameters, "conv1"), slope, eps)
    out = conv_norm_relu(out, below(parameters, "conv2"), slope, eps, groups=groups)
    out = conv_norm_relu(out, below(parameters, "conv3"), eps=eps, act=False)
    if "attention.fc1.weight" in parameters:
        out = squeeze_excite(out, below(parameters, "attention"))
    return leaky_relu(x + out, slope)


def csp_residual_stage(x, parameters, bypass, groups=1, slope=0.0, eps=1e-5, stride=1):
    """Run a stage of CSPResNet; ``bypass`` channels go around the residual blocks."""
    if "down.conv.weight" in parameters:
        down = below(parameters, "down")
        x = conv_norm_relu(x, down, slope, eps, groups=groups, stride=stride)
    x = conv_norm_relu(x, below(parameters, "expand"), eps=eps, act=False)
    kept, part = x[:, :bypass], x[:, bypass:]
    csp = below(parameters, "csp")
    for index in range(1, 1 + len({n.split(".")[1] for n in csp if n.startswith("block.")})):
        part = residual_block(part, below(csp, f"block.block{index}"), groups, slope, eps)
    part = conv_norm_relu(part, below(csp, "transition"), slope, eps)
    if "attention.fc.weight" in csp:
        kept, part = path_weights(kept, part, below(csp, "attention"))
    x = np.concatenate([kept, part], 1)
    return conv_norm_relu(x, below(parameters, "transition"), slope, eps)
