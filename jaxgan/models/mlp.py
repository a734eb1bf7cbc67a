"""Fully connected networks, for flattened pictures and for points."""

from collections.abc import Sequence
from math import prod

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.errors import ConfigError
from jaxgan.models.layers import BatchNorm, Dropout, leaky_relu

ACTIVATIONS = {"leaky_relu": leaky_relu, "relu": nn.relu, "tanh": jnp.tanh}


def activation_of(name: str):
    """The activation function with this name; `ConfigError` lists the known ones."""
    if name not in ACTIVATIONS:
        raise ConfigError(f"mlp: unknown activation {name!r}; known: {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]


class Generator(nn.Module):
    """Latents [B, Z] -> [B, *shape]: in [-1, 1] with `final_tanh` (pictures), unbounded without (points)."""

    shape: Sequence[int] = (28, 28, 1)
    hidden: Sequence[int] = (256, 512, 1024)
    activation: str = "leaky_relu"
    batch_norm: bool = False
    final_tanh: bool = True
    axis_name: str | None = None

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool, index: jax.Array | None = None) -> jax.Array:
        activation = activation_of(self.activation)
        x = z
        for features in self.hidden:
            x = nn.Dense(features, use_bias=not self.batch_norm)(x)
            if self.batch_norm:
                x = BatchNorm(axis_name=self.axis_name)(x, train=train)
            x = activation(x)
        x = nn.Dense(prod(self.shape))(x).reshape(-1, *self.shape)
        return jnp.tanh(x) if self.final_tanh else x


class Discriminator(nn.Module):
    """Pictures or points [B, ...] -> logits [B]. Dropout after every hidden layer, by the example's index."""

    hidden: Sequence[int] = (1024, 512, 256)
    activation: str = "leaky_relu"
    dropout: float = 0.3
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, index: jax.Array | None = None) -> jax.Array:
        activation = activation_of(self.activation)
        x = x.reshape(x.shape[0], -1)
        for features in self.hidden:
            x = activation(nn.Dense(features)(x))
            x = Dropout(self.dropout)(x, train=train, index=index)
        return nn.Dense(1)(x)[:, 0]
