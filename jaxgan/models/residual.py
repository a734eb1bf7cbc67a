"""Residual blocks that halve or double a picture, as SNGAN, cGAN-PD and WGAN-GP build their networks from.

A 3x3 convolution of a picture doubled by nearest neighbours is a transposed convolution of stride 2 whose 4x4 kernel
is the 3x3 kernel added to itself at the four shifts, and a 3x3 convolution followed by 2x2 average pooling is a
convolution of stride 2 with a quarter of that kernel. Written so they take 4/9 of the multiplications and, on a CPU,
half of the time, forwards and backwards; the parameters and the function are those of the papers. For the same reason
a 1x1 convolution, which commutes with both, is applied on the smaller side.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.errors import ConfigError
from jaxgan.models import convolution
from jaxgan.models.layers import Conv, Initializer, smallest_map

UPSAMPLE = ("nearest", "bilinear")


def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Uniform of variance 2 gain^2 / (fan_in + fan_out); the residual convolutions' gain is sqrt(2)."""
    return nn.initializers.variance_scaling(gain**2, "fan_avg", "uniform")


RESIDUAL_INIT = glorot_uniform(2**0.5)


def base_size(family: str, shape: Sequence[int], halvings: int, option: str = "fewer widths") -> tuple[int, int]:
    """(H, W) of what is left of pictures `shape` = (H, W, C) after so many halvings.

    Raises:
        ConfigError: H or W is no multiple of 2**halvings, or a side would be under 2. The message begins with the
            family, names the sizes that would do, and the nearest, and ends with `option`, what else could change.
    """
    return smallest_map(family, f"{halvings} halvings", shape, 2**halvings, f"give {option}")


def check_blocks(family: str, shape: Sequence[int], widths: Sequence[int], downsampled: int) -> None:
    """Whether a discriminator of these blocks, of which the first `downsampled` halve, can take these pictures."""
    if not 1 <= downsampled <= len(widths):
        raise ConfigError(
            f"{family}: downsampled {downsampled} must be between 1, as the first block always halves, and the number "
            f"of blocks, {len(widths)}"
        )
    base_size(family, shape, downsampled, "fewer widths or a smaller downsampled")


def upsample(x: jax.Array, method: str = "nearest") -> jax.Array:
    """[B, H, W, C] -> [B, 2H, 2W, C], by "nearest" neighbours or "bilinear" (half-pixel centres)."""
    batch, height, width, channels = x.shape
    if method not in UPSAMPLE:
        raise ConfigError(f"upsample {method!r} is unknown; known: {', '.join(UPSAMPLE)}")
    if method == "bilinear":
        return jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "bilinear")
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


def average_pool(x: jax.Array) -> jax.Array:
    """[B, 2H, 2W, C] -> [B, H, W, C]: the mean of each 2x2 pixels."""
    batch, height, width, channels = x.shape
    return jnp.mean(x.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


def _over_pairs(kernel: jax.Array) -> jax.Array:
    """[k, k, C, O] -> [k + 1, k + 1, C, O]: the kernel of the convolution followed by 2x2 sums."""
    shifts = [((i, 1 - i), (j, 1 - j), (0, 0), (0, 0)) for i in (0, 1) for j in (0, 1)]
    return sum(jnp.pad(kernel, shift) for shift in shifts)


class UpConv(nn.Module):
    """`upsample`, then a 3x3 convolution: [B, H, W, C] -> [B, 2H, 2W, features]."""

    features: int
    upsample: str = "nearest"
    kernel_init: Initializer = RESIDUAL_INIT

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if self.upsample != "nearest":
            return convolution.conv(upsample(x, self.upsample), kernel) + bias
        turned = kernel[::-1, ::-1].swapaxes(2, 3)
        return convolution.conv_transpose(x, _over_pairs(turned), 2) + bias


class ConvDown(nn.Module):
    """A 3x3 convolution, then `average_pool`: [B, 2H, 2W, C] -> [B, H, W, features]."""

    features: int
    kernel_init: Initializer = RESIDUAL_INIT

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolution.conv(x, _over_pairs(kernel) / 4, 2) + bias


class GeneratorBlock(nn.Module):
    """norm-ReLU-up-conv3-norm-ReLU-conv3, plus up-conv1 of the input: [B, H, W, C] -> [B, 2H, 2W, features].

    `norm` makes a norm, which is called with (x, condition, train=train). What the block does to an example depends
    on the others as far as its norm does.
    """

    features: int
    norm: Callable[[], nn.Module]
    upsample: str = "nearest"

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None = None, *, train: bool) -> jax.Array:
        h = nn.relu(self.norm()(x, condition, train=train))
        h = UpConv(self.features, self.upsample, name="conv1")(h)
        h = nn.relu(self.norm()(h, condition, train=train))
        h = Conv(self.features, 3, 1, kernel_init=RESIDUAL_INIT, name="conv2")(h)
        shortcut = Conv(self.features, 1, 1, kernel_init=glorot_uniform(), name="shortcut")(x)
        return h + upsample(shortcut, self.upsample)


class DiscriminatorBlock(nn.Module):
    """ReLU-conv3-ReLU-conv3(-pool), plus the input, (pooled and) through conv1 where its shape changes.

    [B, H, W, C] -> [B, H/2, W/2, features] with `down`, else [B, H, W, features]. The `first` block of a network,
    which sees the picture itself, has no ReLU before its first convolution. The ReLU leaves the shortcut alone:
    in mimicry and StudioGAN it works in place, so that the shortcut there sees ReLU(x). Between the convolutions are
    as many channels as come in (Chainer's and mimicry's; StudioGAN has `features`), in the first block `features`.
    """

    features: int
    down: bool = True
    first: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = self.features if self.first else x.shape[-1]
        h = x if self.first else nn.relu(x)
        h = nn.relu(Conv(hidden, 3, 1, kernel_init=RESIDUAL_INIT, name="conv1")(h))
        if self.down:
            h = ConvDown(self.features, name="conv2")(h)
        else:
            h = Conv(self.features, 3, 1, kernel_init=RESIDUAL_INIT, name="conv2")(h)
        shortcut = average_pool(x) if self.down else x
        if self.down or self.features != x.shape[-1]:
            shortcut = Conv(self.features, 1, 1, kernel_init=glorot_uniform(), name="shortcut")(shortcut)
        return h + shortcut
