"""Batch norm and its derivatives against flax's, in the form of a CPU and in that of a GPU."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import batch_norm
from jaxgan.models.batch_norm import Norm

SHAPES = {"pictures": (8, 5, 3, 4), "rows": (6, 4)}


@pytest.fixture(params=["cpu", "gpu"])
def form(request, monkeypatch):
    """The GPU's runs here too: it is the one that XLA is given where no other is named."""
    if request.param == "gpu":
        monkeypatch.setattr(batch_norm.lax, "platform_dependent", lambda *args, default, **_: default(*args))


def draw(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(3.0, 2.0, shape).astype(np.float32))


def flaxs(affine, axis_name=None):
    options = {"use_scale": affine, "use_bias": affine, "momentum": 0.9, "epsilon": 1e-3, "axis_name": axis_name}
    norm = nn.BatchNorm(**options)
    return norm.init, lambda v, x, train: norm.apply(v, x, use_running_average=not train, mutable=["batch_stats"])


def ours(affine, axis_name=None):
    norm = Norm(1e-3, axis_name, affine)
    return norm.init, lambda v, x, train: norm.apply(v, x, train=train, mutable=["batch_stats"])


def variables_of(init, x, **given):
    """With parameters and statistics that are no longer those of the start."""
    return jax.tree.map(lambda a: a + jnp.arange(1.0, 1 + a.size), init(jax.random.key(0), x, **given))


def close(a, b, tolerance=2e-5):
    scale = max(np.abs(np.asarray(x, np.float32)).max() for x in jax.tree.leaves(b))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=tolerance, atol=tolerance * scale
        ),
        a,
        b,
    )


def everything(apply, variables, x, target):
    """Values, first derivatives and second ones."""

    def loss(params, x):
        y, _ = apply({**variables, "params": params}, x, True)
        return jnp.sum(jnp.tanh(y) * target)

    def penalty(params, x):
        return sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(jax.grad(loss, (0, 1))(params, x)))

    given = variables.get("params", {}), x
    values = apply(variables, x, True), apply(variables, x, False)[0]
    return values, jax.grad(loss, (0, 1))(*given), jax.grad(penalty, (0, 1))(*given)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.usefixtures("form")
def test_values_and_derivatives_are_flaxs(shape, affine):
    (init, theirs), (our_init, mine) = flaxs(affine), ours(affine)
    x, target = draw(shape), draw(shape, 1)
    variables = variables_of(init, x, use_running_average=False)
    close(variables_of(our_init, x, train=True), variables)
    close(
        jax.jit(partial(everything, mine))(variables, x, target),
        jax.jit(partial(everything, theirs))(variables, x, target),
    )


@pytest.mark.usefixtures("form")
def test_bfloat16_is_summed_in_float32():
    x = draw((8, 5, 3, 4)).astype(jnp.bfloat16)
    (init, theirs), (_, mine) = flaxs(False), ours(False)
    variables = init(jax.random.key(0), x, use_running_average=False)

    def look(apply):
        def loss(x):
            y, stats = apply(variables, x, True)
            return jnp.sum(jnp.sin(y.astype(jnp.float32))), (y, stats)

        return jax.jit(jax.grad(loss, has_aux=True))(x)

    (dx, (y, stats)), (their_dx, (their_y, their_stats)) = look(mine), look(theirs)
    assert y.dtype == dx.dtype == jnp.bfloat16
    close(stats, their_stats)
    close((dx, y), (their_dx, their_y), 2**-7)


@pytest.mark.usefixtures("form")
def test_a_channel_without_variance_stays_finite():
    x = draw((8, 5, 3, 4)).at[..., 2].set(5.0)
    y, pull_back = jax.vjp(lambda x: batch_norm.batch_norm(x, jnp.ones(4), jnp.zeros(4), 1e-5)[0], x)
    assert np.abs(y[..., 2]).max() < 1e-2
    assert np.isfinite(pull_back(draw(x.shape, 1))[0]).all()


@pytest.mark.usefixtures("form")
def test_derivatives_over_devices_are_those_of_the_whole_batch():
    devices = jax.local_devices()
    if len(devices) < 4:
        pytest.skip("needs four devices, see tests/conftest.py")
    x, target = draw((8, 5, 3, 4)), draw((8, 5, 3, 4), 1)
    scale, bias = jnp.arange(1.0, 5.0), jnp.arange(4.0)

    def derivatives(axis_name, x, target):
        def loss(x, scale, bias):
            return jnp.sum(jnp.tanh(batch_norm.batch_norm(x, scale, bias, 1e-3, axis_name)[0]) * target)

        dx, *rest = jax.grad(loss, (0, 1, 2))(x, scale, bias)
        return dx, rest if axis_name is None else jax.lax.psum(rest, axis_name)

    whole, of_parameters = derivatives(None, x, target)
    shards = [a.reshape(4, 2, *a.shape[1:]) for a in (x, target)]
    parts, summed = jax.pmap(partial(derivatives, "batch"), "batch", devices=devices[:4])(*shards)
    close(parts.reshape(x.shape), whole)
    close([a[0] for a in summed], of_parameters)
