"""WGAN-GP's plain convolutional networks: Gulrajani et al., "Improved training of Wasserstein GANs", 2017
(arXiv:1704.00028), as in the authors' gan_cifar.py. The residual ones are in `jaxgan.models.wgan_gp`."""

from collections.abc import Mapping, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.models.conditioning import ConditionalBatchNorm, Judge
from jaxgan.models.layers import Conv, ConvTranspose, Initializer, leaky_relu
from jaxgan.models.residual import base_size, glorot_uniform


def strided_init(stride: int = 2) -> Initializer:
    """Uniform of variance 4 / (fan_in + fan_out) where, of a stride, the reduced side counts k^2 / stride^2 pixels.

    For kernels [k, k, C, O] of a convolution C -> O, and of a transposed one O -> C: both have the C channels on the
    larger side.
    """

    def init(key, shape, dtype=jnp.float32):
        fans = shape[0] * shape[1] * (shape[2] + shape[3] / stride**2)
        limit = (3 * 4 / fans) ** 0.5
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


class Generator(nn.Module):
    """Latents [B, Z], Z = 128 in the paper, -> pictures [B, *shape] in [-1, 1].

    Dense to (H/2^n, W/2^n, widths[0]) with n = len(widths), then n transposed convolutions of stride 2, the last to
    the picture's channels under tanh; batch norm, conditional with labels, and ReLU before each. Batch norm mixes the
    examples while training. The authors' first one has statistics for every unit, this one for every channel.
    """

    shape: Sequence[int] = (32, 32, 3)
    widths: Sequence[int] = (512, 256, 128)
    kernel: int = 5
    classes: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, z: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        height, width = base_size("wgan_gp_cnn", self.shape, len(self.widths))
        label = label if self.classes else None
        norm = partial(ConditionalBatchNorm, self.classes, scale_init=nn.initializers.ones, axis_name=self.axis_name)
        up = partial(ConvTranspose, kernel=self.kernel, kernel_init=strided_init())
        x = nn.Dense(height * width * self.widths[0], use_bias=False, kernel_init=glorot_uniform())(z)
        x = x.reshape(-1, height, width, self.widths[0])
        for features in self.widths[1:]:
            x = up(features, use_bias=False)(nn.relu(norm()(x, label, train=train)))
        return jnp.tanh(up(self.shape[-1])(nn.relu(norm()(x, label, train=train))))


class Discriminator(nn.Module):
    """Pictures [B, H, W, C] -> logits [B], or (logits, heads).

    Convolutions of stride 2 with LeakyReLU 0.2, then dense. No norm, so that the gradient penalty is of each example
    alone. The label changes the logits with `projection` only, which is not the paper's.
    """

    widths: Sequence[int] = (128, 256, 512)
    kernel: int = 5
    classes: int = 0
    projection: bool = False
    heads: tuple[str, ...] = ()
    code_size: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, Mapping[str, jax.Array]]:
        base_size("wgan_gp_cnn", x.shape[1:], len(self.widths))
        for features in self.widths:
            x = leaky_relu(Conv(features, self.kernel, kernel_init=strided_init())(x))
        judge = Judge(
            classes=self.classes,
            projection=self.projection and self.classes > 0,
            heads=self.heads,
            code_size=self.code_size,
            kernel_init=glorot_uniform(),
            embedding_init=glorot_uniform(),
        )
        return judge(x.reshape(x.shape[0], -1), label)
