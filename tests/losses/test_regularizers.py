"""Regularisers against NumPy float64 and, where they have a state, against the recursion written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import losses

# LeCam


def batches(count=6, shape=(4,)):
    rng = np.random.default_rng(0)
    return [tuple(rng.normal(mean, 1, shape).astype(np.float32) for mean in (0.7, -0.4)) for _ in range(count)]


def lecam64(pairs, decay, start, rectified):
    """Each batch's penalty and the means after it."""
    means = None
    for i, pair in enumerate(pairs):
        r, f = (x.astype(np.float64) for x in pair)
        now = np.array([r.mean(), f.mean()])
        means = now if i == 0 or i < start else decay * means + (1 - decay) * now
        above, below = r - means[1], means[0] - f
        if rectified:
            above, below = np.maximum(above, 0), np.maximum(below, 0)
        yield (above**2 + below**2 if i >= start else np.zeros_like(r)), means


@pytest.mark.parametrize("shape", [(4,), (2, 3, 1)], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"decay": 0.5}, {"decay": 0.5, "start": 1}, {"decay": 0.5, "start": 3}, {"rectified": False}],
    ids=str,
)
def test_lecam_over_several_batches(options, shape, strict):
    state = losses.lecam_init()
    assert state == (0.0, 0.0, 0) and state.updates.dtype == jnp.int32
    pairs = batches(shape=shape)
    step = jax.jit(lambda r, f, state: losses.lecam_penalty(r, f, state, **options))
    expected = lecam64(pairs, **{"decay": 0.99, "start": 0, "rectified": True, **options})
    for i, ((r, f), (penalty, means)) in enumerate(zip(pairs, expected, strict=True)):
        value, state = step(r, f, state)
        assert value.shape == shape and value.dtype == jnp.float32
        assert state.real.dtype == state.fake.dtype == jnp.float32 and state.updates == i + 1
        np.testing.assert_allclose(value, penalty, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose([state.real, state.fake], means, rtol=1e-5, atol=1e-7)


def test_lecam_not_compiled_and_as_the_carry_of_a_scan():
    pairs = batches()

    def step(state, pair):
        value, state = losses.lecam_penalty(*pair, state, decay=0.5, start=2)
        return state, value

    state, values = jax.lax.scan(step, losses.lecam_init(), jax.tree.map(lambda *x: jnp.stack(x), *pairs))
    loop = losses.lecam_init()
    for pair, value in zip(pairs, values, strict=True):
        loop, expected = step(loop, pair)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state, loop)


@pytest.mark.parametrize("rectified", [True, False])
def test_lecam_s_means_take_no_gradient(rectified):
    (r, f), (r2, f2) = batches(2)
    _, state = losses.lecam_penalty(r, f, losses.lecam_init())

    def run(r, f, real, fake):
        value, new = losses.lecam_penalty(
            r, f, losses.LeCamState(real, fake, state.updates), decay=0.5, rectified=rectified
        )
        return value.sum(), new

    arguments = (r2, f2, state.real, state.fake)
    (to_r, to_f, *to_means), new = jax.grad(run, (0, 1, 2, 3), has_aux=True)(*arguments)
    above, below = r2 - float(new.fake), float(new.real) - f2
    if rectified:
        above, below = np.maximum(above, 0), np.maximum(below, 0)
    np.testing.assert_allclose(to_r, 2 * above, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(to_f, -2 * below, rtol=1e-5, atol=1e-6)
    assert to_means == [0.0, 0.0]
    for gradient in jax.grad(lambda *a: sum(run(*a)[1][:2]), (0, 1, 2, 3))(*arguments):
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_lecam_of_equal_logits_is_zero():
    same = jnp.full(4, 0.3)
    value, state = losses.lecam_penalty(same, same, losses.lecam_init())
    np.testing.assert_allclose(value, np.zeros(4), atol=1e-12)
    assert state.real == state.fake


def test_lecam_in_half_and_double_precision():
    r, f = (jnp.asarray(x, jnp.bfloat16) for x in batches(1)[0])
    value, state = losses.lecam_penalty(r, f, losses.lecam_init())
    expected, _ = losses.lecam_penalty(r.astype(jnp.float32), f.astype(jnp.float32), losses.lecam_init())
    assert value.dtype == state.real.dtype == jnp.float32
    np.testing.assert_array_equal(value, expected)
    with jax.enable_x64(True):
        wide = [jnp.asarray(x, jnp.float64) for x in batches(1)[0]]
        value, state = losses.lecam_penalty(*wide, losses.lecam_init())
        assert value.dtype == jnp.float64 and state.real.dtype == state.fake.dtype == jnp.float32


def test_lecam_of_different_shapes_raises_with_both():
    with pytest.raises(ValueError, match=r"^real_logits \(4,\) and fake_logits \(4, 1\)"):
        losses.lecam_penalty(jnp.zeros(4), jnp.zeros((4, 1)), losses.lecam_init())


# Parameters

RNG = np.random.default_rng(1)
PARAMS = {
    "conv": {"kernel": RNG.normal(size=(2, 2, 3, 4)).astype(np.float32), "bias": np.ones(4, np.float32)},
    "dense": {"kernel": RNG.normal(size=(4, 3)).astype(np.float32), "bias": np.full(3, 2.0, np.float32)},
}
CONV, DENSE = (PARAMS[name]["kernel"].astype(np.float64) for name in ("conv", "dense"))


def orthogonal64(w):
    products = w.T @ w
    return (products**2).sum() - (np.diag(products) ** 2).sum()


def test_orthogonal_values():
    conv, dense = orthogonal64(CONV.reshape(12, 4)), orthogonal64(DENSE)
    for function in (losses.orthogonal_penalty, jax.jit(losses.orthogonal_penalty)):
        value = function(PARAMS)
        assert value.shape == () and value.dtype == jnp.float32
        np.testing.assert_allclose(value, conv + dense, rtol=1e-5)
    only = losses.orthogonal_penalty(PARAMS, lambda path, leaf: path == "dense.kernel")
    np.testing.assert_allclose(only, dense, rtol=1e-5)
    # By hand: columns (1, 2) and (3, 4) have the product 11, which stands in the matrix twice.
    np.testing.assert_allclose(losses.orthogonal_penalty([jnp.array([[1.0, 3.0], [2.0, 4.0]])]), 2 * 11.0**2)


def test_orthogonal_filters_cost_nothing_whatever_their_norms():
    q, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(6, 4)))
    value = losses.orthogonal_penalty({"kernel": jnp.asarray(q * [1.0, 2.0, 3.0, 0.5], jnp.float32)})
    np.testing.assert_allclose(value, 0.0, atol=1e-10)


def test_orthogonal_with_outputs_first():
    kernels = [np.moveaxis(CONV, -1, 0).astype(np.float32), DENSE.T.astype(np.float32)]
    value = losses.orthogonal_penalty(kernels, out_axis=0)
    np.testing.assert_allclose(value, orthogonal64(CONV.reshape(12, 4)) + orthogonal64(DENSE), rtol=1e-5)


def test_orthogonal_gradient():
    w = jnp.asarray(DENSE, jnp.float32)
    products = DENSE.T @ DENSE
    expected = 4 * DENSE @ (products - np.diag(np.diag(products)))
    np.testing.assert_allclose(jax.grad(losses.orthogonal_penalty)(w), expected, rtol=1e-4, atol=1e-5)


def test_l2_is_half_the_sum_of_the_kernels_squares_and_its_gradient_the_kernels():
    for function in (losses.l2_penalty, jax.jit(losses.l2_penalty)):
        value = function(PARAMS)
        assert value.shape == () and value.dtype == jnp.float32
        np.testing.assert_allclose(value, ((CONV**2).sum() + (DENSE**2).sum()) / 2, rtol=1e-6)
    gradient = jax.grad(losses.l2_penalty)(PARAMS)
    for name in PARAMS:
        np.testing.assert_allclose(gradient[name]["kernel"], PARAMS[name]["kernel"], rtol=1e-6)
        np.testing.assert_array_equal(gradient[name]["bias"], np.zeros_like(PARAMS[name]["bias"]))
    biases = losses.l2_penalty(PARAMS, lambda path, leaf: leaf.ndim == 1)
    np.testing.assert_allclose(biases, (4 * 1 + 3 * 4) / 2)


@pytest.mark.parametrize("penalty", [losses.orthogonal_penalty, losses.l2_penalty])
def test_penalties_on_parameters_of_other_types_and_of_none(penalty):
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), PARAMS)
    value = penalty(half)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, penalty(jax.tree.map(lambda x: x.astype(jnp.float32), half)), rtol=1e-6)
    nothing = penalty({"bias": jnp.ones(3)})
    assert nothing.shape == () and nothing.dtype == jnp.float32 and nothing == 0.0
    with jax.enable_x64(True):
        assert penalty(jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), PARAMS)).dtype == jnp.float64


# Clipping


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_clipped_parameters_stay_in_the_box(optimizer):
    optax = pytest.importorskip("optax")
    bound, rate = 0.05, 0.04
    rule = getattr(optax, optimizer)(rate)
    clipped = optax.chain(rule, losses.weight_clipping(bound))
    params = {"w": jnp.array([0.04, -0.05, 0.0, 0.02]), "b": jnp.float32(0.01)}
    gradients = [
        jax.tree.map(lambda p, i=i: jnp.asarray(np.random.default_rng(i).normal(0.3, 1, p.shape), p.dtype), params)
        for i in range(4)
    ]

    def run(update):
        state, plain, now = clipped.init(params), rule.init(params), params
        for gradient in gradients:
            wanted, plain = rule.update(gradient, plain, now)
            updates, state = update(gradient, state, now)
            expected = jax.tree.map(lambda p, u: np.clip(np.float64(p) + np.float64(u), -bound, bound), now, wanted)
            now = optax.apply_updates(now, updates)
            # p + (clip(p + u) - p) is the clipped value to rounding, which is 1e-7 of 0.05.
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-8), now, expected)
        return now

    for final in (run(clipped.update), run(jax.jit(clipped.update))):
        assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(final)) > bound * 0.999  # the box was met
        assert jax.tree.structure(final) == jax.tree.structure(params)


def test_clipping_has_no_state_and_keeps_types():
    clip = losses.weight_clipping(0.5)
    params, updates = {"w": jnp.array([0.25, 1.0, -1.0], jnp.bfloat16)}, {"w": jnp.array([0.5, 0, 0], jnp.bfloat16)}
    assert clip.init(params) == ()
    new, state = clip.update(updates, (), params)
    assert state == () and new["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(new["w"], np.float32), [0.25, -0.5, 0.5])
    assert clip.update(updates, "kept", params)[1] == "kept"


def test_clipping_without_parameters_raises():
    with pytest.raises(ValueError, match="needs the parameters"):
        losses.weight_clipping(0.01).update({"w": jnp.ones(2)}, ())


@pytest.mark.parametrize("bound", [0, 0.0, -0.01, float("nan")])
def test_a_box_of_no_size_raises_with_its_bound(bound):
    with pytest.raises(ValueError, match=f"^the bound {bound} "):
        losses.weight_clipping(bound)


# Lazy regularisation


def test_lazy_is_the_interval_s_multiple_at_its_steps_and_nothing_between():
    def penalty(w):
        return jnp.square(w)

    @jax.jit
    def run(w, step):
        return jax.value_and_grad(lambda w: losses.lazy_regularization(lambda: penalty(w), step, 4).sum())(w)

    w = jnp.array([1.0, -3.0])
    values, gradients = zip(*(run(w, step) for step in range(8)), strict=True)
    np.testing.assert_allclose(values, [40.0, 0, 0, 0, 40.0, 0, 0, 0], rtol=1e-6)
    for step, gradient in enumerate(gradients):
        np.testing.assert_allclose(gradient, 8 * w if step % 4 == 0 else np.zeros(2), rtol=1e-6)
    np.testing.assert_allclose(np.mean(values), penalty(w).sum(), rtol=1e-6)


@pytest.mark.parametrize("step", [3, 6, np.int32(6), jnp.int32(7)], ids=repr)
def test_lazy_keeps_the_penalty_s_tree_shapes_and_types(step):
    def penalty():
        return {"a": jnp.full((2, 3), 1.5), "b": (jnp.ones(4, jnp.bfloat16),)}

    value = losses.lazy_regularization(penalty, step, 3)
    times = 3 * (int(step) % 3 == 0)
    np.testing.assert_array_equal(value["a"], np.full((2, 3), 1.5 * times))
    np.testing.assert_array_equal(np.asarray(value["b"][0], np.float32), np.full(4, times))
    assert value["a"].dtype == jnp.float32 and value["b"][0].dtype == jnp.bfloat16


def test_lazy_with_a_state_moves_it_at_its_steps_only():
    def penalty(state):
        return jnp.full(2, 10.0) + state["count"], {"count": state["count"] + 1}

    state = {"count": jnp.float32(0)}
    run = jax.jit(lambda step, state: losses.lazy_regularization(penalty, step, 2, state))
    for step, (value, count) in enumerate([(20.0, 1), (0.0, 1), (22.0, 2), (0.0, 2), (24.0, 3)]):
        penalties, state = run(step, state)
        np.testing.assert_array_equal(penalties, [value, value])
        assert state == {"count": count}


def test_between_its_steps_the_penalty_is_not_computed():
    calls = []

    def penalty():
        jax.debug.callback(lambda: calls.append(1))
        return jnp.ones(2)

    run = jax.jit(lambda step: losses.lazy_regularization(penalty, step, 3))
    counts = []
    for step in range(7):
        run(step).block_until_ready()
        jax.effects_barrier()
        counts.append(len(calls))
    assert counts == [1, 1, 1, 2, 2, 2, 3]


def test_an_interval_of_one_is_the_penalty_itself():
    run = jax.jit(lambda step: losses.lazy_regularization(lambda: jnp.array([0.3, -2.0]), step, 1))
    for step in range(3):
        np.testing.assert_array_equal(run(step), np.float32([0.3, -2.0]))


@pytest.mark.parametrize("rate, b1, b2, interval, c", [(2e-3, 0.5, 0.99, 16, 16 / 17), (1e-3, 0.9, 0.999, 1, 0.5)])
def test_lazy_adam(rate, b1, b2, interval, c):
    values = losses.lazy_adam(rate, b1, b2, interval)
    assert all(isinstance(value, float) for value in values)
    np.testing.assert_allclose(values, (rate * c, b1**c, b2**c), rtol=1e-12)
    # After k + 1 steps the moments have forgotten as much as after k without laziness.
    np.testing.assert_allclose(values[2] ** (interval + 1), b2**interval, rtol=1e-12)


@pytest.mark.parametrize("interval", [0, -2])
def test_an_interval_under_one_raises_with_it(interval):
    with pytest.raises(ValueError, match=f"^the interval {interval} "):
        losses.lazy_regularization(lambda: jnp.ones(1), 0, interval)
    with pytest.raises(ValueError, match=f"^the interval {interval} "):
        losses.lazy_adam(1e-3, 0.0, 0.99, interval)
