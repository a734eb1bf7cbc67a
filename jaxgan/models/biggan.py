"""BigGAN: Brock, Donahue and Simonyan, "Large scale GAN training for high fidelity natural image synthesis", 2019
(arXiv:1809.11096), appendix B, figure 15.

The defaults are those of StudioGAN for CIFAR-10: ch = 96, z 80. The paper's networks of 128x128 (ch = 96, z 120):

    Generator(shape=(128, 128, 3), widths=(1536, 1536, 768, 384, 192, 96), attention=64)
    Discriminator(widths=(96, 192, 384, 768, 1536, 1536), downsampled=5, attention=64)

The recipe adds spectral normalisation to both, orthogonal regularisation and a moving average to G (`config.game`,
`jaxgan.losses`); truncation is a matter of how z is drawn.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.errors import ConfigError
from jaxgan.models.attention import SelfAttention
from jaxgan.models.conditioning import ConditionalBatchNorm, Judge
from jaxgan.models.layers import Conv, Pointwise
from jaxgan.models.residual import ConvDown, UpConv, average_pool, base_size, check_blocks, upsample

ORTHOGONAL = nn.initializers.orthogonal()
EPSILON = 1e-4  # of batch norm, as the authors' released generators have it; elsewhere here 1e-5

conv3x3 = partial(Conv, kernel=3, stride=1, kernel_init=ORTHOGONAL)
up_conv3x3 = partial(UpConv, kernel_init=ORTHOGONAL)  # nearest neighbours, then 3x3
conv3x3_down = partial(ConvDown, kernel_init=ORTHOGONAL)  # 3x3, then the mean of 2x2
conv1x1 = partial(Pointwise, kernel_init=ORTHOGONAL)
batch_norm = partial(ConditionalBatchNorm, epsilon=EPSILON, scale_init=nn.initializers.ones)


class Generator(nn.Module):
    """Latents [B, Z] and labels [B] -> pictures [B, *shape] in [-1, 1].

    `widths` are the channels of each resolution, the smallest first: a dense layer makes the first map, each of the
    len(widths) - 1 blocks doubles it. `hierarchical`: z is cut into len(widths) equal chunks, the first for the dense
    layer, one for each block, where it goes into the conditional batch norms beside the shared embedding of the label.
    Otherwise the whole of z goes into the dense layer. Without classes the chunk is all that the norms are
    given, and with neither they are plain. `attention` is the height of the map that has self-attention, 0 for none.

    Batch norm mixes the examples of a batch while training.
    """

    shape: Sequence[int] = (32, 32, 3)
    widths: Sequence[int] = (384, 384, 384, 384)
    attention: int = 16
    shared_size: int = 128
    hierarchical: bool = True
    classes: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, z: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        blocks = len(self.widths) - 1
        height, width = base_size("biggan", self.shape, blocks)
        attended = attention_at("biggan", self.attention, [height << (i + 1) for i in range(blocks)])
        z, conditions = self._split(z, shared_embedding(label, self.classes, self.shared_size))
        x = nn.Dense(height * width * self.widths[0], kernel_init=ORTHOGONAL, name="first")(z)
        x = x.reshape(-1, height, width, self.widths[0])
        for i, features in enumerate(self.widths[1:]):
            x = UpBlock(features, self.axis_name, name=f"block{i}")(x, conditions[i], train=train)
            x = SelfAttention(name="attention")(x) if i == attended else x
        x = nn.relu(batch_norm(axis_name=self.axis_name, name="last_norm")(x, train=train))
        return jnp.tanh(conv3x3(self.shape[-1], name="last")(x))

    def _split(self, z, shared):
        """(what the first layer is given, what each block's norms are given)."""
        parts = len(self.widths)
        if not self.hierarchical:
            return z, [shared] * (parts - 1)
        if z.shape[-1] % parts:
            near = max(round(z.shape[-1] / parts), 1) * parts
            raise ConfigError(
                f"biggan: z is cut into {parts} equal chunks, one for the first layer and one for each block, and "
                f"{z.shape[-1]} is no multiple of {parts}. Nearest is {near}; or set hierarchical=False."
            )
        first, *chunks = jnp.split(z, parts, axis=-1)
        return first, [join(shared, chunk) for chunk in chunks]


class Discriminator(nn.Module):
    """Pictures [B, H, W, C] and labels [B] -> logits [B], or (logits, heads) with `heads`.

    `widths` are the channels of each block, of which the first `downsampled` halve the picture. `attention` is the
    height of the map that has self-attention, behind the first block that makes it; 0 for none. The last map is summed
    over its pixels; given labels, `projection` adds the dot product with the label's embedding (Miyato and Koyama
    2018).
    No normalisation, so examples are not mixed.
    """

    widths: Sequence[int] = (192, 192, 192, 192)
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
        check_blocks("biggan", x.shape[1:], self.widths, self.downsampled)
        heights = [x.shape[1] >> min(i + 1, self.downsampled) for i in range(len(self.widths))]
        attended = attention_at("biggan", self.attention, heights)
        for i, features in enumerate(self.widths):
            x = DownBlock(features, i < self.downsampled, is_first=i == 0, name=f"block{i}")(x)
            x = SelfAttention(name="attention")(x) if i == attended else x
        return judge(self, x, label)


class UpBlock(nn.Module):
    """Figure 15b: [B, H, W, C] -> [B, 2H, 2W, features]; batch norm, ReLU, double, convolve, again without doubling.

    The skip is a 1x1 convolution, before its doubling: repeated pixels give it nothing new to see.
    """

    features: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None, *, train: bool) -> jax.Array:
        h = batch_norm(axis_name=self.axis_name, name="norm1")(x, condition, train=train)
        h = up_conv3x3(self.features, name="conv1")(nn.relu(h))
        h = batch_norm(axis_name=self.axis_name, name="norm2")(h, condition, train=train)
        h = conv3x3(self.features, name="conv2")(nn.relu(h))
        return h + upsample(conv1x1(self.features, name="skip")(x))


class DownBlock(nn.Module):
    """Figure 15c: [B, H, W, C] -> [B, H, W, features], or half the size; ReLU, convolve, twice, then average.

    The skip is the identity where the shape stays, else a 1x1 convolution (of the averages, which is the same as the
    average of it). The first block of a network sees a picture, which has no ReLU. The skip sees x, not ReLU(x):
    an in-place ReLU makes it the latter in some PyTorch code.
    """

    features: int
    halves: bool = True
    is_first: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = conv3x3(self.features, name="conv1")(x if self.is_first else nn.relu(x))
        is_identity = not self.halves and x.shape[-1] == self.features
        if self.halves:
            h, x = conv3x3_down(self.features, name="conv2")(nn.relu(h)), average_pool(x)
        else:
            h = conv3x3(self.features, name="conv2")(nn.relu(h))
        return h + (x if is_identity else conv1x1(self.features, name="skip")(x))


def shared_embedding(label: jax.Array | None, classes: int, size: int) -> jax.Array | None:
    """[B, size], the vectors of the labels that all layers share; None without classes. For use inside a module."""
    if not classes:
        return None
    if label is None:
        raise ConfigError(f"a generator of {classes} classes has to be told the labels; set classes=0 to do without")
    return nn.Embed(classes, size, embedding_init=ORTHOGONAL, name="shared")(label)


def join(shared: jax.Array | None, z: jax.Array) -> jax.Array:
    """What conditional batch norm is given: the label's vector, if there is one, and then latents."""
    return z if shared is None else jnp.concatenate([shared, z], axis=-1)


def judge(discriminator: nn.Module, x: jax.Array, label: jax.Array | None):
    """The end of a discriminator with the fields of `Discriminator`. For use inside it."""
    last = Judge(
        classes=discriminator.classes,
        projection=discriminator.projection and discriminator.classes > 0,
        heads=discriminator.heads,
        code_size=discriminator.code_size,
        kernel_init=ORTHOGONAL,
        embedding_init=ORTHOGONAL,
        name="judge",
    )
    return last(jnp.sum(nn.relu(x), axis=(1, 2)), label)


def attention_at(family: str, attention: int, heights: Sequence[int]) -> int | None:
    """Which block self-attention follows: the first whose map is `attention` high; None for attention 0.

    Raises:
        ConfigError: no block has such a map. The message names those that there are.
    """
    if not attention:
        return None
    if attention not in heights:
        known = ", ".join(str(height) for height in dict.fromkeys(heights))
        raise ConfigError(f"{family}: attention={attention}, but the maps are {known} pixels high; 0 is for none")
    return list(heights).index(attention)
