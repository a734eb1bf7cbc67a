"""SNGAN's residual networks: Miyato, Kataoka, Koyama and Yoshida, "Spectral normalization for generative adversarial
networks", 2018 (arXiv:1802.05957), and, with labels, Miyato and Koyama, "cGANs with projection discriminator", 2018
(arXiv:1802.05637).

Spectral normalisation itself is the game's (`config.game.spectral_norm`). The widths by the size of the pictures;
of the discriminator's blocks the first `downsampled` halve the picture:

| pictures | generator's widths | discriminator's widths | downsampled |
|---|---|---|---|
| 32 (CIFAR-10) | 256, 256, 256, 256 | 128, 128, 128, 128 | 2 |
| 48 (STL-10) | 512, 256, 128, 64 | 64, 128, 256, 512, 1024 | 4 |
| 64 (after mimicry; not in the papers) | 1024, 512, 256, 128, 64 | 64, 128, 256, 512, 1024 | 5 |
| 128 (ImageNet) | 1024, 1024, 512, 256, 128, 64 | 64, 128, 256, 512, 1024, 1024 | 5 |

Pictures of 28x28 go with three widths for the generator.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.models.conditioning import ConditionalBatchNorm, Judge, Modulation, modulate
from jaxgan.models.layers import Conv, normal_init
from jaxgan.models.residual import DiscriminatorBlock, GeneratorBlock, base_size, check_blocks, glorot_uniform


class Generator(nn.Module):
    """Latents [B, Z], Z = 128 in the paper, -> pictures [B, *shape] in [-1, 1].

    Dense to (H/2^n, W/2^n, widths[0]), n blocks that double to widths[1:], then BN-ReLU-conv3-tanh. With labels the
    blocks' batch norms are conditional, and the last is not. `self_modulation` (Chen et al., "On self modulation for
    generative adversarial networks", 2019; there 32) makes all of them functions of z with so many hidden units; a
    label then reaches them through z' = E'(y) z + E(y). Batch norm mixes the examples while training.

    `upsample` is "nearest" as in the original and PyTorch-GAN-Collections, or "bilinear" as in mimicry.
    """

    shape: Sequence[int] = (32, 32, 3)
    widths: Sequence[int] = (256, 256, 256, 256)
    upsample: str = "nearest"
    self_modulation: int = 0
    classes: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, z: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        height, width = base_size("sngan", self.shape, len(self.widths) - 1)
        condition = self._condition(z, label if self.classes else None)
        norm = partial(
            ConditionalBatchNorm,
            classes=self.classes,
            hidden=self.self_modulation,
            kernel_init=normal_init(),
            scale_init=nn.initializers.ones,
            axis_name=self.axis_name,
        )
        x = nn.Dense(height * width * self.widths[0], kernel_init=glorot_uniform())(z)
        x = x.reshape(-1, height, width, self.widths[0])
        for features in self.widths[1:]:
            x = GeneratorBlock(features, norm, self.upsample)(x, condition, train=train)
        x = nn.relu(norm()(x, condition if self.self_modulation else None, train=train))
        return jnp.tanh(Conv(self.shape[-1], 3, 1, kernel_init=glorot_uniform())(x))

    def _condition(self, z, label):
        if not self.self_modulation:
            return label
        return z if label is None else modulate(z, *Modulation(z.shape[-1], self.classes)(label))


class Discriminator(nn.Module):
    """Pictures [B, H, W, C] -> logits [B], or (logits, heads).

    Residual blocks, ReLU, the sum over all pixels, and dense without a bias (mimicry has one); with labels and
    `projection`, plus the product with the label's embedding.
    """

    widths: Sequence[int] = (128, 128, 128, 128)
    downsampled: int = 2
    classes: int = 0
    projection: bool = True
    heads: tuple[str, ...] = ()
    code_size: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, Mapping[str, jax.Array]]:
        check_blocks("sngan", x.shape[1:], self.widths, self.downsampled)
        for i, features in enumerate(self.widths):
            x = DiscriminatorBlock(features, down=i < self.downsampled, first=i == 0)(x)
        h = jnp.sum(nn.relu(x), axis=(1, 2))
        judge = Judge(
            classes=self.classes,
            projection=self.projection and self.classes > 0,
            heads=self.heads,
            code_size=self.code_size,
            use_bias=False,
            kernel_init=glorot_uniform(),
            embedding_init=glorot_uniform(),
        )
        return judge(h, label)
