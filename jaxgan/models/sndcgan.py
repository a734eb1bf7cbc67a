"""SNGAN's plain convolutional networks ("SNDCGAN"): Miyato et al., "Spectral normalization for generative adversarial
networks", 2018 (arXiv:1802.05957), as compare_gan and PyTorch-GAN-Collections have them. A small baseline that is
steadier than DCGAN at the same cost.

Spectral normalisation itself is the game's (`config.game.spectral_norm`). The residual networks are in
`jaxgan.models.sngan`.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.models.conditioning import ConditionalBatchNorm, Judge
from jaxgan.models.layers import Conv, ConvTranspose, leaky_relu, normal_init
from jaxgan.models.residual import base_size


class Generator(nn.Module):
    """Latents [B, Z], Z = 128 in the paper, -> pictures [B, *shape] in [-1, 1].

    Dense to (H/2^n, W/2^n, widths[0]), n transposed convolutions (4x4, stride 2) to widths[1:], then conv3-tanh;
    batch norm, conditional with labels, and ReLU before each. Batch norm mixes the examples while training. As in
    `jaxgan.models.dcgan` it has statistics for every channel after the dense layer too (compare_gan: for every
    unit), and the layers before it have no biases.
    """

    shape: Sequence[int] = (32, 32, 3)
    widths: Sequence[int] = (512, 256, 128, 64)
    classes: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, z: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        height, width = base_size("sndcgan", self.shape, len(self.widths) - 1)
        label = label if self.classes else None
        norm = partial(ConditionalBatchNorm, self.classes, scale_init=nn.initializers.ones, axis_name=self.axis_name)
        x = nn.Dense(height * width * self.widths[0], use_bias=False, kernel_init=normal_init())(z)
        x = x.reshape(-1, height, width, self.widths[0])
        for features in self.widths[1:]:
            x = ConvTranspose(features, 4, use_bias=False)(nn.relu(norm()(x, label, train=train)))
        return jnp.tanh(Conv(self.shape[-1], 3, 1)(nn.relu(norm()(x, label, train=train))))


class Discriminator(nn.Module):
    """Pictures [B, H, W, C] -> logits [B], or (logits, heads).

    A 3x3 convolution to widths[0]; then, for each further width, a 4x4 convolution of stride 2 and a 3x3 one;
    LeakyReLU 0.1 after each; dense. With labels and `projection`, the flattened features are multiplied with the
    label's embedding (Miyato and Koyama 2018 do that with sums over the pixels).
    """

    widths: Sequence[int] = (64, 128, 256, 512)
    classes: int = 0
    projection: bool = True
    heads: tuple[str, ...] = ()
    code_size: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, Mapping[str, jax.Array]]:
        base_size("sndcgan", x.shape[1:], len(self.widths) - 1)
        activation = partial(leaky_relu, slope=0.1)
        x = activation(Conv(self.widths[0], 3, 1)(x))
        for features in self.widths[1:]:
            x = activation(Conv(features, 4, 2)(x))
            x = activation(Conv(features, 3, 1)(x))
        judge = Judge(
            classes=self.classes,
            projection=self.projection and self.classes > 0,
            heads=self.heads,
            code_size=self.code_size,
        )
        return judge(x.reshape(x.shape[0], -1), label)
