"""WGAN-GP's residual networks: Gulrajani, Ahmed, Arjovsky, Dumoulin and Courville, "Improved training of Wasserstein
GANs", 2017 (arXiv:1704.00028).

The defaults are those of the authors' CIFAR-10 code. The "WGAN-GP" of SNGAN's paper and of later libraries is the
generator with widths (256, 256, 256, 256): the blocks and where their weights start from are the same.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.errors import ConfigError
from jaxgan.models.conditioning import ConditionalBatchNorm, Judge
from jaxgan.models.layers import Conv
from jaxgan.models.residual import DiscriminatorBlock, GeneratorBlock, base_size, check_blocks, glorot_uniform

POOL = {"mean": jnp.mean, "sum": jnp.sum}


class Generator(nn.Module):
    """Latents [B, Z], Z = 128 in the paper, -> pictures [B, *shape] in [-1, 1].

    Dense to (H/2^n, W/2^n, widths[0]), n blocks that double to widths[1:] by nearest neighbours, then
    BN-ReLU-conv3-tanh. With labels the blocks' batch norms are conditional. Batch norm mixes the examples while
    training.
    """

    shape: Sequence[int] = (32, 32, 3)
    widths: Sequence[int] = (128, 128, 128, 128)
    classes: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, z: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        height, width = base_size("wgan_gp", self.shape, len(self.widths) - 1)
        norm = partial(
            ConditionalBatchNorm,
            classes=self.classes,
            scale_init=nn.initializers.ones,
            axis_name=self.axis_name,
        )
        x = nn.Dense(height * width * self.widths[0], kernel_init=glorot_uniform())(z)
        x = x.reshape(-1, height, width, self.widths[0])
        for features in self.widths[1:]:
            x = GeneratorBlock(features, norm)(x, label if self.classes else None, train=train)
        x = nn.relu(norm()(x, train=train))
        return jnp.tanh(Conv(self.shape[-1], 3, 1, kernel_init=glorot_uniform())(x))


class Discriminator(nn.Module):
    """Pictures [B, H, W, C] -> logits [B], or (logits, heads): residual blocks, ReLU, mean over the pixels, dense.

    No norm anywhere, so that the gradient penalty is of each example alone. `pool` is "mean" as in the paper's code
    and mimicry, or "sum" as in PyTorch-GAN-Collections. The paper's conditional form is AC-GAN, heads=("class",);
    the label itself changes the logits with `projection` only, which is not the paper's.
    """

    widths: Sequence[int] = (128, 128, 128, 128)
    downsampled: int = 2
    pool: str = "mean"
    classes: int = 0
    projection: bool = False
    heads: tuple[str, ...] = ()
    code_size: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, Mapping[str, jax.Array]]:
        check_blocks("wgan_gp", x.shape[1:], self.widths, self.downsampled)
        if self.pool not in POOL:
            raise ConfigError(f"wgan_gp: unknown pool {self.pool!r}; known: {', '.join(POOL)}")
        for i, features in enumerate(self.widths):
            x = DiscriminatorBlock(features, down=i < self.downsampled, first=i == 0)(x)
        h = POOL[self.pool](nn.relu(x), axis=(1, 2))
        judge = Judge(
            classes=self.classes,
            projection=self.projection and self.classes > 0,
            heads=self.heads,
            code_size=self.code_size,
            kernel_init=glorot_uniform(),
            embedding_init=glorot_uniform(),
        )
        return judge(h, label)
