"""Gradient penalties against closed forms in NumPy float64, at places drawn again from the documented numbers."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgan import losses

B = 5
KEY = jax.random.key(11)
KEYS = jax.random.split(jax.random.key(12), B)


def examples(shape, seed=0):
    """Real and generated examples of unlike means and spreads."""
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(0.3, 1.0, shape), rng.normal(-0.5, 2.0, shape)
    return real.astype(np.float32), fake.astype(np.float32)


def flat(x):
    return x.reshape(x.shape[0], -1)


class Quadratic:
    """D(x) = 1/2 x^T A x + b^T x, whose gradient A x + b tells where it was taken."""

    def __init__(self, size, seed=0):
        rng = np.random.default_rng(seed)
        a, self.b = rng.normal(size=(size, size)), rng.normal(size=size)
        self.a = 0.6 * (a + a.T) / np.sqrt(size)

    def __call__(self, x):
        x = flat(x)
        a, b = (jnp.asarray(c, x.dtype) for c in (self.a, self.b))
        return 0.5 * jnp.sum(x * jnp.matmul(x, a, precision="highest"), axis=-1) + jnp.matmul(x, b, precision="highest")

    def slope(self, x):
        """||A x + b|| in float64."""
        return np.linalg.norm(flat(x) @ self.a + self.b, axis=1)


def uniform(key, shape):
    return np.asarray(jax.random.uniform(key, shape, jnp.float32), np.float64)


def between(real, fake, key):
    along = uniform(key, (B,) + (1,) * (real.ndim - 1))
    return real + along * (fake.astype(np.float64) - real)


def near(real, key, scale=0.5, std=None):
    """DRAGAN's places as its authors' code draws them."""
    key_along, key_noise = jax.random.split(key)
    along = uniform(key_along, (B,) + (1,) * (real.ndim - 1))
    std = np.std(real.astype(np.float64)) if std is None else std
    return real + along * scale * std * uniform(key_noise, real.shape)


def around(real, key, scale=0.5):
    return real + scale * np.asarray(jax.random.normal(key, real.shape, jnp.float32), np.float64)


# name: (the penalty of (critic, real, fake, key), where it is taken, its value from the slope there)
PENALTIES = {
    "r1": (lambda c, x, y, k: losses.r1_penalty(c, x), lambda x, y, k: x, lambda s: s**2 / 2),
    "r2": (lambda c, x, y, k: losses.r2_penalty(c, y), lambda x, y, k: y, lambda s: s**2 / 2),
    "wgan_gp": (losses.wgan_gp_penalty, between, lambda s: (s - 1) ** 2),
    "wgan_gp to 2": (lambda *a: losses.wgan_gp_penalty(*a, 2.0), between, lambda s: (s - 2) ** 2),
    "wgan_gp to 0": (lambda *a: losses.wgan_gp_penalty(*a, target=0.0), between, lambda s: s**2),
    "wgan_gp from above": (
        lambda *a: losses.wgan_gp_penalty(*a, one_sided=True),
        between,
        lambda s: np.maximum(s - 1, 0) ** 2,
    ),
    "wgan_lp": (losses.wgan_lp_penalty, between, lambda s: np.maximum(s - 1, 0) ** 2),
    "wgan_lp to 2": (lambda *a: losses.wgan_lp_penalty(*a, 2.0), between, lambda s: np.maximum(s - 2, 0) ** 2),
    "zero_centered_gp": (losses.zero_centered_gp_penalty, between, lambda s: s**2),
    "dragan": (
        lambda c, x, y, k: losses.dragan_penalty(c, x, k),
        lambda x, y, k: near(x, k),
        lambda s: (s - 1) ** 2,
    ),
    "dragan, std given": (
        lambda c, x, y, k: losses.dragan_penalty(c, x, k, std=3.0, scale=0.25, target=0.5),
        lambda x, y, k: near(x, k, 0.25, 3.0),
        lambda s: (s - 0.5) ** 2,
    ),
    "dragan, gaussian": (
        lambda c, x, y, k: losses.dragan_penalty(c, x, k, noise="gaussian"),
        lambda x, y, k: around(x, k),
        lambda s: (s - 1) ** 2,
    ),
    "dragan, gaussian, scaled": (
        lambda c, x, y, k: losses.dragan_penalty(c, x, k, noise="gaussian", scale=2.0, target=2.0, std=7.0),
        lambda x, y, k: around(x, k, 2.0),
        lambda s: (s - 2) ** 2,
    ),
}
each = pytest.mark.parametrize("name", PENALTIES)
FUNCTIONS = ["r1", "r2", "wgan_gp", "wgan_lp", "zero_centered_gp", "dragan", "dragan, gaussian"]
DIFFERENT = ["r1", "wgan_gp", "dragan"]  # the others take these ways to the critic
INTERPOLATING = ["wgan_gp", "wgan_lp", "zero_centered_gp"]
DRAWING = [name for name in PENALTIES if name not in ("r1", "r2")]


def compute(names, critic, real, fake, key):
    """Several penalties at once: compiled together they take the time of one."""
    return {name: PENALTIES[name][0](critic, real, fake, key) for name in names}


@functools.cache
def quadratic_values(shape):
    real, fake = examples(shape)
    critic = Quadratic(flat(real).shape[1])
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        return jax.jit(lambda *arrays: compute(PENALTIES if shape == (B, 3) else FUNCTIONS, critic, *arrays))(
            real, fake, KEY
        )


@pytest.mark.parametrize(
    "name, shape", [(name, (B, 3)) for name in PENALTIES] + [(name, (B, 2, 3, 2)) for name in FUNCTIONS], ids=str
)
def test_values_with_a_quadratic_critic(name, shape):
    _, place, value = PENALTIES[name]
    real, fake = examples(shape)
    slopes = Quadratic(flat(real).shape[1]).slope(place(real, fake, KEY))
    penalty = quadratic_values(shape)[name]
    assert penalty.shape == (B,) and penalty.dtype == jnp.float32
    np.testing.assert_allclose(penalty, value(slopes), rtol=1e-4, atol=1e-5)


def test_the_examples_above_have_slopes_on_both_sides_of_the_targets():
    real, fake = examples((B, 3))
    slopes = Quadratic(3).slope(between(real, fake, KEY))
    assert (slopes < 1).any() and ((slopes > 1) & (slopes < 2)).any() and (slopes > 2).any(), slopes


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_and_not_compiled_agree(name):
    real, fake = examples((B, 3))
    value = PENALTIES[name][0](Quadratic(3), real, fake, KEY)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(quadratic_values((B, 3))[name], value, rtol=1e-4, atol=1e-5)


def test_examples_of_one_number():
    real, fake = examples((B,))
    penalty = jax.jit(lambda *arrays: losses.wgan_gp_penalty(jnp.square, *arrays))(real, fake, KEY)
    np.testing.assert_allclose(penalty, (np.abs(2 * between(real, fake, KEY)) - 1) ** 2, rtol=1e-4, atol=1e-6)


def test_values_with_a_linear_critic():
    # The gradient is w wherever it is taken.
    real, fake = examples((B, 3))
    compiled = jax.jit(lambda w: compute(PENALTIES, lambda x: x @ w, real, fake, KEY))
    for w in (np.array([3.0, 0.0, -4.0], np.float32), np.array([0.3, 0.0, -0.4], np.float32)):
        slope = np.linalg.norm(w.astype(np.float64))
        for name, penalty in compiled(w).items():
            expected = np.full(B, PENALTIES[name][2](slope))
            np.testing.assert_allclose(penalty, expected, rtol=1e-5, atol=1e-9, err_msg=name)


def test_double_precision_stays_and_draws_the_same():
    real, fake = (x.astype(np.float64) for x in examples((B, 3)))
    critic = Quadratic(3)
    with jax.enable_x64(True):
        values = jax.jit(lambda *arrays: compute([*DIFFERENT, "dragan, gaussian"], critic, *arrays))(real, fake, KEY)
    for name, penalty in values.items():
        _, place, value = PENALTIES[name]
        assert penalty.dtype == np.float64
        expected = value(critic.slope(place(real, fake, KEY)))
        np.testing.assert_allclose(penalty, expected, rtol=1e-9, atol=1e-12, err_msg=name)


def test_half_precision_gives_float32_near_the_float32_value_and_the_critic_sees_its_own_type():
    real, fake = (jnp.asarray(x, jnp.bfloat16) for x in examples((B, 3)))
    seen = []

    def critic(x):
        seen.append(x.dtype)
        return Quadratic(3)(x)

    compiled = jax.jit(lambda *arrays: compute([*DIFFERENT, "dragan, gaussian"], critic, *arrays))
    values = compiled(real, fake, KEY)
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}
    full = compiled(real.astype(jnp.float32), fake.astype(jnp.float32), KEY)
    for name, penalty in values.items():
        assert penalty.dtype == jnp.float32
        # bfloat16 has 8 bits: a relative error of the order of 1 % of the slope, and the squares reach 10.
        np.testing.assert_allclose(penalty, full[name], rtol=0.05, atol=0.05, err_msg=name)


def test_squares_of_half_precision_gradients_are_summed_in_float32():
    # The linear critic's gradient is exact in bfloat16; its squared norm, 1001 / 16, only in float32.
    x = jnp.zeros((1, 1001), jnp.bfloat16)
    w = jnp.full(1001, 0.25, jnp.bfloat16)
    np.testing.assert_array_equal(losses.r1_penalty(lambda x: x @ w, x), [1001 / 32])


@pytest.mark.parametrize("name", INTERPOLATING)
def test_the_generated_examples_type_does_not_change_the_critic_s(name):
    real, fake = examples((B, 3))
    seen = []

    def critic(x):
        seen.append(x.dtype)
        return Quadratic(3)(x)

    jax.eval_shape(lambda *arrays: PENALTIES[name][0](critic, *arrays), jnp.asarray(real, jnp.bfloat16), fake, KEY)
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}


def test_raw_keys_draw_what_typed_keys_draw():
    real, _ = examples((B, 3))
    compiled = jax.jit(lambda key: losses.dragan_penalty(Quadratic(3), real, key))
    typed, raw = jax.random.key(3), jax.random.PRNGKey(3)
    for pair in ((typed, raw), (jax.random.split(typed, B), jax.random.split(raw, B))):
        np.testing.assert_array_equal(*map(compiled, pair))


def test_a_key_for_each_example_makes_it_independent_of_the_batch_around_it():
    real, fake = examples((B, 3))
    names = ["wgan_gp", "dragan, std given"]  # the std of "dragan" is the batch's
    compiled = jax.jit(lambda *arrays: compute(names, Quadratic(3), *arrays))
    whole, order = compiled(real, fake, KEYS), np.array([3, 0, 4])
    part = compiled(real[order], fake[order], KEYS[order])
    for name in names:
        np.testing.assert_allclose(part[name], whole[name][order], rtol=1e-4, err_msg=name)


def test_a_key_for_each_example_draws_the_documented_numbers():
    real, fake = examples((B, 2, 3))
    critic = Quadratic(6)
    values = jax.jit(lambda *arrays: compute(["wgan_gp", "dragan"], critic, *arrays))(real, fake, KEYS)
    along = np.stack([uniform(k, (1, 1)) for k in KEYS])
    expected = (critic.slope(real + along * (fake.astype(np.float64) - real)) - 1) ** 2
    np.testing.assert_allclose(values["wgan_gp"], expected, rtol=1e-4)
    halves = [jax.random.split(k) for k in KEYS]
    along = np.stack([uniform(first, (1, 1)) for first, _ in halves])
    noise = np.stack([uniform(second, (2, 3)) for _, second in halves])
    place = real + along * 0.5 * np.std(real.astype(np.float64)) * noise
    np.testing.assert_allclose(values["dragan"], (critic.slope(place) - 1) ** 2, rtol=1e-4, atol=1e-6)


def test_the_penalty_of_a_flat_critic_is_the_target_s_square_and_its_gradient_zero():
    real, fake = examples((B, 3))

    def values(w):
        penalties = compute(PENALTIES, lambda x: x @ w + 7.0, real, fake, KEY)
        return jax.tree.map(jnp.sum, penalties), penalties

    gradients, penalties = jax.jit(jax.jacrev(values, has_aux=True))(jnp.zeros(3))
    for name, penalty in penalties.items():
        np.testing.assert_allclose(penalty, np.full(B, PENALTIES[name][2](0.0)), atol=1e-7, err_msg=name)
        np.testing.assert_array_equal(gradients[name], np.zeros(3), err_msg=name)


def mlp(params, x):
    return jnp.tanh(flat(x) @ params["w"] + params["b"]) @ params["v"]


def mlp_params(size=3, seed=4):
    rng = np.random.default_rng(seed)
    w, b, v = rng.normal(size=(size, 4)), rng.normal(size=4), rng.normal(size=4)
    return {"w": jnp.float32(w), "b": jnp.float32(b), "v": jnp.float32(v) * 1.5}


def test_gradients_in_the_critic_s_parameters_by_finite_differences():
    real, fake = examples((B, 3))
    with jax.enable_x64(True):
        real, fake, params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (real, fake, mlp_params()))

        @jax.jit
        def loss(params):
            # One with a norm and one without: the others differ from them in the place alone.
            values = compute(["r1", "wgan_gp"], lambda x: mlp(params, x), real, fake, KEY)
            return (values["r1"] + 2.3 * values["wgan_gp"]).mean()

        check_grads(loss, (params,), order=2, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-5)


def test_a_critic_s_patches_are_summed():
    real, fake = examples((B, 2, 3, 2))
    w = np.random.default_rng(5).normal(size=(12, 6)).astype(np.float32)

    def patches(x):
        return jnp.square(jnp.tanh(flat(x) @ w)).reshape(-1, 2, 3, 1)

    critics = (patches, lambda x: patches(x).sum((1, 2, 3)))
    apart, together = jax.jit(lambda: [compute(DIFFERENT, critic, real, fake, KEY) for critic in critics])()
    for name in DIFFERENT:
        np.testing.assert_allclose(apart[name], together[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_custom_vjp_in_the_critic_works():
    @jax.custom_vjp
    def tanh(x):
        return jnp.tanh(x)

    tanh.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (g * (1 - jnp.tanh(x) ** 2),))
    real, fake = examples((B, 3))

    def loss(w, tanh):
        values = compute(["r1", "wgan_gp"], lambda x: tanh(x @ w).sum(-1), real, fake, KEY)
        return sum(value.sum() for value in values.values())

    ours, plain = jax.jit(lambda w: [jax.value_and_grad(loss)(w, f) for f in (tanh, jnp.tanh)])(mlp_params()["w"])
    np.testing.assert_allclose(ours[0], plain[0], rtol=1e-5)
    np.testing.assert_allclose(ours[1], plain[1], rtol=1e-4, atol=1e-5)


def flax_critic(params):
    nn = pytest.importorskip("flax.linen")
    layers = nn.Sequential([nn.Dense(4), jnp.tanh, nn.Dense(1, use_bias=False)])
    first, last = {"kernel": params["w"], "bias": params["b"]}, {"kernel": params["v"][:, None]}
    return lambda x: layers.apply({"params": {"layers_0": first, "layers_2": last}}, x)  # logits [B, 1]


def equinox_critic(params):
    eqx = pytest.importorskip("equinox")
    first, last = eqx.nn.Linear(3, 4, key=KEY), eqx.nn.Linear(4, "scalar", use_bias=False, key=KEY)
    first = eqx.tree_at(lambda m: (m.weight, m.bias), first, (params["w"].T, params["b"]))
    last = eqx.tree_at(lambda m: m.weight, last, params["v"][None])
    return jax.vmap(eqx.nn.Sequential([first, eqx.nn.Lambda(jnp.tanh), last]))  # logits [B]


@pytest.mark.parametrize("network", [flax_critic, equinox_critic])
def test_networks_of_any_library_give_the_same_numbers_as_a_function(network):
    real, fake = examples((B, 3))
    params = mlp_params()
    critics = (network(params), lambda x: mlp(params, x))
    values, expected = jax.jit(lambda *a: [compute(DIFFERENT, critic, *a) for critic in critics])(real, fake, KEY)
    for name in DIFFERENT:
        assert values[name].shape == (B,)
        np.testing.assert_allclose(values[name], expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_stack_of_critics_is_a_loop_over_critics():
    real, fake = examples((B, 3))
    stack = [mlp_params(seed=seed) for seed in range(3)]
    keys = jax.random.split(KEY, 3)

    def values(params, key):
        return compute(DIFFERENT, lambda x: mlp(params, x), real, fake, key)

    together = jax.jit(jax.vmap(values))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *stack), keys)
    compiled = jax.jit(values)
    for i, params in enumerate(stack):
        alone = compiled(params, keys[i])
        for name in DIFFERENT:
            assert together[name].shape == (3, B)
            np.testing.assert_allclose(together[name][i], alone[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", INTERPOLATING)
def test_different_shapes_raise_with_both_shapes(name):
    for a, b in (((4, 3), (4, 2)), ((4, 3), (1, 3))):
        with pytest.raises(ValueError, match=rf"^real \({a[0]}, {a[1]}\) and fake \({b[0]}, {b[1]}\)"):
            PENALTIES[name][0](lambda x: x.sum(-1), jnp.zeros(a), jnp.zeros(b), KEY)


@pytest.mark.parametrize("critic", [lambda x: x.sum(), lambda x: x.sum(-1)[:1], lambda x: x[None].sum(-1)])
@each
def test_a_critic_without_logits_for_each_example_raises_with_both_shapes(name, critic):
    real, fake = examples((B, 3))
    logits = re.escape(str(critic(real).shape))
    with pytest.raises(ValueError, match=rf"gave {logits} for examples \(5, 3\)"):
        PENALTIES[name][0](critic, real, fake, KEY)


@pytest.mark.parametrize("noise", ["normal", "Uniform", ""])
def test_unknown_noise_raises_with_its_name(noise):
    real, _ = examples((B, 3))
    with pytest.raises(ValueError, match=f"noise '{noise}' must be \"uniform\" or \"gaussian\""):
        losses.dragan_penalty(Quadratic(3), real, KEY, noise=noise)


@pytest.mark.parametrize("name", DRAWING)
def test_another_number_of_keys_than_examples_raises(name):
    real, fake = examples((B, 3))
    with pytest.raises(ValueError, match="4 keys for 5 examples"):
        PENALTIES[name][0](Quadratic(3), real, fake, KEYS[:4])


# Path length: linear generators, J^T y in closed form.

PICTURE = (2, 3, 4)  # H, W, C all different: only H W = 6 belongs under the root
D, L = 3, 2


def mixing(layers, size=24, seed=6):
    return np.random.default_rng(seed).normal(size=(layers, D, size)).astype(np.float32) * 0.3


def latents(*axes, seed=7):
    return np.random.default_rng(seed).normal(size=(B, *axes, D)).astype(np.float32)


def linear(matrices, shape=PICTURE):
    """G(w) = sum over layers of w_l A_l, as pictures."""

    def generator(w):
        w = w if w.ndim == 3 else w[:, None]
        return jnp.einsum("bld,ldn->bn", w, matrices.astype(w.dtype)).reshape(-1, *shape)

    return generator


def lengths(matrices, shape=PICTURE, key=KEY):
    """sqrt(mean over layers of ||A_l y||^2) in float64."""
    noise = np.asarray(jax.random.normal(key, (B, *shape), jnp.float32), np.float64)
    noise = flat(noise) / np.sqrt(np.prod(shape[:-1]))
    return np.sqrt(np.square(np.einsum("ldn,bn->bld", matrices.astype(np.float64), noise)).sum(-1).mean(-1))


@pytest.mark.parametrize("axes", [(), (L,)], ids=["one style", "a style for each layer"])
@pytest.mark.parametrize("shape", [PICTURE, (24,), (8, 3)], ids=str)
def test_path_length_of_a_linear_generator(axes, shape, strict):
    matrices = mixing(*(axes or (1,)))
    length = lengths(matrices, shape)
    generator = linear(jnp.asarray(matrices), shape)
    for options, decay in (({}, 0.01), ({"decay": 0.5}, 0.5)):
        penalty, mean = losses.path_length_penalty(generator, latents(*axes), KEY, jnp.float32(0.75), **options)
        expected_mean = 0.75 + decay * (length.mean() - 0.75)
        assert penalty.shape == (B,) and mean.shape == () and penalty.dtype == mean.dtype == jnp.float32
        np.testing.assert_allclose(mean, expected_mean, rtol=1e-5)
        np.testing.assert_allclose(penalty, (length - expected_mean) ** 2, rtol=1e-4, atol=1e-5)


def test_path_length_of_a_generator_that_is_not_linear_depends_on_the_place():
    w = latents()
    matrix = mixing(1)[0]

    def generator(w):
        return jnp.square(w @ matrix).reshape(-1, *PICTURE)

    noise = flat(np.asarray(jax.random.normal(KEY, (B, *PICTURE)), np.float64)) / np.sqrt(6)
    a = matrix.astype(np.float64)
    length = np.linalg.norm((2 * (w @ a) * noise) @ a.T, axis=1)
    penalty, mean = losses.path_length_penalty(generator, w, KEY, 0.0)
    np.testing.assert_allclose(mean, 0.01 * length.mean(), rtol=1e-5)
    np.testing.assert_allclose(penalty, (length - 0.01 * length.mean()) ** 2, rtol=1e-4)


def test_the_gradient_goes_through_this_batch_s_share_of_the_mean_alone():
    matrices, w = jnp.asarray(mixing(1)), latents()

    def run(matrices, mean):
        return losses.path_length_penalty(linear(matrices), w, KEY, mean, decay=0.5)

    new_mean = run(matrices, 1.0)[1]
    into_mean = jax.grad(lambda *a: run(*a)[1], (0, 1))(matrices, 1.0)
    np.testing.assert_array_equal(into_mean[0], np.zeros(matrices.shape))
    assert into_mean[1] == 0.0
    gradient, to_mean = jax.grad(lambda *a: run(*a)[0].sum(), (0, 1))(matrices, 1.0)
    assert to_mean == 0.0
    # d/dA sum (||A y|| - a)^2: 2 (||A y|| - a) (A y / ||A y||) y^T for each, less half the mean of these factors for a.
    y = flat(np.asarray(jax.random.normal(KEY, (B, *PICTURE)), np.float64)) / np.sqrt(6)
    ay = y @ np.asarray(matrices[0], np.float64).T
    length = np.linalg.norm(ay, axis=1, keepdims=True)
    factor = 2 * (length - float(new_mean))
    expected = ((factor - 0.5 * factor.mean()) * ay / length).T @ y
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-4, atol=1e-5)


def test_path_length_gradients_by_finite_differences():
    w = latents()
    with jax.enable_x64(True):
        matrix = jnp.asarray(mixing(1)[0], jnp.float64)

        @jax.jit
        def loss(matrix):
            # decay 0: the mean takes no gradient, so a difference of values must not move it either.
            generated = losses.path_length_penalty(
                lambda w: jnp.tanh(w @ matrix).reshape(-1, *PICTURE), jnp.asarray(w, jnp.float64), KEY, 0.5, decay=0.0
            )
            return generated[0].mean()

        check_grads(loss, (matrix,), order=2, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-5)


def test_path_length_compiled_stacked_and_with_any_keys():
    matrices, w = jnp.asarray(mixing(1)), latents()

    def run(matrices, key, mean=0.2):
        return losses.path_length_penalty(linear(matrices), w, key, mean)

    eager = run(matrices, KEY)
    compiled = jax.jit(run)
    for other in (compiled(matrices, KEY), compiled(matrices, jax.random.PRNGKey(11))):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), other, eager)
    stack = jnp.stack([matrices, 2 * matrices])
    together = jax.jit(jax.vmap(run))(stack, jax.random.split(KEY))
    for i, key in enumerate(jax.random.split(KEY)):
        alone = compiled(stack[i], key)
        np.testing.assert_allclose(together[0][i], alone[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(together[1][i], alone[1], rtol=1e-5)


def test_a_key_for_each_example_makes_its_length_independent_of_the_batch_around_it():
    matrices, w = jnp.asarray(mixing(1)), latents()
    run = jax.jit(lambda w, keys: losses.path_length_penalty(linear(matrices), w, keys, 0.5, decay=0.0)[0])
    whole, part = run(w, KEYS), run(w[2:4], KEYS[2:4])
    np.testing.assert_allclose(part, whole[2:4], rtol=1e-5)
    noise = np.stack([np.asarray(jax.random.normal(k, PICTURE), np.float64) for k in KEYS])
    length = np.linalg.norm((flat(noise) / np.sqrt(6)) @ np.asarray(matrices[0], np.float64).T, axis=1)
    np.testing.assert_allclose(whole, (length - 0.5) ** 2, rtol=1e-4, atol=1e-6)


def test_the_mean_length_is_taken_over_the_devices():
    matrices, w = jnp.asarray(mixing(1)), latents()[:4]

    def run(w, keys, axis_name=None):
        return losses.path_length_penalty(linear(matrices), w, keys, 0.5, decay=0.25, axis_name=axis_name)

    whole, mean = jax.jit(run)(w, KEYS[:4])
    on_each = jax.vmap(lambda w, keys: run(w, keys, "devices"), axis_name="devices")
    split, means = jax.jit(on_each)(w.reshape(2, 2, D), KEYS[:4].reshape(2, 2))
    np.testing.assert_allclose(means, [mean, mean], rtol=1e-5)
    np.testing.assert_allclose(split.reshape(-1), whole, rtol=1e-4, atol=1e-6)


def test_path_length_in_half_and_double_precision():
    matrices, w = mixing(1), latents()
    seen = []

    def generator(w):
        seen.append(w.dtype)
        return linear(jnp.asarray(matrices))(w)

    penalty, mean = losses.path_length_penalty(generator, jnp.asarray(w, jnp.bfloat16), KEY, jnp.float32(0.5))
    assert penalty.dtype == mean.dtype == jnp.float32 and set(seen) == {jnp.dtype(jnp.bfloat16)}
    full, full_mean = losses.path_length_penalty(generator, w, KEY, jnp.float32(0.5))
    # The lengths are near 1 and have bfloat16's 8 bits.
    np.testing.assert_allclose(penalty, full, rtol=0.05, atol=0.02)
    np.testing.assert_allclose(mean, full_mean, rtol=1e-3)
    shape = (1, 4, 6)  # the root of 4 is exact in float32, in which the noise is drawn and scaled
    with jax.enable_x64(True):
        penalty, mean = losses.path_length_penalty(
            linear(jnp.asarray(matrices, jnp.float64), shape), w.astype(np.float64), KEY, 0.5
        )
        assert penalty.dtype == mean.dtype == jnp.float64
    length = lengths(matrices, shape)
    np.testing.assert_allclose(penalty, (length - (0.5 + 0.01 * (length.mean() - 0.5))) ** 2, rtol=1e-9)


def test_a_generator_that_ignores_its_style_has_length_zero_and_no_nan():
    w = latents(L)

    def loss(matrices):
        penalty, mean = losses.path_length_penalty(linear(matrices), w, KEY, 2.0)
        return penalty.sum(), (penalty, mean)

    (_, (penalty, mean)), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.zeros((L, D, 24)))
    np.testing.assert_allclose(mean, 1.98, rtol=1e-6)
    np.testing.assert_allclose(penalty, np.full(B, 1.98**2), rtol=1e-6)
    np.testing.assert_array_equal(gradient, np.zeros((L, D, 24)))


def test_a_generator_without_an_output_for_each_latent_raises_with_both_shapes():
    with pytest.raises(ValueError, match=r"gave \(1, 2, 3, 4\) for examples \(5, 3\)"):
        losses.path_length_penalty(lambda w: jnp.ones((1, 2, 3, 4)) * w.sum(), jnp.ones((5, 3)), KEY, 0.0)


def test_dragan_s_gradient_into_a_batch_without_spread_is_finite():
    real = jnp.ones((B, 3))
    gradient = jax.grad(lambda x: losses.dragan_penalty(lambda x: jnp.square(x).sum(1), x, KEY).sum())(real)
    assert np.isfinite(gradient).all()
