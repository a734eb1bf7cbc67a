"""The layers of picture networks in NumPy, float64, one pixel or one shift at a time: what the modules are held to.

Kernels are [k, k, C, O] of a convolution C -> O, pictures [B, H, W, C].
"""

import jax
import numpy as np


def random_params(module, *args, **kwargs):
    """Parameters as `module.init` makes them in shape, at random: no bias is 0, no gain is 1."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs))["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: rng.normal(0.1, 0.3, a.shape).astype(np.float32), shapes)


def assert_glorot(params):
    """Every layer as SNGAN and WGAN-GP begin: Glorot's uniform, times sqrt(2) in a block's residual; no bias.

    Of norms the gain is 1; tables of it by label are N(1, 0.02), and of self-modulation all weights N(0, 0.02).
    """
    for path, value in jax.tree.leaves_with_path(params):
        names, mean, std = [k.key for k in path], 0.0, 0.0
        if "Modulation_0" in names:
            std = 0.0 if names[-2:] == ["bias", "embedding"] or names[-1] == "bias" else 0.02
            mean = float(names[-2:] == ["scale", "embedding"])
        elif names[-1] in ("kernel", "embedding"):
            fans = np.prod(value.shape[:-2]) * sum(value.shape[-2:])
            std = np.sqrt((4 if names[-2] in ("conv1", "conv2") else 2) / fans)
            assert np.max(np.abs(value)) <= np.sqrt(3) * std, names
        elif names[-1] == "scale":
            mean = 1.0
        found, error = [np.mean(value), np.std(value)], 4 * std / np.sqrt(value.size)
        np.testing.assert_allclose(found, [mean, std], atol=error, err_msg=str(names))


def to_numpy(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def relu(x, slope=0.0):
    return np.where(x > 0, x, slope * x)


def dense(p, x):
    return x @ p["kernel"] + p.get("bias", 0.0)


def conv(p, x, stride=1):
    """A convolution whose output pixel (i, j) sees the k x k pixels that begin at stride (i, j) - before."""
    kernel = p["kernel"]
    k, sides = kernel.shape[0], x.shape[1:3]
    out = [-(-n // stride) for n in sides]
    total = [max((m - 1) * stride + k - n, 0) for m, n in zip(out, sides, strict=True)]
    x = np.pad(x, ((0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)))
    y = np.zeros((x.shape[0], *out, kernel.shape[-1]))
    for i in range(out[0]):
        for j in range(out[1]):
            seen = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
            y[:, i, j] = np.tensordot(seen, kernel, 3)
    return y + p.get("bias", 0.0)


def conv_transpose(p, y, stride=2):
    """Every pixel of y puts its k x k contributions down; what falls off the padding is cut away."""
    kernel = p["kernel"]
    k, (h, w) = kernel.shape[0], y.shape[1:3]
    x = np.zeros((y.shape[0], (h - 1) * stride + k, (w - 1) * stride + k, kernel.shape[2]))
    for i in range(h):
        for j in range(w):
            x[:, i * stride : i * stride + k, j * stride : j * stride + k] += np.tensordot(y[:, i, j], kernel, (1, 3))
    before = (k - stride) // 2
    return x[:, before : before + h * stride, before : before + w * stride] + p.get("bias", 0.0)


def nearest(x):
    return np.kron(x, np.ones((1, 2, 2, 1)))


def bilinear(x):
    """Pixel centres at i + 1/2; beyond the outermost centre, the outermost pixel."""
    for axis in (1, 2):
        n = x.shape[axis]
        at = np.clip((np.arange(2 * n) + 0.5) / 2 - 0.5, 0, n - 1)
        low = np.floor(at).astype(int)
        high, part = np.minimum(low + 1, n - 1), at - low
        part = part.reshape([-1 if a == axis else 1 for a in range(4)])
        x = (1 - part) * np.take(x, low, axis) + part * np.take(x, high, axis)
    return x


def pool(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def norm(p, x, condition=None):
    """Batch norm of a training batch; p is that of a `ConditionalBatchNorm`, the condition labels or vectors."""
    axes = tuple(range(x.ndim - 1))
    x = (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)
    if condition is None:
        return x * p["norm"]["scale"] + p["norm"]["bias"]
    scale, bias = modulation(p["Modulation_0"], condition)
    return x * scale[:, None, None] + bias[:, None, None]


def modulation(p, condition):
    if condition.ndim == 1:
        return p["scale"]["embedding"][condition], p["bias"]["embedding"][condition]
    if "hidden" in p:
        condition = relu(dense(p["hidden"], condition))
    return 1.0 + dense(p["scale"], condition), dense(p["bias"], condition)


def generator_block(p, x, condition=None, up=nearest):
    h = relu(norm(p["ConditionalBatchNorm_0"], x, condition))
    h = conv(p["conv1"], up(h))
    h = conv(p["conv2"], relu(norm(p["ConditionalBatchNorm_1"], h, condition)))
    return h + conv(p["shortcut"], up(x))


def discriminator_block(p, x, down, first=False):
    h = conv(p["conv1"], x if first else relu(x))
    h = conv(p["conv2"], relu(h))
    shortcut = conv(p["shortcut"], x) if "shortcut" in p else x
    return pool(h + shortcut) if down else h + shortcut


def judge(p, h, label=None):
    logits = dense(p["logit"], h)[:, 0]
    return logits if label is None else logits + (p["projection"]["embedding"][label] * h).sum(-1)
