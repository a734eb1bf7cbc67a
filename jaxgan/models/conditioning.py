"""Where a class label, a style or a latent reaches a network: modulated norms for generators, heads for discriminators.

| method | where | paper |
|---|---|---|
| conditional batch norm | `ConditionalBatchNorm` with labels | Dumoulin et al. 2017; Miyato and Koyama 2018 |
| the same from a vector | `ConditionalBatchNorm` with BigGAN's shared embedding and latents | Brock et al. 2019 |
| self-modulation | `ConditionalBatchNorm(hidden=32)` with z | Chen et al. 2019 |
| AdaIN | `AdaIN` with a style | Huang and Belongie 2017; Karras et al. 2019 |
| projection discriminator | `Judge(projection=True)` | Miyato and Koyama 2018 |
| AC-GAN | `Judge(heads=("class",))` | Odena et al. 2017 |
| 2C | `Judge(heads=("embedding",))` | Kang and Park 2020 (ContraGAN) |
| InfoGAN | `Judge(heads=("code",))` | Chen et al. 2016 |
| concatenation | `concatenate_label` | Mirza and Osindero 2014 |
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.errors import ConfigError
from jaxgan.models.batch_norm import Norm
from jaxgan.models.layers import Initializer, normal_init, scale_init


class Modulation(nn.Module):
    """What a condition makes of a norm: (scale, bias), each [B, features].

    The condition is a label, int32 [B], with a row of a table for each class (scale from N(1, 0.02), bias 0, so that
    the gain starts at 1); or a vector [B, E], with scale 1 + W e and bias V e. `hidden` puts a ReLU layer between.
    """

    features: int
    classes: int = 0  # of a label
    hidden: int = 0
    kernel_init: Initializer = nn.initializers.orthogonal()

    @nn.compact
    def __call__(self, condition: jax.Array) -> tuple[jax.Array, jax.Array]:
        if jnp.issubdtype(condition.dtype, jnp.integer):
            scale = nn.Embed(self.classes, self.features, embedding_init=scale_init(), name="scale")(condition)
            return scale, nn.Embed(self.classes, self.features, embedding_init=nn.initializers.zeros, name="bias")(
                condition
            )
        if self.hidden:
            condition = nn.relu(nn.Dense(self.hidden, kernel_init=self.kernel_init, name="hidden")(condition))
        use_bias = bool(self.hidden)  # BigGAN's are linear, self-modulation's affine
        scale, bias = (
            nn.Dense(self.features, use_bias=use_bias, kernel_init=self.kernel_init, name=name)(condition)
            for name in ("scale", "bias")
        )
        return 1.0 + scale, bias


class ConditionalBatchNorm(nn.Module):
    """Batch norm of [B, ..., C] whose scale and bias come from a condition; without one they are plain parameters.

    Synchronised over `axis_name` when that is set; running statistics as `layers.BatchNorm`'s.
    """

    classes: int = 0
    hidden: int = 0
    kernel_init: Initializer = nn.initializers.orthogonal()
    scale_init: Initializer = scale_init()
    epsilon: float = 1e-5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None = None, *, train: bool) -> jax.Array:
        norm = Norm(self.epsilon, self.axis_name, condition is None, self.scale_init, name="norm")
        x = norm(x, train=train)
        if condition is None:
            return x
        return modulate(x, *Modulation(x.shape[-1], self.classes, self.hidden, self.kernel_init)(condition))


class AdaIN(nn.Module):
    """Each picture's channels brought to mean 0 and variance 1, then scaled and moved by a style [B, E]."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, style: jax.Array) -> jax.Array:
        axes = tuple(range(1, x.ndim - 1))
        mean = jnp.mean(x, axes, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), axes, keepdims=True)
        x = (x - mean) * jax.lax.rsqrt(variance + self.epsilon)
        return modulate(x, *Modulation(x.shape[-1], kernel_init=nn.initializers.lecun_normal())(style))


def modulate(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """x [B, ..., C] times scale plus bias, each [B, C]."""
    shape = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
    return x * scale.reshape(shape) + bias.reshape(shape)


class Judge(nn.Module):
    """A discriminator's last layer: features [B, F] -> logits [B], and what its other heads say.

    With `projection` and labels the logit is w.h + b + e_y.h, e_y the label's row of a table. With `heads` the result
    is (logits, heads), heads a dict of "class" [B, classes], "code" [B, code_size], and "embedding" and "proxy"
    [B, embedding_size]: the picture's own vector and its class's. A network whose logits are its own affair gives them.
    """

    classes: int = 0
    projection: bool = False
    heads: tuple[str, ...] = ()
    code_size: int = 0
    embedding_size: int = 512
    use_bias: bool = True
    kernel_init: Initializer = normal_init()
    embedding_init: Initializer = normal_init()

    @nn.compact
    def __call__(
        self, h: jax.Array, label: jax.Array | None = None, logits: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, Mapping[str, jax.Array]]:
        if logits is None:
            logits = nn.Dense(1, use_bias=self.use_bias, kernel_init=self.kernel_init, name="logit")(h)[:, 0]
            if self.projection and label is not None:
                logits = logits + jnp.sum(self._of_label("projection", h.shape[-1], label) * h, axis=-1)
        if not self.heads:
            return logits
        found = {}
        for head in self.heads:
            if head in ("class", "code"):
                size = self.classes if head == "class" else self.code_size
                if size < 1:
                    option = "classes" if head == "class" else "code_size"
                    raise ConfigError(f"a discriminator's head {head!r} needs {option} of at least 1, not {size}")
                found[head] = nn.Dense(size, kernel_init=self.kernel_init, name=head)(h)
            elif head == "embedding":
                found[head] = nn.Dense(self.embedding_size, kernel_init=self.kernel_init, name=head)(h)
                found["proxy"] = self._of_label("proxy", self.embedding_size, label)
            else:
                raise ConfigError(f"a discriminator has no head {head!r}; known: class, code, embedding")
        return logits, found

    def _of_label(self, name, size, label):
        if label is None or self.classes < 1:
            given = "no labels" if label is None else f"classes={self.classes}"
            raise ConfigError(f"a discriminator's {name} needs labels and how many classes there are; got {given}")
        return nn.Embed(self.classes, size, embedding_init=self.embedding_init, name=name)(label)


def concatenate_label(x: jax.Array, label: jax.Array | None, classes: int) -> jax.Array:
    """x [B, F], with the one-hot label beside it: [B, F + classes]; x itself without a label."""
    if label is None:
        return x
    return jnp.concatenate([x, jax.nn.one_hot(label, classes, dtype=x.dtype)], axis=-1)
