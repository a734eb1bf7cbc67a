"""Unrolled discriminators against closed forms and a loop by hand; packs entry by entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgan import losses

RATE = 0.3
PARAMS = {"w": jnp.array([0.5, -1.0]), "b": jnp.float32(0.2)}


def loss_of(params, real, fake):
    """Of a small critic that is not linear; a scalar."""
    logits = [jnp.tanh(x @ params["w"] + params["b"]) for x in (real, fake)]
    return losses.non_saturating_discriminator_loss(*logits).mean() + 0.1 * jnp.sum(jnp.square(params["w"]))


def examples():
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(mean, 1, (3, 2)), jnp.float32) for mean in (1.0, -0.5))


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_steps_towards_a_mean_in_closed_form(steps, strict):
    # L = 1/2 ||p - mean(x)||^2 moves p by a factor 1 - rate: p_k = m + (1 - rate)^k (p - m).
    def distance(p, x):
        return 0.5 * jnp.sum(jnp.square(p - x.mean(0)))

    p, x = jnp.array([2.0, -1.0]), examples()[0]
    ahead = losses.unrolled(distance, steps, RATE)
    left = (1 - RATE) ** steps
    m = np.asarray(x, np.float64).mean(0)
    for function in (ahead, jax.jit(ahead)):
        value = function(p, x)
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, m + left * (np.asarray(p) - m), rtol=1e-5)
    to_p, to_x = jax.jit(jax.jacrev(ahead, (0, 1)))(p, x)
    np.testing.assert_allclose(to_p, left * np.eye(2), atol=1e-6)
    np.testing.assert_allclose(to_x, np.einsum("ij,b->ibj", np.eye(2), np.full(3, (1 - left) / 3)), atol=1e-6)


def test_a_pytree_against_a_loop_by_hand():
    real, fake = examples()
    expected = PARAMS
    gradient = jax.jit(jax.grad(loss_of))
    for _ in range(4):
        expected = jax.tree.map(lambda p, g: p - RATE * g, expected, gradient(expected, real, fake))
    value = jax.jit(losses.unrolled(loss_of, 4, RATE))(PARAMS, real, fake)
    assert jax.tree.structure(value) == jax.tree.structure(PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), value, expected)


def test_no_steps_give_the_parameters_back():
    real, fake = examples()
    value = losses.unrolled(loss_of, 0, RATE)(PARAMS, real, fake)
    jax.tree.map(np.testing.assert_array_equal, value, PARAMS)


def in_type_of(x, tree):
    return jax.tree.map(lambda leaf: leaf.astype(x.dtype), tree)


def generator_loss(shift, steps):
    real, fake = examples()
    fake = fake + shift
    params = losses.unrolled(loss_of, steps, RATE)(in_type_of(shift, PARAMS), real, fake)
    return losses.non_saturating_generator_loss(jnp.tanh(fake @ params["w"] + params["b"])).mean()


def test_the_generator_s_gradient_through_the_steps():
    with jax.enable_x64(True):
        shift = jnp.array([0.1, -0.2], jnp.float64)
        through = jax.jit(lambda shift: generator_loss(shift, 3))
        check_grads(through, (shift,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-5)
        gradient = jax.grad(through)(shift)
        real, fake = examples()
        now = in_type_of(shift, PARAMS)
        ahead = losses.unrolled(loss_of, 3, RATE)(now, real, fake + shift)

        def fixed(shift, params):
            logits = jnp.tanh((fake + shift) @ params["w"] + params["b"])
            return losses.non_saturating_generator_loss(logits).mean()

        # It is neither that at the discriminator as it is, nor that at the one ahead taken as fixed.
        for params in (now, ahead):
            assert np.abs(gradient - jax.grad(fixed)(shift, params)).max() > 1e-2
        without = jax.grad(lambda shift: generator_loss(shift, 0))(shift)
        np.testing.assert_allclose(without, jax.grad(fixed)(shift, now), rtol=1e-9)


@pytest.mark.parametrize("shape", [(6, 1), (6, 3), (6, 2, 2, 3)], ids=str)
@pytest.mark.parametrize("packing", [1, 2, 3, 6])
def test_packs_hold_neighbours_channel_by_channel(shape, packing):
    x = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    packed = losses.pack(x, packing)
    channels = shape[-1]
    assert packed.shape == (6 // packing, *shape[1:-1], packing * channels) and packed.dtype == jnp.int32
    for i in range(6):
        place = i % packing * channels
        np.testing.assert_array_equal(packed[i // packing, ..., place : place + channels], x[i])


def test_packs_of_numbers_have_one_channel_each():
    x = jnp.arange(6, dtype=jnp.bfloat16)
    packed = losses.pack(x, 3)
    assert packed.dtype == jnp.bfloat16
    np.testing.assert_array_equal(packed, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("packing", [4, 0, -1, 12])
def test_a_batch_that_cannot_be_packed_raises_with_both_numbers(packing):
    with pytest.raises(ValueError, match=f"6 examples cannot be packed by {packing}$"):
        losses.pack(jnp.zeros((6, 2)), packing)
