"""R3GAN: Huang, Gokaslan, Kuleshov and Tompkin, "The GAN is dead; long live the GAN! A modern baseline GAN", 2024
(arXiv:2501.05441).

Both networks are ResNets without normalisation, mirror images of each other: at every resolution residual blocks whose
3x3 convolution is grouped (ResNeXt's, with an inverted bottleneck), between resolutions FIR resampling. The defaults
are the paper's for CIFAR-10: 20.78 M (generator) and 21.28 M parameters (discriminator) with ten classes.

Initialisation is by variance, N(0, gain^2 / fan_in): gain 1 but in the blocks, whose last convolution starts from zero
and whose others are scaled down by the depth of the network (Fixup: Zhang, Dauphin and Ma, 2019).

The paper computes the three highest of the four resolutions in bfloat16: `bf16_stages=3`.
"""

from collections.abc import Sequence
from math import prod, sqrt

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.errors import ConfigError
from jaxgan.models.convolution import grouped_conv
from jaxgan.models.layers import Initializer, Pointwise, leaky_relu
from jaxgan.models.resample import base_size, downsample, upsample

ACTIVATION_GAIN = sqrt(2 / (1 + 0.2**2))  # keeps the second moment through leaky ReLU 0.2


class Generator(nn.Module):
    """Latents [B, Z] (N(0, 1)), and labels [B] where there are classes -> pictures [B, *shape].

    The pictures are meant for [-1, 1], but nothing (no tanh) holds them there. `widths` are the channels of each
    resolution, the lowest first; `embedding_size` that of the label's vector, which stands beside z.
    """

    shape: Sequence[int] = (32, 32, 3)
    widths: Sequence[int] = (768, 768, 768, 768)
    blocks: int = 2  # of each resolution
    expansion: int = 2
    group_size: int = 16
    embedding_size: int = 64
    bf16_stages: int = 0  # so many of the highest resolutions are computed in bfloat16
    classes: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, z: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        base = base_size(self.shape, len(self.widths), "r3gan")
        if label is not None:
            embedding = nn.Embed(self.classes, self.embedding_size, embedding_init=scaled(self.classes), name="label")
            z = jnp.concatenate([z, embedding(label)], axis=-1)
        x = Basis(base, self.widths[0], name="basis")(z)
        for i, features in enumerate(self.widths):
            x = x.astype(_type(len(self.widths) - 1 - i, self.bf16_stages, z.dtype))
            if i:
                x = upsample(_pointwise(x, features, "up", i))
            x = _residual_blocks(self, x, i)
        x = Pointwise(self.shape[-1], use_bias=False, kernel_init=scaled(x.shape[-1]), name="to_rgb")(x)
        return x.astype(z.dtype)


class Discriminator(nn.Module):
    """Pictures [B, H, W, C] -> logits [B].

    With labels the logit is the dot product of the picture's vector with its class's; there is no term without the
    label, as Miyato and Koyama's projection has one, and no extra head. `widths` are the channels of each resolution,
    the highest first.
    """

    widths: Sequence[int] = (768, 768, 768, 768)
    blocks: int = 2
    expansion: int = 2
    group_size: int = 16
    bf16_stages: int = 0
    classes: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        base_size(x.shape[1:], len(self.widths), "r3gan")
        channels, given = x.shape[-1], x.dtype
        for i, features in enumerate(self.widths):
            x = x.astype(_type(i, self.bf16_stages, given))
            if i == 0:
                x = Pointwise(features, use_bias=False, kernel_init=scaled(channels), name="from_rgb")(x)
            else:
                x = _pointwise(downsample(x), features, "down", i)
            x = _residual_blocks(self, x, i)
        h = self._pooled(x.astype(given))
        size = 1 if label is None else h.shape[-1]
        h = nn.Dense(size, use_bias=False, kernel_init=scaled(h.shape[-1]), name="judge")(h)
        if label is None:
            return h[:, 0]
        # Smaller by sqrt(size), as products of two unit vectors are.
        init = scaled(self.classes, gain=1 / sqrt(size))
        return jnp.sum(h * nn.Embed(self.classes, size, embedding_init=init, name="label")(label), axis=-1)

    def _pooled(self, x):
        """Each channel's map times weights of its own, summed: a depthwise convolution as large as the map."""
        weights = self.param("pool", scaled(prod(x.shape[1:3])), x.shape[1:])
        return jnp.einsum("bhwc,hwc->bc", x, weights)


class Basis(nn.Module):
    """z [B, Z] -> [B, H, W, C]: each channel is a learned picture, times how much of it z wants."""

    size: tuple[int, int]
    features: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        basis = self.param("basis", nn.initializers.normal(1.0), (*self.size, self.features))
        amounts = nn.Dense(self.features, use_bias=False, kernel_init=scaled(z.shape[-1]), name="amounts")(z)
        return amounts[:, None, None] * basis


class Block(nn.Module):
    """x + C3(act(C2(act(C1 x)))): 1x1 to the wide middle, grouped 3x3, 1x1 back. [B, H, W, C], in the type of x.

    No normalisation, nothing after the sum; biases only before the activations.
    """

    depth: int  # blocks in the whole network
    expansion: int = 2
    group_size: int = 16

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        wide = channels * self.expansion
        if wide % self.group_size:
            raise ConfigError(
                f"r3gan: {wide} channels (width {channels} times {self.expansion}) make no groups of "
                f"{self.group_size}: give widths that do, or another group_size."
            )
        gain = ACTIVATION_GAIN * self.depth**-0.25  # Fixup: depth to the -1/(2m - 2), m = 3 convolutions
        h = Pointwise(wide, use_bias=False, kernel_init=scaled(channels, gain), name="widen")(x)
        h = leaky_relu(h + self._bias(0, h))
        fan_in = 9 * self.group_size
        kernel = self.param("grouped", scaled(fan_in, gain), (3, 3, self.group_size, wide))
        h = grouped_conv(h, kernel.astype(h.dtype))
        h = leaky_relu(h + self._bias(1, h))
        return x + Pointwise(channels, use_bias=False, kernel_init=nn.initializers.zeros, name="narrow")(h)

    def _bias(self, i, h):
        return self.param(f"bias_{i}", nn.initializers.zeros, (h.shape[-1],)).astype(h.dtype)


def scaled(fan_in: int, gain: float = 1.0) -> Initializer:
    """N(0, gain^2 / fan_in)."""
    return nn.initializers.normal(gain / sqrt(fan_in))


def _residual_blocks(network, x, stage):
    depth = network.blocks * len(network.widths)
    for j in range(network.blocks):
        x = Block(depth, network.expansion, network.group_size, name=f"stage_{stage}_block_{j}")(x)
    return x


def _pointwise(x, features, name, stage):
    """A 1x1 convolution where the width changes."""
    if x.shape[-1] == features:
        return x
    init = scaled(x.shape[-1])
    return Pointwise(features, use_bias=False, kernel_init=init, name=f"{name}_{stage}")(x)


def _type(stages_above: int, bf16_stages: int, given):
    """Of a stage, by the number of stages of higher resolution and the type that the network is given."""
    return jnp.bfloat16 if stages_above < bf16_stages else given
