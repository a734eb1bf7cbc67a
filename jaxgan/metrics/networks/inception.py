"""Inception-v3 of 2015-12-05, the network behind FID, KID and the Inception Score; nothing else gives their numbers.

It is not the Inception-v3 of later model collections: 1008 outputs, other weights, average pools that leave padding out
of the mean (5b to 5d, 6b to 6e, 7b), and in the last block, 7c, a max pool where 7b has an average: an oddity
of the released graph, which every faithful re-creation repeats.

Plain functions over a dictionary of parameters; float32 throughout, convolutions at full precision (bfloat16 changes
the features by 0.4 % and FID by 0.1 % and more). Agreement with torch-fidelity: tests/metrics/test_inception.py.

References:
    Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2015;
    Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017 (FID).

Conventions: layers are named as in PyTorch's files (torchvision, pytorch-fid, torch-fidelity), features as in
torch-fidelity: the channels' means after the two max pools ("64", "192"), after 6e ("768") and at the end ("2048").
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

SIZE = 299  # a side of the pictures
FEATURES = 2048
CLASSES = 1008
EPSILON = 1e-3  # of the batch normalisations

Params = dict[str, dict[str, jax.Array]]


class Layer(NamedTuple):
    """A convolution without bias, a batch normalisation with running statistics, ReLU."""

    tf: str  # its name in TensorFlow's graph
    kernel: tuple[int, int, int, int]  # height, width, channels in, channels out
    stride: int = 1
    padded: bool = True  # so that with stride 1 the size stays; else not at all


def _layers() -> dict[str, Layer]:
    layers = {
        "Conv2d_1a_3x3": Layer("conv", (3, 3, 3, 32), 2, False),
        "Conv2d_2a_3x3": Layer("conv_1", (3, 3, 32, 32), 1, False),
        "Conv2d_2b_3x3": Layer("conv_2", (3, 3, 32, 64)),
        "Conv2d_3b_1x1": Layer("conv_3", (1, 1, 64, 80)),
        "Conv2d_4a_3x3": Layer("conv_4", (3, 3, 80, 192), 1, False),
    }

    def add(block, tf_block, tower, channels, *steps):
        """A chain of convolutions: (name, height, width, channels out, stride)."""
        for i, (name, height, width, out, stride) in enumerate(steps):
            tf = "/".join(part for part in (tf_block, tower, f"conv_{i}" if i else "conv") if part)
            layers[f"{block}.{name}"] = Layer(tf, (height, width, channels, out), stride, stride == 1)
            channels = out

    for block, tf_block, channels, pooled in (
        ("Mixed_5b", "mixed", 192, 32),
        ("Mixed_5c", "mixed_1", 256, 64),
        ("Mixed_5d", "mixed_2", 288, 64),
    ):
        add(block, tf_block, "", channels, ("branch1x1", 1, 1, 64, 1))
        add(block, tf_block, "tower", channels, ("branch5x5_1", 1, 1, 48, 1), ("branch5x5_2", 5, 5, 64, 1))
        add(
            block, tf_block, "tower_1", channels,
            ("branch3x3dbl_1", 1, 1, 64, 1), ("branch3x3dbl_2", 3, 3, 96, 1), ("branch3x3dbl_3", 3, 3, 96, 1),
        )
        add(block, tf_block, "tower_2", channels, ("branch_pool", 1, 1, pooled, 1))

    add("Mixed_6a", "mixed_3", "", 288, ("branch3x3", 3, 3, 384, 2))
    add(
        "Mixed_6a", "mixed_3", "tower", 288,
        ("branch3x3dbl_1", 1, 1, 64, 1), ("branch3x3dbl_2", 3, 3, 96, 1), ("branch3x3dbl_3", 3, 3, 96, 2),
    )

    for block, tf_block, c in (
        ("Mixed_6b", "mixed_4", 128),
        ("Mixed_6c", "mixed_5", 160),
        ("Mixed_6d", "mixed_6", 160),
        ("Mixed_6e", "mixed_7", 192),
    ):
        add(block, tf_block, "", 768, ("branch1x1", 1, 1, 192, 1))
        add(
            block, tf_block, "tower", 768,
            ("branch7x7_1", 1, 1, c, 1), ("branch7x7_2", 1, 7, c, 1), ("branch7x7_3", 7, 1, 192, 1),
        )
        add(
            block, tf_block, "tower_1", 768,
            ("branch7x7dbl_1", 1, 1, c, 1), ("branch7x7dbl_2", 7, 1, c, 1), ("branch7x7dbl_3", 1, 7, c, 1),
            ("branch7x7dbl_4", 7, 1, c, 1), ("branch7x7dbl_5", 1, 7, 192, 1),
        )
        add(block, tf_block, "tower_2", 768, ("branch_pool", 1, 1, 192, 1))

    add("Mixed_7a", "mixed_8", "tower", 768, ("branch3x3_1", 1, 1, 192, 1), ("branch3x3_2", 3, 3, 320, 2))
    add(
        "Mixed_7a", "mixed_8", "tower_1", 768,
        ("branch7x7x3_1", 1, 1, 192, 1), ("branch7x7x3_2", 1, 7, 192, 1), ("branch7x7x3_3", 7, 1, 192, 1),
        ("branch7x7x3_4", 3, 3, 192, 2),
    )

    for block, tf_block, channels in (("Mixed_7b", "mixed_9", 1280), ("Mixed_7c", "mixed_10", 2048)):
        add(block, tf_block, "", channels, ("branch1x1", 1, 1, 320, 1))
        add(block, tf_block, "tower", channels, ("branch3x3_1", 1, 1, 384, 1))
        add(block, tf_block, "tower_1", channels, ("branch3x3dbl_1", 1, 1, 448, 1), ("branch3x3dbl_2", 3, 3, 384, 1))
        for branch, tower in (("branch3x3_2", "tower/mixed"), ("branch3x3dbl_3", "tower_1/mixed")):
            layers[f"{block}.{branch}a"] = Layer(f"{tf_block}/{tower}/conv", (1, 3, 384, 384))
            layers[f"{block}.{branch}b"] = Layer(f"{tf_block}/{tower}/conv_1", (3, 1, 384, 384))
        add(block, tf_block, "tower_2", channels, ("branch_pool", 1, 1, 192, 1))
    return layers


LAYERS = _layers()


def shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    """The shapes of all parameters: per convolution its kernel and the four vectors of its normalisation, and `fc`."""
    found = {
        name: {"kernel": layer.kernel} | {leaf: layer.kernel[3:] for leaf in ("scale", "bias", "mean", "var")}
        for name, layer in LAYERS.items()
    }
    return found | {"fc": {"kernel": (FEATURES, CLASSES), "bias": (CLASSES,)}}


def scale_tf(x: jax.Array) -> jax.Array:
    """[0, 255] to what the graph of 2015 takes: (x - 128) / 128."""
    return (x - 128.0) / 128.0


def scale_torch(x: jax.Array) -> jax.Array:
    """[0, 255] to what pytorch-fid gives the network: 2x / 255 - 1."""
    return x * (2.0 / 255.0) - 1.0


def apply(params: Params, x: jax.Array) -> dict[str, jax.Array]:
    """All features of pictures; what is not used of the result costs nothing under `jit`.

    Args:
        params: of the shapes of `shapes()`.
        x: float32 `[B, 299, 299, 3]`, scaled by `scale_tf` or `scale_torch`.

    Returns:
        float32 `[B, D]`: `"64"`, `"192"`, `"768"`, `"2048"`, `"logits_unbiased"` (without the last bias, as every
        reference's Inception Score takes them), `"logits"`; and the outputs `[B, h, w, c]` of the five first
        convolutions and of the eleven blocks by their names.
    """
    out = {}

    def convolve(name, x):
        return _convolution(params[name], LAYERS[name], x)

    def mean(x):
        return jnp.mean(x, axis=(1, 2))

    for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"):
        out[name] = x = convolve(name, x)
    x = _max_pool(x, 2)
    out["64"] = mean(x)
    for name in ("Conv2d_3b_1x1", "Conv2d_4a_3x3"):
        out[name] = x = convolve(name, x)
    x = _max_pool(x, 2)
    out["192"] = mean(x)
    for name, block in BLOCKS.items():

        def chain(x, *steps, name=name):
            for step in steps:
                x = convolve(f"{name}.{step}", x)
            return x

        out[name] = x = jnp.concatenate(block(chain, x), axis=-1)
        if name == "Mixed_6e":
            out["768"] = mean(x)
    out["2048"] = x = mean(x)
    out["logits_unbiased"] = jnp.matmul(x, params["fc"]["kernel"], precision="highest")
    out["logits"] = out["logits_unbiased"] + params["fc"]["bias"]
    return out


def _block_5(chain, x):
    return [
        chain(x, "branch1x1"),
        chain(x, "branch5x5_1", "branch5x5_2"),
        chain(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
        chain(_average_pool(x), "branch_pool"),
    ]


def _block_6a(chain, x):
    return [
        chain(x, "branch3x3"),
        chain(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
        _max_pool(x, 2),
    ]


def _block_6(chain, x):
    return [
        chain(x, "branch1x1"),
        chain(x, "branch7x7_1", "branch7x7_2", "branch7x7_3"),
        chain(x, *(f"branch7x7dbl_{i}" for i in range(1, 6))),
        chain(_average_pool(x), "branch_pool"),
    ]


def _block_7a(chain, x):
    return [
        chain(x, "branch3x3_1", "branch3x3_2"),
        chain(x, *(f"branch7x7x3_{i}" for i in range(1, 5))),
        _max_pool(x, 2),
    ]


def _block_7(chain, x, pooled):
    three = chain(x, "branch3x3_1")
    double = chain(x, "branch3x3dbl_1", "branch3x3dbl_2")
    return [
        chain(x, "branch1x1"),
        chain(three, "branch3x3_2a"),
        chain(three, "branch3x3_2b"),
        chain(double, "branch3x3dbl_3a"),
        chain(double, "branch3x3dbl_3b"),
        chain(pooled, "branch_pool"),
    ]


def _block_7b(chain, x):
    return _block_7(chain, x, _average_pool(x))


def _block_7c(chain, x):
    return _block_7(chain, x, _max_pool(x, 1))


BLOCKS = {
    "Mixed_5b": _block_5,
    "Mixed_5c": _block_5,
    "Mixed_5d": _block_5,
    "Mixed_6a": _block_6a,
    "Mixed_6b": _block_6,
    "Mixed_6c": _block_6,
    "Mixed_6d": _block_6,
    "Mixed_6e": _block_6,
    "Mixed_7a": _block_7a,
    "Mixed_7b": _block_7b,
    "Mixed_7c": _block_7c,
}


def _convolution(params, layer, x):
    height, width = layer.kernel[:2]
    padding = [(height // 2, height // 2), (width // 2, width // 2)] if layer.padded else "VALID"
    x = jax.lax.conv_general_dilated(
        x,
        params["kernel"],
        (layer.stride, layer.stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )
    scale = params["scale"] / jnp.sqrt(params["var"] + EPSILON)
    return jax.nn.relu(x * scale + (params["bias"] - params["mean"] * scale))


def _max_pool(x, stride):
    """Of 3x3; without padding for stride 2, and padded, so that the size stays, for stride 1."""
    padding = "VALID" if stride == 2 else "SAME"
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)


def _average_pool(x):
    """Of 3x3 and stride 1, over the entries that there are: at a border fewer than nine."""
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    return total / _entries(*x.shape[1:3])


def _entries(height, width):
    """How many entries a window of 3x3 has around each place, `[height, width, 1]`."""
    ones = jnp.ones((1, height, width, 1))
    return jax.lax.reduce_window(ones, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")[0]
