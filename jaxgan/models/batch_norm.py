"""Batch normalisation of [B, ..., C] (Ioffe and Szegedy 2015, arXiv:1502.03167), in the forms that run fast.

flax's, in numbers, parameters and running statistics; what differs are the sums on a GPU and the derivative there:

- XLA:GPU gives a sum over up to 4,096 pixels of a batch to one block for 32 channels, and where it computes whole
  arrays in the same kernel, those to the same few blocks. So means are taken of each example first, and then of the
  examples.
- The derivative in closed form takes one pass for both of its sums and one for what it returns, where the one that is
  derived from the plain form takes a kernel for each sum.

On an H200 (jax 0.11) those kernels took 34 us each for [64, 7, 7, 64], and the sums alone 5; all sums together were 256
of the 557 us of a DCGAN's update for 28x28.

CPU and TPU keep the derived form: XLA:CPU computes the closed one anew inside of the transposes that read it, with
which an update of that DCGAN took 5 % longer.
The price of `custom_vjp`: reverse mode to any order, but no forward mode (`jax.jvp`, `jax.jacfwd`).
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Initializer = nn.initializers.Initializer
MOMENTUM = 0.9  # of the running statistics, which move by a tenth towards each training batch's


class Norm(nn.Module):
    """Batch norm over all axes but the last, synchronised over `axis_name` when that is set.

    Scale and bias are parameters if it is `affine`; else both are left out. The type of the result is that of x and the
    parameters, of all arithmetic and statistics float32 at the least.
    """

    epsilon: float = 1e-5
    axis_name: str | None = None
    affine: bool = True
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale, bias = jnp.ones(shape, x.dtype), jnp.zeros(shape, x.dtype)
        if self.affine:
            scale, bias = self.param("scale", self.scale_init, shape), self.param("bias", nn.initializers.zeros, shape)
        if not train:
            y = _scaled(x, mean.value, variance.value, scale, bias, self.epsilon)
        elif self.is_initializing():  # on one device, and no batch to learn from
            y, *_ = batch_norm(x, scale, bias, self.epsilon)
        else:
            y, *found = batch_norm(x, scale, bias, self.epsilon, self.axis_name)
            for average, now in zip((mean, variance), found, strict=True):
                average.value = MOMENTUM * average.value + (1 - MOMENTUM) * now
        return y.astype(jnp.result_type(x, scale, bias))


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, of each channel, and its statistics.

    Args:
        x: [B, ..., C].
        scale, bias: [C].
        epsilon: above 0.
        axis_name: of devices whose examples are one batch.

    Returns:
        y [B, ..., C]; mean and variance [C], the latter E[x^2] - E[x]^2 and not below 0. All float32 or wider. The last
        two are for running averages: no derivative goes through them.
    """
    return _forward(x, scale, bias, epsilon, axis_name)[0]


def _forward(x, scale, bias, epsilon, axis_name):
    wide = _wide(x)
    means = lax.platform_dependent(wide, jnp.square(wide), cpu=_means, tpu=_means, default=_means_on_gpu)
    mean, of_squares = _over_devices(means, axis_name)
    variance = _variance(mean, of_squares)
    y = _scaled(wide, mean, variance, scale, bias, epsilon)
    return (y, mean, variance), (x, mean, of_squares, scale, bias)


def _backward(epsilon, axis_name, residuals, cotangents):
    forms = {"cpu": _derived, "tpu": _derived, "default": _closed}
    forms = {platform: partial(form, epsilon, axis_name) for platform, form in forms.items()}
    dx, d_scale, d_bias = lax.platform_dependent(*residuals, cotangents[0], **forms)
    return dx.astype(residuals[0].dtype), d_scale, d_bias


batch_norm.defvjp(_forward, _backward)


def _derived(epsilon, axis_name, x, mean, of_squares, scale, bias, g):
    def given_means(x, mean, of_squares, scale, bias):
        return _scaled(x, mean, _variance(mean, of_squares), scale, bias, epsilon)

    x, each = _wide(x), x.shape[-1] / x.size
    _, pull_back = jax.vjp(given_means, x, mean, of_squares, scale, bias)
    dx, *d_means, d_scale, d_bias = pull_back(g)
    d_mean, d_of_squares = _over_devices(d_means, axis_name)
    return dx + d_mean * each + d_of_squares * each * 2.0 * x, d_scale, d_bias


def _closed(epsilon, axis_name, x, mean, of_squares, scale, bias, g):
    inverse = lax.rsqrt(_variance(mean, of_squares) + epsilon)
    centred, pixels = _wide(x) - mean, x.size // x.shape[-1]
    here = _means_on_gpu(g, g * centred)
    of_g, of_product = _over_devices(here, axis_name)
    dx = (g - of_g - centred * (jnp.square(inverse) * of_product)) * (inverse * scale)
    return dx, (pixels * here[1] * inverse).astype(scale.dtype), (pixels * here[0]).astype(bias.dtype)


def _means(*arrays):
    """Of each channel."""
    return [jnp.mean(a, tuple(range(a.ndim - 1))) for a in arrays]


def _means_on_gpu(*arrays):
    """The same; the barriers keep XLA from making one sum of the two, and from taking the second in every pixel."""
    if arrays[0].ndim == 2:
        return _means(*arrays)
    of_examples = lax.optimization_barrier([jnp.sum(a, tuple(range(1, a.ndim - 1))) for a in arrays])
    means = jnp.sum(jnp.stack(of_examples) * (arrays[0].shape[-1] / arrays[0].size), 1)
    return list(lax.optimization_barrier(means))


def _over_devices(means, axis_name):
    return means if axis_name is None else list(lax.pmean(jnp.stack(means), axis_name))


def _variance(mean, of_squares):
    return jnp.maximum(0.0, of_squares - jnp.square(mean))


def _scaled(x, mean, variance, scale, bias, epsilon):
    return (x - mean) * (lax.rsqrt(variance + epsilon) * scale) + bias


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
