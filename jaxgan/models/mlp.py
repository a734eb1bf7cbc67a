"""Fully connected networks, for flattened pictures and for points."""

from collections.abc import Sequence
from math import prod

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.errors import ConfigError
from jaxgan.models.conditioning import Judge, concatenate_label
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
    """Latents [B, Z] (and labels [B]) -> [B, *shape]: in [-1, 1] with `final_tanh` (pictures), without it unbounded.

    Labels are concatenated with the latents as one-hot vectors (Mirza and Osindero 2014).
    """

    shape: Sequence[int] = (28, 28, 1)
    hidden: Sequence[int] = (256, 512, 1024)
    activation: str = "leaky_relu"
    batch_norm: bool = False
    final_tanh: bool = True
    init_std: float = 0.0
    classes: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, z: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        activation = activation_of(self.activation)
        x = concatenate_label(z, label, self.classes)
        for features in self.hidden:
            x = nn.Dense(features, use_bias=not self.batch_norm, kernel_init=initializer(self.init_std))(x)
            if self.batch_norm:
                x = BatchNorm(axis_name=self.axis_name)(x, train=train)
            x = activation(x)
        x = nn.Dense(prod(self.shape), kernel_init=initializer(self.init_std))(x).reshape(-1, *self.shape)
        return jnp.tanh(x) if self.final_tanh else x


class Discriminator(nn.Module):
    """Pictures or points [B, ...] (and labels [B]) -> logits [B], or (logits, heads). Dropout by the example's index.

    With `maxout` pieces a hidden unit is the largest of so many affine functions (Goodfellow et al., Maxout Networks,
    2013), and the activation is not used.
    """

    hidden: Sequence[int] = (1024, 512, 256)
    activation: str = "leaky_relu"
    maxout: int = 0
    dropout: float = 0.3
    init_std: float = 0.0
    classes: int = 0
    concatenate: bool = True
    projection: bool = False
    heads: tuple[str, ...] = ()
    code_size: int = 0
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        activation, init = activation_of(self.activation), initializer(self.init_std)
        x = x.reshape(x.shape[0], -1)
        x = concatenate_label(x, label, self.classes) if self.concatenate else x
        for features in self.hidden:
            x = nn.Dense(features * max(1, self.maxout), kernel_init=init)(x)
            x = x.reshape(x.shape[0], features, self.maxout).max(axis=-1) if self.maxout else activation(x)
            x = Dropout(self.dropout)(x, train=train, index=index)
        heads = {"heads": self.heads, "code_size": self.code_size, "kernel_init": init}
        return Judge(self.classes, self.projection, **heads, name="judge")(x, label)
