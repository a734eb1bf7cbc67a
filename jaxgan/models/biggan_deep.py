"""BigGAN-deep: Brock, Donahue and Simonyan, "Large scale GAN training for high fidelity natural image synthesis", 2019
(arXiv:1809.11096), appendix B, figure 16.

Against BigGAN: two blocks at each resolution, with bottlenecks; skips without weights of their own, as far as the
number of channels allows; the whole of z goes, beside the label's embedding, into the first layer and into every norm.

The defaults are those of StudioGAN for CIFAR-10: ch = 128, z 128. The paper's networks of 128x128 (ch = 128, z 128):

    Generator(shape=(128, 128, 3), widths=(2048, 2048, 1024, 512, 256, 128), attention=64)
    Discriminator(widths=(128, 256, 512, 1024, 2048, 2048), downsampled=5, attention=64)
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.errors import ConfigError
from jaxgan.models.attention import SelfAttention
from jaxgan.models.biggan import (
    ORTHOGONAL,
    attention_at,
    batch_norm,
    conv1x1,
    conv3x3,
    join,
    judge,
    shared_embedding,
    up_conv3x3,
)
from jaxgan.models.residual import average_pool, base_size, check_blocks, upsample

BOTTLENECK = 4  # the 3x3 convolutions of a block have a quarter of its channels


class Generator(nn.Module):
    """Latents [B, Z] and labels [B] -> pictures [B, *shape] in [-1, 1].

    `widths` are the channels of each resolution, the smallest first, never growing: a dense layer makes the first map;
    then pairs of blocks, len(widths) - 1 of them, the second of which doubles the map and changes its channels.
    `attention` is the height of the map that has self-attention, 0 for none. Without classes the norms are given z.

    Batch norm mixes the examples of a batch while training.
    """

    shape: Sequence[int] = (32, 32, 3)
    widths: Sequence[int] = (512, 512, 512, 512)
    attention: int = 16
    shared_size: int = 128
    classes: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, z: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        pairs = len(self.widths) - 1
        check_order("generator", self.widths[::-1])
        height, width = base_size("biggan_deep", self.shape, pairs)
        attended = attention_at("biggan_deep", self.attention, [height << (i + 1) for i in range(pairs)])
        condition = join(shared_embedding(label, self.classes, self.shared_size), z)
        x = nn.Dense(height * width * self.widths[0], kernel_init=ORTHOGONAL, name="first")(condition)
        x = x.reshape(-1, height, width, self.widths[0])
        for i, features in enumerate(self.widths[1:]):
            x = UpBlock(x.shape[-1], False, self.axis_name, name=f"block{i}a")(x, condition, train=train)
            x = UpBlock(features, True, self.axis_name, name=f"block{i}b")(x, condition, train=train)
            x = SelfAttention(name="attention")(x) if i == attended else x
        x = nn.relu(batch_norm(axis_name=self.axis_name, name="last_norm")(x, train=train))
        return jnp.tanh(conv3x3(self.shape[-1], name="last")(x))


class Discriminator(nn.Module):
    """Pictures [B, H, W, C] and labels [B] -> logits [B], or (logits, heads) with `heads`.

    `widths`, never shrinking, are the channels of the first convolution and of each pair of blocks; the first block of
    the first `downsampled` pairs halves the picture. `attention` is the height of the map that has self-attention,
    behind the first pair that makes it; 0 for none. The end is BigGAN's. Examples are not mixed.
    """

    widths: Sequence[int] = (512, 512, 512, 512)
    downsampled: int = 2
    attention: int = 16
    projection: bool = True
    classes: int = 0
    heads: tuple[str, ...] = ()
    code_size: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, Mapping[str, jax.Array]]:
        check_order("discriminator", self.widths)
        check_blocks("biggan_deep", x.shape[1:], self.widths[1:], self.downsampled)
        heights = [x.shape[1] >> min(i + 1, self.downsampled) for i in range(len(self.widths) - 1)]
        attended = attention_at("biggan_deep", self.attention, heights)
        x = conv3x3(self.widths[0], name="first")(x)
        for i, features in enumerate(self.widths[1:]):
            x = DownBlock(features, i < self.downsampled, name=f"block{i}a")(x)
            x = DownBlock(features, False, name=f"block{i}b")(x)
            x = SelfAttention(name="attention")(x) if i == attended else x
        return judge(self, x, label)


class UpBlock(nn.Module):
    """Figure 16b: [B, H, W, C] -> [B, H, W, features], or twice the size; features are at most C.

    Convolutions 1x1 to C/4, 3x3, 3x3, and 1x1 to `features`, with batch norm and ReLU before each; the doubling comes
    before the first 3x3. The skip keeps the first channels and drops the rest.
    """

    features: int
    doubles: bool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, *, train: bool) -> jax.Array:
        def activate(h, name):
            return nn.relu(batch_norm(axis_name=self.axis_name, name=name)(h, condition, train=train))

        inner = x.shape[-1] // BOTTLENECK
        h = conv1x1(inner, name="conv1")(activate(x, "norm1"))
        h, x = activate(h, "norm2"), x[..., : self.features]
        if self.doubles:
            h, x = up_conv3x3(inner, name="conv2")(h), upsample(x)
        else:
            h = conv3x3(inner, name="conv2")(h)
        h = conv3x3(inner, name="conv3")(activate(h, "norm3"))
        return x + conv1x1(self.features, name="conv4")(activate(h, "norm4"))


class DownBlock(nn.Module):
    """Figure 16c: [B, H, W, C] -> [B, H, W, features], or half the size; features are at least C.

    Convolutions 1x1 to features/4, 3x3, 3x3, and 1x1 to `features`, with ReLU before each; the averaging comes before
    the last. The skip is the input, with the channels that it lacks beside it from a 1x1 convolution.
    """

    features: int
    halves: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inner = self.features // BOTTLENECK
        h = conv1x1(inner, name="conv1")(nn.relu(x))
        h = conv3x3(inner, name="conv2")(nn.relu(h))
        h = nn.relu(conv3x3(inner, name="conv3")(nn.relu(h)))
        if self.halves:
            h, x = average_pool(h), average_pool(x)
        missing = self.features - x.shape[-1]
        if missing:
            x = jnp.concatenate([x, conv1x1(missing, name="skip")(x)], axis=-1)
        return x + conv1x1(self.features, name="conv4")(h)


def check_order(network: str, widths: Sequence[int]) -> None:
    """Raises ConfigError unless `widths`, from the pictures inwards, can be had without a skip of its own weights."""
    if list(widths) != sorted(widths) or min(widths) < BOTTLENECK:
        raise ConfigError(
            f"biggan_deep: from the picture inwards the widths of the {network} must not shrink, nor be under "
            f"{BOTTLENECK}; got {tuple(widths)}"
        )
