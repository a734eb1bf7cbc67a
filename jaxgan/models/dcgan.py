"""DCGAN: Radford, Metz and Chintala, "Unsupervised representation learning with deep convolutional
generative adversarial networks", 2016 (arXiv:1511.06434)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.models.conditioning import Judge, concatenate_label
from jaxgan.models.layers import BatchNorm, Conv, ConvTranspose, Dropout, leaky_relu, normal_init, smallest_map


def base_size(shape: Sequence[int], widths: Sequence[int]) -> tuple[int, int]:
    """(H, W) of the smallest feature map of a network with these widths, for pictures `shape` = (H, W, C).

    Raises:
        ConfigError: H or W is no multiple of 2**len(widths), or the smallest map would have a side under 2.
            The message names the sizes that would do, and the nearest.
    """
    what = f"{len(widths)} widths {tuple(widths)}"
    return smallest_map("dcgan", what, shape, 2 ** len(widths), "give fewer widths")


class Generator(nn.Module):
    """Latents [B, Z] (and labels [B]) -> pictures [B, *shape] in [-1, 1].

    Dense to (H/2^n, W/2^n, widths[0]) with n = len(widths), then n transposed convolutions of stride 2, the
    last to the picture's channels under tanh; batch norm, unless it is not wanted, and ReLU after every layer but the
    last. A label is concatenated with the latents as a one-hot vector.
    """

    shape: Sequence[int] = (28, 28, 1)
    widths: Sequence[int] = (128, 64)
    kernel: int = 4
    batch_norm: bool = True
    classes: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, z: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        height, width = base_size(self.shape, self.widths)
        z = concatenate_label(z, label, self.classes)
        plain = not self.batch_norm
        x = nn.Dense(height * width * self.widths[0], use_bias=plain, kernel_init=normal_init())(z)
        x = x.reshape(-1, height, width, self.widths[0])
        for features in self.widths[1:]:
            x = self._activate(x, train)
            x = ConvTranspose(features, self.kernel, use_bias=plain)(x)
        x = self._activate(x, train)
        return jnp.tanh(ConvTranspose(self.shape[-1], self.kernel)(x))

    def _activate(self, x, train):
        return nn.relu(BatchNorm(axis_name=self.axis_name)(x, train=train) if self.batch_norm else x)


class Discriminator(nn.Module):
    """Pictures [B, H, W, C] (and labels [B]) -> logits [B], or (logits, heads).

    Convolutions of stride 2 with LeakyReLU 0.2 and, where asked for, batch norm except in the first and dropout (by
    the example's index) in all; then dense, with a label's `projection` (Miyato and Koyama 2018).
    """

    widths: Sequence[int] = (64, 128)
    kernel: int = 4
    batch_norm: bool = True
    dropout: float = 0.0
    classes: int = 0
    projection: bool = True
    heads: tuple[str, ...] = ()
    code_size: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        base_size(x.shape[1:], self.widths)
        for i, features in enumerate(self.widths):
            normalised = self.batch_norm and i > 0
            x = Conv(features, self.kernel, use_bias=not normalised)(x)
            x = BatchNorm(axis_name=self.axis_name)(x, train=train) if normalised else x
            x = Dropout(self.dropout)(leaky_relu(x), train=train, index=index)
        x = x.reshape(x.shape[0], -1)
        return Judge(self.classes, self.projection, self.heads, self.code_size, name="judge")(x, label)
