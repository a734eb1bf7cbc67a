"""Layers that the networks share."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.errors import ConfigError
from jaxgan.models import convolution
from jaxgan.models.batch_norm import Norm

Initializer = nn.initializers.Initializer
SMALLEST_BASE = 2


def normal_init(std: float = 0.02) -> Initializer:
    """N(0, std): the weights of Radford et al. 2016 (DCGAN), section 4."""
    return nn.initializers.normal(std)


def scale_init(std: float = 0.02) -> Initializer:
    """N(1, std): the scales of the DCGAN's batch normalisation."""

    def init(key, shape, dtype=jnp.float32):
        return 1.0 + std * jax.random.normal(key, shape, dtype)

    return init


def leaky_relu(x: jax.Array, slope: float = 0.2) -> jax.Array:
    """x where it is not negative, `slope` x elsewhere (by default DCGAN's).

    As a product, so that each derivative is one product too; those of a `where` over both sides are two and a sum.
    """
    return x * jnp.where(x >= 0, 1.0, slope).astype(x.dtype)


def smallest_map(family: str, what: str, shape: Sequence[int], factor: int, remedy: str) -> tuple[int, int]:
    """(H, W) of pictures `shape` = (H, W, C) reduced by `factor`.

    Raises:
        ConfigError: H or W is no multiple of the factor, or a side would be under 2. The message begins with the
            family and `what` asks for it, names the sizes that would do, and the nearest, and ends with another remedy.
    """
    if len(shape) != 3:
        raise ConfigError(f"{family}: needs pictures (height, width, channels), got shape {tuple(shape)}")
    smallest = SMALLEST_BASE * factor
    height, width = shape[:2]
    if any(side % factor or side < smallest for side in (height, width)):
        nearest = [max(smallest, (side + factor // 2) // factor * factor) for side in (height, width)]
        raise ConfigError(
            f"{family}: {what} go with pictures whose sides are multiples of {factor}, {smallest} or more, "
            f"not with {height}x{width}. Nearest is {nearest[0]}x{nearest[1]}: change the size of the pictures "
            f"(config.data.image_size), or {remedy}."
        )
    return height // factor, width // factor


class Conv(nn.Module):
    """Convolution with "SAME" padding: [B, H, W, C] -> [B, H/stride, W/stride, features]."""

    features: int
    kernel: int = 4
    stride: int = 2
    use_bias: bool = True
    kernel_init: Initializer = normal_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        x = convolution.conv(x, self.param("kernel", self.kernel_init, shape), self.stride)
        if self.use_bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.features,))
        return x


class ConvTranspose(nn.Module):
    """Transposed convolution: [B, H, W, C] -> [B, H * stride, W * stride, features].

    The kernel is [k, k, features, C], that of the convolution whose transpose this is.
    """

    features: int
    kernel: int = 4
    stride: int = 2
    use_bias: bool = True
    kernel_init: Initializer = normal_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, self.features, x.shape[-1])
        x = convolution.conv_transpose(x, self.param("kernel", self.kernel_init, shape), self.stride)
        if self.use_bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.features,))
        return x


class Pointwise(nn.Module):
    """A 1x1 convolution, in the type of x: [..., C] -> [..., features]. `nn.Dense`, whose parameters it has, but as
    fast on a CPU for pictures as for rows."""

    features: int
    use_bias: bool = True
    kernel_init: Initializer = normal_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        x = convolution.pointwise(x, kernel.astype(x.dtype))
        if self.use_bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return x


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, synchronised over `axis_name` when that is set.

    The running statistics move by a tenth towards each training batch's (momentum 0.9); epsilon is 1e-5; the scale
    starts from N(1, 0.02).
    """

    axis_name: str | None = None
    scale_init: Initializer = scale_init()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return Norm(axis_name=self.axis_name, scale_init=self.scale_init, name="norm")(x, train=train)


class Dropout(nn.Module):
    """Dropout whose mask belongs to the example's place in the global batch, so not to a device.

    Needs the "dropout" random stream while training.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, index: jax.Array | None = None) -> jax.Array:
        if not train or self.rate == 0.0:
            return x
        index = jnp.arange(x.shape[0]) if index is None else index
        key = self.make_rng("dropout")
        keep = 1.0 - self.rate
        mask = jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(key, i), keep, x.shape[1:]))(index)
        return jnp.where(mask, x / keep, 0.0)
