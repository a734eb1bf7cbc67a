"""Consistency penalties against NumPy float64, with augmentations and networks whose outcome is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgan import losses

RNG = np.random.default_rng(0)
REAL, FAKE = (RNG.normal(size=(4, 2, 3)).astype(np.float32) for _ in range(2))
Z, OTHER_Z = (RNG.normal(size=(4, 5)).astype(np.float32) for _ in range(2))
MIX = RNG.normal(size=(5, 6)).astype(np.float32)


def critic(x):
    """A patch's logit for each column, not linear: [B, 2, 3] -> [B, 3, 1]."""
    return (jnp.square(x).sum(1) + x[:, 0])[..., None]


def critic64(x):
    return np.square(x).sum(1) + x[:, 0]


def augment(x):
    return x * 0.5 + 0.25


def generator(z):
    return jnp.tanh(z @ MIX).reshape(-1, 2, 3)


def generator64(z):
    return np.tanh(z @ MIX.astype(np.float64)).reshape(-1, 2, 3)


def cr64(x):
    return np.square(critic64(x) - critic64(augment(x))).mean(-1)


X, Y, LATENT = (a.astype(np.float64) for a in (REAL, FAKE, Z))


@pytest.mark.parametrize("shape", [(7,), (5, 1), (2, 3, 3, 1)], ids=str)
def test_the_squared_difference_of_two_arrays_of_logits(shape, strict):
    a, b = np.random.default_rng(7).normal(size=(2, *shape)).astype(np.float32)
    value = losses.consistency_penalty(a, b)
    assert value.shape == shape and value.dtype == jnp.float32
    np.testing.assert_allclose(value, np.square(a.astype(np.float64) - b), rtol=1e-5)
    # The gradient goes through both.
    grads = jax.grad(lambda *pair: losses.consistency_penalty(*pair).sum(), (0, 1))(a, b)
    np.testing.assert_allclose(grads[0], 2 * (a - b), rtol=1e-5)
    np.testing.assert_allclose(grads[1], 2 * (b - a), rtol=1e-5)


VALUES = {
    "cr": (lambda: losses.cr_penalty(critic, REAL, augment), cr64(X)),
    "bcr": (lambda: losses.bcr_penalty(critic, REAL, FAKE, augment), cr64(X) + cr64(Y)),
    "bcr, a quarter of fake": (
        lambda: losses.bcr_penalty(critic, REAL, FAKE, augment, fake_weight=0.25),
        cr64(X) + 0.25 * cr64(Y),
    ),
    "zcr, discriminator": (
        lambda: losses.zcr_discriminator_penalty(critic, generator, Z, augment),
        np.square(critic64(generator64(LATENT)) - critic64(generator64(augment(LATENT)))).mean(-1),
    ),
    "zcr, generator": (
        lambda: losses.zcr_generator_penalty(generator, Z, augment),
        -np.square(generator64(LATENT) - generator64(augment(LATENT))).mean((1, 2)),
    ),
    "mode seeking": (
        lambda: losses.mode_seeking_penalty(REAL, FAKE, Z, OTHER_Z),
        1 / (np.abs(X - Y).mean((1, 2)) / np.abs(LATENT - OTHER_Z).mean(1) + 1e-5),
    ),
    "mode seeking, eps": (
        lambda: losses.mode_seeking_penalty(REAL, FAKE, Z, OTHER_Z, eps=0.5),
        1 / (np.abs(X - Y).mean((1, 2)) / np.abs(LATENT - OTHER_Z).mean(1) + 0.5),
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name):
    function, expected = VALUES[name]
    for value in (function(), jax.jit(function)()):
        assert value.shape == (4,) and value.dtype == jnp.float32
        np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_logits_without_patches():
    value = losses.cr_penalty(lambda x: critic(x)[:, 0, 0], REAL, augment)
    np.testing.assert_allclose(value, np.square(critic64(X) - critic64(augment(X)))[:, 0], rtol=1e-4)


def test_the_augmentation_is_of_the_critic_s_input_and_nothing_else():
    seen = []

    def spy(x):
        seen.append(np.asarray(x))
        return x.sum((1, 2))

    losses.bcr_penalty(spy, REAL, FAKE, augment)
    expected = [REAL, augment(REAL), FAKE, augment(FAKE)]
    assert len(seen) == 4
    for x in expected:
        assert any(np.allclose(x, y, atol=1e-6) for y in seen)


def test_a_collapsed_generator_pays_one_over_eps():
    value = losses.mode_seeking_penalty(REAL, REAL, Z, OTHER_Z)
    np.testing.assert_allclose(value, 1e5, rtol=1e-5)


def test_nothing_changed_is_nothing_paid():
    def same(x):
        return x

    for value in (
        losses.cr_penalty(critic, REAL, same),
        losses.bcr_penalty(critic, REAL, FAKE, same),
        losses.zcr_discriminator_penalty(critic, generator, Z, same),
        losses.zcr_generator_penalty(generator, Z, same),
    ):
        np.testing.assert_array_equal(value, np.zeros(4))


def test_gradients_by_finite_differences():
    def scaled(scale):
        def critic_of(x):
            return jnp.tanh(scale * x).sum(1)

        def generator_of(z):
            return jnp.tanh(scale * generator(z))

        return (
            losses.bcr_penalty(critic_of, REAL, FAKE, augment)
            + losses.zcr_discriminator_penalty(critic_of, generator_of, Z, augment)
            + losses.zcr_generator_penalty(generator_of, Z, augment)
        ).mean() + 0.1 * losses.mode_seeking_penalty(generator_of(Z), generator_of(OTHER_Z), Z, OTHER_Z).mean()

    check_grads(jax.jit(scaled), (jnp.float32(0.7),), order=2, atol=1e-2, rtol=1e-2, eps=1e-2)


def test_half_precision_is_computed_in_float32():
    half = [jnp.asarray(x, jnp.bfloat16) for x in (REAL, FAKE, Z, OTHER_Z)]
    full = [x.astype(jnp.float32) for x in half]
    for function in (losses.mode_seeking_penalty, lambda a, b, *_: losses.consistency_penalty(a, b)):
        value = function(*half)
        assert value.dtype == jnp.float32
        np.testing.assert_array_equal(value, function(*full))
    a, b, z, _ = half
    for value in (
        losses.cr_penalty(lambda x: x.sum((1, 2)), a, lambda x: -x),
        losses.bcr_penalty(lambda x: x.sum((1, 2)), a, b, lambda x: -x),
        losses.zcr_discriminator_penalty(lambda x: x[:, 0], lambda z: z, z, lambda z: -z),
        losses.zcr_generator_penalty(lambda z: z, z, lambda z: -z),
    ):
        assert value.dtype == jnp.float32
    # z -> -z with G the identity: the mean of (2 z)^2, in float32 from the bfloat16 numbers.
    np.testing.assert_allclose(value, -4 * np.square(np.asarray(full[2], np.float64)).mean(1), rtol=1e-5)


def test_different_shapes_raise_with_both_shapes():
    small = np.zeros((4, 2), np.float32)
    big = np.zeros((4, 3), np.float32)
    shapes = r"\(4, 2\).*\(4, 3\)"
    with pytest.raises(ValueError, match=rf"^logits {shapes}"):
        losses.consistency_penalty(small, big)
    with pytest.raises(ValueError, match=rf"^logits {shapes}"):
        losses.cr_penalty(lambda x: x, small, lambda x: big)
    with pytest.raises(ValueError, match=rf"^real {shapes}"):
        losses.bcr_penalty(lambda x: x.sum(1), small, big, lambda x: x)
    with pytest.raises(ValueError, match=rf"^logits {shapes}"):
        losses.zcr_discriminator_penalty(lambda x: x, lambda z: z, small, lambda z: big)
    with pytest.raises(ValueError, match=r"^G\(z\) \(4, 2\) and G\(T\(z\)\) \(4, 3\)"):
        losses.zcr_generator_penalty(lambda z: z, small, lambda z: big)
    with pytest.raises(ValueError, match=r"^fake \(4, 2\) and other_fake \(4, 3\)"):
        losses.mode_seeking_penalty(small, big, big, big)
    with pytest.raises(ValueError, match=r"^z \(4, 2\) and other_z \(4, 3\)"):
        losses.mode_seeking_penalty(big, big, small, big)


@pytest.mark.parametrize(
    "penalty",
    [
        lambda critic, x: losses.cr_penalty(critic, x, jnp.negative),
        lambda critic, x: losses.bcr_penalty(critic, x, x, jnp.negative),
        lambda critic, x: losses.zcr_discriminator_penalty(critic, jnp.tanh, x, jnp.negative),
    ],
)
def test_a_critic_without_logits_for_each_example_raises(penalty):
    with pytest.raises(ValueError, match=r"gave \(\) for examples \(4, 2\)"):
        penalty(jnp.sum, jnp.ones((4, 2)))


def test_logits_that_are_at_hand_stand_in_for_the_pass():
    real, fake = jnp.arange(6.0).reshape(3, 2), -jnp.ones((3, 2))

    def critic(x):
        return x @ jnp.array([1.0, -3.0])

    given = {"real_logits": critic(real) + 1.0, "fake_logits": critic(fake) + 2.0}
    augmented = critic(0.5 * real), critic(0.5 * fake)
    r, f = (np.square(np.asarray(a - b)) for a, b in zip(given.values(), augmented, strict=True))
    halve = partial(jnp.multiply, 0.5)
    np.testing.assert_allclose(losses.cr_penalty(critic, real, halve, real_logits=given["real_logits"]), r, rtol=1e-6)
    total = losses.bcr_penalty(critic, real, fake, halve, fake_weight=3.0, **given)
    np.testing.assert_allclose(total, r + 3.0 * f, rtol=1e-6)
