"""f-divergences: what convex duality says of them, their bound on discrete distributions, and the games they give."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import losses

NAMES = list(losses.F_DIVERGENCES)

# f(p / q) integrated over q, written out for each.
DIVERGENCE = {
    "kl": lambda p, q: (p * np.log(p / q)).sum(),
    "reverse_kl": lambda p, q: (q * np.log(q / p)).sum(),
    "jensen_shannon": lambda p, q: (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))).sum(),
    "squared_hellinger": lambda p, q: ((np.sqrt(p) - np.sqrt(q)) ** 2).sum(),
    "pearson": lambda p, q: ((p - q) ** 2 / q).sum(),
}
# The optimal logit v(u), u = p / q, where g(v) = f'(u); by hand.
OPTIMAL = {
    "kl": lambda u: 1 + np.log(u),
    "reverse_kl": np.log,
    "jensen_shannon": np.log,
    "squared_hellinger": lambda u: np.log(u) / 2,
    "pearson": lambda u: 2 * (u - 1),
}
# The domain of the conjugate: t below this.
UPPER = {"kl": np.inf, "reverse_kl": 0.0, "jensen_shannon": np.log(2), "squared_hellinger": 1.0, "pearson": np.inf}


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


@functools.cache
def discriminator(name):
    return jax.jit(functools.partial(losses.f_gan_discriminator_loss, divergence=name))


def distributions(seed=0, size=6):
    rng = np.random.default_rng(seed)
    p, q = rng.uniform(0.1, 1, (2, size))
    return p / p.sum(), q / q.sum()


def test_the_table_has_the_paper_s_divergences():
    assert set(NAMES) == {"kl", "reverse_kl", "jensen_shannon", "squared_hellinger", "pearson"}


@pytest.mark.parametrize("name", NAMES)
def test_f_is_convex_and_zero_at_one(name, double):
    f = losses.F_DIVERGENCES[name].f
    np.testing.assert_allclose(f(jnp.float64(1.0)), 0, atol=1e-15)
    u = jnp.asarray(np.geomspace(0.05, 20, 30))
    assert (jax.vmap(jax.grad(jax.grad(f)))(u) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_f_gives_the_divergence(name, double):
    p, q = distributions()
    np.testing.assert_allclose((q * losses.F_DIVERGENCES[name].f(p / q)).sum(), DIVERGENCE[name](p, q), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_fenchel_and_young(name, double):
    f, conjugate, activation, _ = losses.F_DIVERGENCES[name]
    u = np.geomspace(0.1, 5, 20)
    touching = jax.vmap(jax.grad(f))(jnp.asarray(u))
    np.testing.assert_allclose(f(u) + conjugate(touching), u * touching, rtol=1e-9, atol=1e-12)
    t = np.asarray(activation(jnp.linspace(-2, 2, 15)))
    gap = f(u[:, None]) + conjugate(t) - u[:, None] * t
    assert (gap >= -1e-12).all() and gap.max() > 0.1
    # The inverse of f' is the derivative of the conjugate.
    np.testing.assert_allclose(jax.vmap(jax.grad(conjugate))(touching), u, rtol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_the_activation_rises_and_stays_in_the_domain_of_the_conjugate(name, double):
    _, conjugate, activation, _ = losses.F_DIVERGENCES[name]
    t = np.asarray(activation(jnp.linspace(-20, 20, 101)))
    assert (np.diff(t) > 0).all() and t.max() < UPPER[name]
    assert np.isfinite(conjugate(t)).all()
    # All of the domain can be reached: from far below to its upper end.
    assert t.min() < -10 and (t.max() > 10 or t.max() > UPPER[name] - 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_simplified_composition_is_the_composition(name, double):
    _, conjugate, activation, composition = losses.F_DIVERGENCES[name]
    v = jnp.linspace(-8, 8, 41)
    np.testing.assert_allclose(composition(v), conjugate(activation(v)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_optimal_critic_attains_the_divergence_and_others_stay_below(name, double):
    p, q = distributions()
    f, _, activation, _ = losses.F_DIVERGENCES[name]
    v = OPTIMAL[name](p / q)
    np.testing.assert_allclose(activation(v), jax.vmap(jax.grad(f))(jnp.asarray(p / q)), rtol=1e-9, atol=1e-12)

    def bound(v):
        # Each outcome is its own real example with weight p and generated one with weight q: the two terms apart.
        loss = losses.f_gan_discriminator_loss(jnp.concatenate([v, v]), jnp.concatenate([v, v]), divergence=name)
        fake_term = -losses.f_gan_generator_loss(v, divergence=name)
        real_term = loss[: len(v)] - fake_term
        return -(p * real_term + q * fake_term).sum()

    divergence = DIVERGENCE[name](p, q)
    np.testing.assert_allclose(bound(jnp.asarray(v)), divergence, rtol=1e-10)
    np.testing.assert_allclose(jax.jit(jax.grad(bound))(jnp.asarray(v)), 0, atol=1e-12)
    rng = np.random.default_rng(1)
    for scale in (0.01, 0.3, 1.0):
        assert bound(jnp.asarray(v + rng.normal(0, scale, v.shape))) < divergence
    # Equal distributions: the bound is 0.
    same = losses.f_gan_discriminator_loss(*[jnp.full(3, OPTIMAL[name](1.0))] * 2, divergence=name)
    np.testing.assert_allclose(same, 0, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_minus_the_bound_on_samples(name):
    # Counts in place of weights: 12 examples of each kind over 3 outcomes.
    counts_p, counts_q = np.array([6, 4, 2]), np.array([3, 3, 6])
    v = OPTIMAL[name](counts_p / counts_q).astype(np.float32)
    loss = discriminator(name)(np.repeat(v, counts_p), np.repeat(v, counts_q))
    assert loss.shape == (12,) and loss.dtype == jnp.float32
    np.testing.assert_allclose(-loss.mean(), DIVERGENCE[name](counts_p / 12, counts_q / 12), rtol=1e-5)


def test_jensen_shannon_is_the_minimax_game_and_a_constant():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(0, 2, (2, 8)).astype(np.float32)
    two_log_2 = 2 * np.log(2)
    np.testing.assert_allclose(
        losses.f_gan_discriminator_loss(real, fake, divergence="jensen_shannon"),
        losses.minimax_discriminator_loss(real, fake) - two_log_2, rtol=1e-5, atol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(
        losses.f_gan_generator_loss(fake, divergence="jensen_shannon"),
        losses.minimax_generator_loss(fake) + np.log(2), rtol=1e-5, atol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(
        losses.f_gan_generator_loss(fake, divergence="jensen_shannon", saturating=False),
        losses.non_saturating_generator_loss(fake) - np.log(2), rtol=1e-5, atol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_s_two_forms(name):
    _, conjugate, activation, _ = losses.F_DIVERGENCES[name]
    v = jnp.linspace(-3, 3, 9)
    loss = losses.f_gan_generator_loss
    np.testing.assert_allclose(loss(v, divergence=name), -conjugate(activation(v)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(loss(v, divergence=name), loss(v, divergence=name, saturating=True))
    np.testing.assert_allclose(loss(v, divergence=name, saturating=False), -activation(v), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_types_and_limits(name):
    bound = 80.0
    v = np.array([bound, -bound, 0.0, 1.0], np.float32)
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        x = v.astype(dtype)
        value, pullback = jax.vjp(lambda r, f: losses.f_gan_discriminator_loss(r, f, divergence=name), x, x[::-1])
        assert value.dtype == jnp.float32 and np.isfinite(value).all()
        # In half precision the gradient's own cast may overflow float16, of which the largest number is 65504.
        if dtype != jnp.float16:
            assert all(np.isfinite(g.astype(jnp.float32)).all() for g in pullback(jnp.ones(4)))
        for saturating in (True, False):
            value = losses.f_gan_generator_loss(x, divergence=name, saturating=saturating)
            assert value.dtype == jnp.float32 and np.isfinite(value).all()


@pytest.mark.parametrize("name", ["jensen_shannon", "pearson"])
def test_those_that_do_not_overflow_take_any_logit(name):
    v = np.array([1e4, -1e4], np.float32)
    value, pullback = jax.vjp(discriminator(name), v, v[::-1])
    assert np.isfinite(value).all() and all(np.isfinite(g).all() for g in pullback(jnp.ones(2)))
    assert np.isfinite(losses.f_gan_generator_loss(v, divergence=name)).all()


def test_an_unknown_divergence_raises_with_the_known_ones():
    x = jnp.zeros(3)
    for call in (
        lambda: losses.f_gan_discriminator_loss(x, x, divergence="js"),
        lambda: losses.f_gan_generator_loss(x, divergence="js"),
    ):
        with pytest.raises(ValueError, match=r"'js'.*kl, reverse_kl, jensen_shannon, squared_hellinger, pearson"):
            call()


def test_different_shapes_and_whole_numbers_raise():
    with pytest.raises(ValueError, match=r"\(3,\).*\(3, 1\)"):
        losses.f_gan_discriminator_loss(jnp.zeros(3), jnp.zeros((3, 1)), divergence="kl")
    with pytest.raises(TypeError, match="int32"):
        losses.f_gan_generator_loss(jnp.arange(3), divergence="kl")
