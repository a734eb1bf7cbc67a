"""Fully connected networks, for flattened pictures and for points."""

from collections.abc import Sequence
from math import prod

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.errors import ConfigError
from jaxgan.models.layers import BatchNorm, Dropout, Initializer, leaky_relu, normal_init

ACTIVATIONS = {"leaky_relu": leaky_relu, "relu": nn.relu, "tanh": jnp.tanh}


def activation_of(name: str):
    """The activation function with this name; `ConfigError` lists the known ones."""
    if name not in ACTIVATIONS:
        raise ConfigError(f"mlp: unknown activation {name!r}; known: {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]


def initializer(std: float) -> Initializer:
    """N(0, std), or for 0 the variance scaling that dense layers start from anyway."""
    return normal_init(std) if std else nn.linear.default_kernel_init


class Generator(nn.Module):
    """Latents [B, Z] -> [B, *shape]: in [-1, 1] with `final_tanh` (pictures), unbounded without (points)."""

    shape: Sequence[int] = (28, 28, 1)
    hidden: Sequence[int] = (256, 512, 1024)
    activation: str = "leaky_relu"
    batch_norm: bool = False
    final_tanh: bool = True
    init_std: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool, index: jax.Array | None = None) -> jax.Array:
        activation = activation_of(self.activation)
        x = z
        for features in self.hidden:
            x = nn.Dense(features, use_bias=not self.batch_norm, kernel_init=initializer(self.init_std))(x)
            if self.batch_norm:
                x = BatchNorm(axis_name=self.axis_name)(x, train=train)
            x = activation(x)
        x = nn.Dense(prod(self.shape), kernel_init=initializer(self.init_std))(x).reshape(-1, *self.shape)
        return jnp.tanh(x) if self.final_tanh else x


class Discriminator(nn.Module):
    """Pictures or points [B, ...] -> logits [B]. Dropout after every hidden layer, by the example's index.

    With `maxout` pieces a hidden unit is the largest of so many affine functions (Goodfellow et al., Maxout Networks,
    2013), and the activation is not used.
    """

    hidden: Sequence[int] = (1024, 512, 256)
    activation: str = "leaky_relu"
    maxout: int = 0
    dropout: float = 0.3
    init_std: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, index: jax.Array | None = None) -> jax.Array:
        activation, init = activation_of(self.activation), initializer(self.init_std)
        x = x.reshape(x.shape[0], -1)
        for features in self.hidden:
            x = nn.Dense(features * max(1, self.maxout), kernel_init=init)(x)
            x = x.reshape(x.shape[0], features, self.maxout).max(axis=-1) if self.maxout else activation(x)
            x = Dropout(self.dropout)(x, train=train, index=index)
        return nn.Dense(1, kernel_init=init)(x)[:, 0]
