"""Self-attention over the pixels of a feature map: Zhang et al., "Self-attention generative adversarial networks",
2019 (arXiv:1805.08318), in the form of Brock et al. 2019 (BigGAN)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.models.layers import Initializer, Pointwise


class SelfAttention(nn.Module):
    """[B, H, W, C] -> [B, H, W, C]: x + gamma * o, where every pixel looks at the whole of its own picture.

    beta = softmax(f(x) g(x)^T) over the keys, o = v(beta h(x)); f, g, h and v are 1x1 convolutions without bias to C/8,
    C/8, C/2 and C channels. Keys g(x) and values h(x) are max-pooled 2x2, so there are a quarter as many; in a map of
    odd size the last window is smaller. gamma is a scalar from 0: the layer starts as the identity, and until gamma has
    moved nothing but gamma has a gradient.

    Zhang et al. 2019, eq. 1 to 3, give h C/8 channels and no pooling; their code and BigGAN's have C/2 and pool, as
    here. Scores are not divided by a square root, unlike a transformer's. Examples are not mixed.
    """

    reduction: int = 8  # of the channels of queries and keys
    kernel_init: Initializer = nn.initializers.orthogonal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        few, half = max(channels // self.reduction, 1), max(channels // 2, 1)
        query = _pixels(self._conv(few, "query")(x))
        key = _pixels(max_pool(self._conv(few, "key")(x)))
        value = _pixels(max_pool(self._conv(half, "value")(x)))
        weights = jax.nn.softmax(jnp.einsum("bqc,bkc->bqk", query, key), axis=-1)
        seen = jnp.einsum("bqk,bkc->bqc", weights, value).reshape(*x.shape[:-1], half)
        gamma = self.param("gamma", nn.initializers.zeros, ())
        return x + gamma * self._conv(channels, "output")(seen)

    def _conv(self, features, name):
        return Pointwise(features, use_bias=False, kernel_init=self.kernel_init, name=name)


def _pixels(x):
    """[B, H, W, C] -> [B, H * W, C]."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of each 2x2 pixels: [B, H, W, C] -> [B, H/2, W/2, C], rounded up.

    As a maximum over axes, because the derivatives of `reduce_window` are slow on CPU. Equal maxima share a gradient.
    """
    batch, height, width, channels = x.shape
    odd = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    x = jnp.pad(x, odd, constant_values=-jnp.inf)
    x = x.reshape(batch, x.shape[1] // 2, 2, x.shape[2] // 2, 2, channels)
    return jnp.max(x, axis=(2, 4))
