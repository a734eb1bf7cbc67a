"""Spectral normalisation against NumPy's singular values, power iterations written out, and gradients by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgan import losses
from jaxgan.losses import spectral

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
# The dense kernel's singular values are near each other, so that every iteration still changes something.
LEFT, RIGHT = (np.linalg.qr(RNG.normal(size=(n, 4)))[0] for n in (5, 4))
DENSE = (LEFT * [1.0, 0.98, 0.96, 0.9]) @ RIGHT.T * 3.0
CONV = RNG.normal(size=(2, 3, 2, 4))
PARAMS = {
    "conv": {"bias": jnp.full(4, 0.5), "kernel": jnp.asarray(CONV, jnp.float32)},
    "dense": {"bias": jnp.full(4, 0.25), "kernel": jnp.asarray(DENSE, jnp.float32)},
}
MATRICES = {"conv.kernel": CONV.reshape(12, 4), "dense.kernel": DENSE}  # in the order of the tree


def power64(w, u, iterations):
    for _ in range(iterations):
        v = w @ u
        v /= np.linalg.norm(v)
        u = w.T @ v
        u /= np.linalg.norm(u)
    return u, v


def first64(i, size, key=KEY, which=0):
    key = jax.random.split(jax.random.fold_in(key, i))[which]
    u = np.asarray(jax.random.normal(key, (size,), jnp.float32), np.float64)
    return u / np.linalg.norm(u)


def top(w):
    """The largest singular value."""
    return np.linalg.svd(np.asarray(w, np.float64).reshape(-1, w.shape[-1]), compute_uv=False)[0]


@pytest.fixture(scope="module")
def converged():
    return losses.spectral_iterate(PARAMS, losses.spectral_init(KEY, PARAMS), 200)


@pytest.mark.parametrize("options, iterations", [({}, 15), ({"iterations": 2}, 2)], ids=str)
def test_the_first_vectors(options, iterations, strict):
    vectors = losses.spectral_init(KEY, PARAMS, **options)
    assert list(vectors) == list(MATRICES)
    for i, (path, w) in enumerate(MATRICES.items()):
        u, v = power64(w, first64(i, 4), iterations)
        assert vectors[path].u.dtype == vectors[path].v.dtype == jnp.float32
        np.testing.assert_allclose(vectors[path].u, u, atol=2e-5)
        np.testing.assert_allclose(vectors[path].v, v, atol=2e-5)


def test_vectors_before_any_iteration_are_of_length_one():
    params = {"a": jnp.ones((3, 1)), "b": jnp.ones((2, 4)), "c": jnp.ones((2, 4)), "d": jnp.ones((3, 1))}
    vectors = losses.spectral_init(KEY, params, iterations=0)
    for i, (path, (u, v)) in enumerate(vectors.items()):
        np.testing.assert_allclose(u, first64(i, params[path].shape[1]), rtol=1e-6)
        np.testing.assert_allclose(v, first64(i, params[path].shape[0], which=1), rtol=1e-6)


def test_where_the_estimate_is_0_nothing_is_divided():
    params = {"a": jnp.eye(2)}
    vectors = {"a": losses.SpectralVectors(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))}
    np.testing.assert_array_equal(losses.spectral_normalize(params, vectors)["a"], params["a"])


@pytest.mark.parametrize("options, iterations", [({}, 1), ({"iterations": 3}, 3), ({"iterations": 0}, 0)], ids=str)
def test_iterating_is_the_power_method(options, iterations, strict):
    vectors = losses.spectral_init(KEY, PARAMS, iterations=1)
    for function in (losses.spectral_iterate, jax.jit(losses.spectral_iterate, static_argnames="iterations")):
        after = function(PARAMS, vectors, **options)
        assert list(after) == list(vectors)
        for path, w in MATRICES.items():
            u, v = (np.asarray(x, np.float64) for x in vectors[path])
            u, v = power64(w, u, iterations) if iterations else (u, v)
            np.testing.assert_allclose(after[path].u, u, atol=1e-5)
            np.testing.assert_allclose(after[path].v, v, atol=1e-5)


@pytest.mark.parametrize("options, eps", [({}, 1e-12), ({"eps": 1e-3}, 1e-3)], ids=str)
def test_below_eps_a_product_has_no_direction_and_the_vector_stays(options, eps):
    u, v = jnp.array([0.6, 0.8]), jnp.array([0.0, 0.6, 0.8])
    for size in (0.01 * eps, 100 * eps):
        w = np.float32(size) * np.array([[1.0, 2.0], [0.5, -1.0], [0.0, 1.0]], np.float32)
        after = losses.spectral_iterate({"w": w}, {"w": losses.SpectralVectors(u, v)}, **options)["w"]
        expected_u, expected_v = np.asarray(u, np.float64), np.asarray(v, np.float64)
        if size > eps:
            expected_v = w.astype(np.float64) @ expected_u
            expected_v /= np.linalg.norm(expected_v)
            expected_u = w.T.astype(np.float64) @ expected_v
            expected_u /= np.linalg.norm(expected_u)
        np.testing.assert_allclose(after.v, expected_v, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(after.u, expected_u, rtol=1e-4, atol=1e-7)


def test_no_gradient_goes_through_the_iterations():
    vectors = losses.spectral_init(KEY, PARAMS, iterations=1)

    def total(params):
        return sum(x.sum() for x in jax.tree.leaves(losses.spectral_iterate(params, vectors, 2)))

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(PARAMS)):
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))


def test_the_normalised_kernels_have_the_largest_singular_value_one(converged, strict):
    for function in (losses.spectral_normalize, jax.jit(losses.spectral_normalize)):
        normalized = function(PARAMS, converged)
        assert jax.tree.structure(normalized) == jax.tree.structure(PARAMS)
        for name in PARAMS:
            w, raw = normalized[name]["kernel"], PARAMS[name]["kernel"]
            assert w.shape == raw.shape and w.dtype == raw.dtype
            np.testing.assert_allclose(top(w), 1.0, rtol=1e-5)
            np.testing.assert_allclose(w, raw / top(raw), rtol=1e-5, atol=1e-7)
            np.testing.assert_array_equal(normalized[name]["bias"], PARAMS[name]["bias"])


def test_sigma_is_that_of_the_vectors_given_and_not_of_a_new_iteration():
    vectors = losses.spectral_init(KEY, PARAMS, iterations=1)
    normalized = losses.spectral_normalize(PARAMS, vectors)
    for path, w in MATRICES.items():
        u, v = (np.asarray(x, np.float64) for x in vectors[path])
        kernel = normalized[path.split(".")[0]]["kernel"]
        np.testing.assert_allclose(kernel, (w / (v @ w @ u)).reshape(kernel.shape), rtol=1e-5, atol=1e-6)
    again = losses.spectral_normalize(PARAMS, vectors)  # so the real and the generated pass see one sigma
    jax.tree.map(np.testing.assert_array_equal, again, normalized)


def test_the_gradient_takes_the_vectors_for_constants():
    # L = <G, W / sigma>, sigma = v^T W u: dL/dW = (G - <G, W / sigma> v u^T) / sigma.
    vectors = losses.spectral_init(KEY, PARAMS, iterations=1)
    g = np.random.default_rng(7).normal(size=DENSE.shape)

    def loss(kernel, vectors):
        params = {**PARAMS, "dense": {"kernel": kernel}}
        return jnp.sum(losses.spectral_normalize(params, vectors)["dense"]["kernel"] * jnp.asarray(g, jnp.float32))

    to_kernel, to_vectors = jax.grad(loss, (0, 1))(PARAMS["dense"]["kernel"], vectors)
    u, v = (np.asarray(x, np.float64) for x in vectors["dense.kernel"])
    sigma = v @ DENSE @ u
    expected = (g - (g * DENSE / sigma).sum() * np.outer(v, u)) / sigma
    np.testing.assert_allclose(to_kernel, expected, rtol=1e-4, atol=1e-5)
    for leaf in jax.tree.leaves(to_vectors):
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))


def test_second_derivatives_of_a_penalty_on_a_normalised_critic():
    with jax.enable_x64(True):
        wide = {"a": jnp.asarray(DENSE), "b": jnp.asarray(np.random.default_rng(7).normal(size=(4, 1)))}
        vectors = losses.spectral_init(KEY, wide)
        assert {x.dtype for x in jax.tree.leaves(vectors)} == {jnp.dtype(jnp.float64)}
        x = jnp.asarray(np.random.default_rng(7).normal(size=(3, 5)))

        @jax.jit
        def loss(params):
            params = losses.spectral_normalize(params, vectors)
            return losses.r1_penalty(lambda x: jnp.tanh(x @ params["a"]) @ params["b"], x).mean()

        assert loss(wide).dtype == jnp.float64
        check_grads(loss, (wide,), order=1, modes=["rev"], atol=1e-5, rtol=1e-5, eps=1e-5)


def test_a_stack_of_parameters_is_a_loop():
    stack = jax.tree.map(lambda x: jnp.stack([x, x[::-1] * 2.0, x - 0.5]), PARAMS)
    keys = jax.random.split(KEY, 3)

    def run(key, params):
        vectors = losses.spectral_iterate(params, losses.spectral_init(key, params, iterations=1))
        return vectors, losses.spectral_normalize(params, vectors)

    together = jax.jit(jax.vmap(run))(keys, stack)
    compiled = jax.jit(run)
    for i in range(3):
        part, whole = compiled(keys[i], jax.tree.map(lambda x, i=i: x[i], stack)), together
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a, b[i], rtol=1e-4, atol=1e-6), part, whole)


def test_outputs_first():
    # [outputs, ...], as in Equinox: the same kernel in another order is normalised alike.
    first = {"conv": jnp.asarray(np.moveaxis(CONV, -1, 0), jnp.float32), "dense": jnp.asarray(DENSE.T, jnp.float32)}
    last = {"conv": PARAMS["conv"]["kernel"], "dense": PARAMS["dense"]["kernel"]}
    vectors = losses.spectral_init(KEY, first, iterations=2, out_axis=0)
    expected = losses.spectral_init(KEY, last, iterations=2)
    for _ in range(2):
        for path in first:
            for ours, theirs in zip(vectors[path], expected[path], strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        normalized = losses.spectral_normalize(first, vectors, out_axis=0)
        reference = losses.spectral_normalize(last, expected)
        for path in first:
            np.testing.assert_allclose(np.moveaxis(normalized[path], 0, -1), reference[path], rtol=1e-4, atol=1e-5)
        vectors = losses.spectral_iterate(first, vectors, out_axis=0)
        expected = losses.spectral_iterate(last, expected)


def test_an_equinox_model_is_normalised_as_it_is():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(3, "scalar", 4, 2, key=KEY)
    vectors = losses.spectral_init(KEY, model, out_axis=0, iterations=100)
    assert list(vectors) == [f"layers.{i}.weight" for i in range(3)]
    assert [(len(u), len(v)) for u, v in vectors.values()] == [(4, 3), (4, 4), (1, 4)]
    normalized = losses.spectral_normalize(model, vectors, out_axis=0)
    for layer, raw in zip(normalized.layers, model.layers, strict=True):
        np.testing.assert_allclose(layer.weight, raw.weight / top(raw.weight), rtol=1e-4)
        assert layer.bias is raw.bias
    assert normalized(jnp.ones(3)).shape == ()


def test_where_chooses_by_path_and_leaf():
    vectors = losses.spectral_init(KEY, PARAMS, lambda path, leaf: path == "dense.kernel" and leaf.ndim == 2)
    assert list(vectors) == ["dense.kernel"]
    after = losses.spectral_iterate(PARAMS, vectors)
    assert list(after) == ["dense.kernel"]
    normalized = losses.spectral_normalize(PARAMS, after)
    assert normalized["conv"]["kernel"] is PARAMS["conv"]["kernel"]
    assert normalized["dense"]["bias"] is PARAMS["dense"]["bias"]
    assert abs(top(normalized["dense"]["kernel"]) - 1) < 0.05  # as near as 16 iterations come


def test_kernels_are_the_leaves_of_two_axes_or_more():
    tree = {"params": [{"kernel": jnp.ones((2, 3)), "scale": jnp.ones(3)}, jnp.ones((1, 2, 3)), 3.0, jnp.tanh]}
    assert list(spectral.kernels(tree)) == ["params.0.kernel", "params.1"]
    assert list(spectral.kernels(tree, lambda path, leaf: path.endswith("scale"))) == ["params.0.scale"]
    assert spectral.kernels({}) == {}


def test_a_kernel_as_a_matrix():
    kernel = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(spectral.as_matrix(jnp.asarray(kernel), -1), kernel.reshape(6, 4))
    np.testing.assert_array_equal(spectral.as_matrix(jnp.asarray(kernel), 0), kernel.reshape(2, 12).T)


def test_a_kernel_of_zeros_stays_zero_with_a_finite_gradient():
    params = {"kernel": jnp.zeros((3, 2))}
    vectors = losses.spectral_iterate(params, losses.spectral_init(KEY, params))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(vectors))
    np.testing.assert_array_equal(losses.spectral_normalize(params, vectors)["kernel"], np.zeros((3, 2)))
    gradient = jax.grad(lambda p: losses.spectral_normalize(p, vectors)["kernel"].sum())(params)
    assert np.isfinite(gradient["kernel"]).all()


def test_a_kernel_that_was_zero_at_the_start_is_normalised_once_it_is_not():
    vectors = losses.spectral_init(KEY, {"kernel": jnp.zeros((5, 4))})
    params = {"kernel": PARAMS["dense"]["kernel"]}
    vectors = losses.spectral_iterate(params, vectors, 200)
    np.testing.assert_allclose(top(losses.spectral_normalize(params, vectors)["kernel"]), 1.0, rtol=1e-5)


def test_half_precision_kernels_keep_their_type_and_sigma_is_float32():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    full = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    vectors = losses.spectral_init(KEY, half)
    for a, b in zip(jax.tree.leaves(vectors), jax.tree.leaves(losses.spectral_init(KEY, full)), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=1e-6)
    normalized, reference = losses.spectral_normalize(half, vectors), losses.spectral_normalize(full, vectors)
    for a, b in zip(jax.tree.leaves(normalized), jax.tree.leaves(reference), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_array_equal(a, b.astype(jnp.bfloat16))
