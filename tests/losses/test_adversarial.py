"""The adversarial losses against formulas written independently in NumPy float64, finite differences and extremes."""

import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgan import losses

NAMES = sorted(losses.ADVERSARIAL)
pytestmark = pytest.mark.smoke


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def bce(logits, target):
    """Cross-entropy from probabilities, the textbook way; exact enough in float64 for moderate logits."""
    p = sigmoid(logits)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


# (discriminator, generator) of (r, f), from the papers and not from the code.
REFERENCE = {
    "minimax": (lambda r, f: bce(r, 1) + bce(f, 0), lambda r, f: np.log(1 - sigmoid(f))),
    "non_saturating": (lambda r, f: bce(r, 1) + bce(f, 0), lambda r, f: -np.log(sigmoid(f))),
    "wasserstein": (lambda r, f: -(r - f), lambda r, f: -f),
    "hinge": (
        lambda r, f: -np.minimum(0, r - 1) - np.minimum(0, -f - 1),
        lambda r, f: -f,
    ),
    "least_squares": (lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda r, f: (f - 1) ** 2 / 2),
    "relativistic": (lambda r, f: -np.log(sigmoid(r - f)), lambda r, f: -np.log(sigmoid(f - r))),
    "relativistic_average": (
        lambda r, f: bce(r - f.mean(), 1) + bce(f - r.mean(), 0),
        lambda r, f: bce(f - r.mean(), 1) + bce(r - f.mean(), 0),
    ),
}
SHAPES = [(7,), (5, 1), (2, 3, 3, 1)]


def logits(shape, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(0, 2, shape).astype(np.float32) for _ in range(2))


def test_the_table_holds_the_design_s_seven_games():
    assert set(REFERENCE) == set(NAMES)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_values(name, shape, strict):
    real, fake = logits(shape)
    pair = losses.ADVERSARIAL[name]
    for ours, reference in zip(pair, REFERENCE[name], strict=True):
        expected = reference(real.astype(np.float64), fake.astype(np.float64))
        for function in (ours, jax.jit(ours)):
            value = function(real, fake)
            assert value.shape == shape and value.dtype == jnp.float32
            np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_named_functions_are_the_table_s(name):
    real, fake = logits((6,))
    discriminator = getattr(losses, f"{name}_discriminator_loss")
    generator = getattr(losses, f"{name}_generator_loss")
    assert losses.ADVERSARIAL[name].discriminator is discriminator
    takes_real = "real_logits" in inspect.signature(generator).parameters
    assert takes_real == name.startswith("relativistic")
    value = generator(fake, real) if takes_real else generator(fake)
    np.testing.assert_array_equal(value, losses.ADVERSARIAL[name].generator(real, fake))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_finite_differences(name):
    real, fake = logits((4,), seed=3)
    for function in losses.ADVERSARIAL[name]:
        # The hinge's kinks at +-1 are not within reach of the step for these logits.
        check_grads(function, (real, fake), order=2, modes=["fwd", "rev"], atol=1e-2, rtol=1e-2, eps=1e-2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("r, f", [(1e4, 1e4), (1e4, -1e4), (-1e4, 1e4), (-1e4, -1e4), (0.0, 0.0)])
def test_extreme_logits_stay_finite(name, r, f):
    real, fake = jnp.array([r, 0.5]), jnp.array([f, -0.5])
    for function in losses.ADVERSARIAL[name]:
        value, grads = jax.value_and_grad(lambda a, b, function=function: function(a, b).sum(), (0, 1))(real, fake)
        assert np.isfinite(value) and all(np.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_label_smoothing_is_one_sided_and_off_by_default(name):
    real, fake = logits((9,))
    loss = losses.ADVERSARIAL[name].discriminator
    r, f = real.astype(np.float64), fake.astype(np.float64)
    np.testing.assert_allclose(
        loss(real, fake, label_smoothing=0.1), bce(r, 0.9) + bce(f, 0.0), rtol=2e-5, atol=2e-6
    )
    np.testing.assert_array_equal(loss(real, fake), loss(real, fake, label_smoothing=0.0))
    extreme = loss(jnp.array([1e4, -1e4]), jnp.array([1e4, -1e4]), label_smoothing=0.25)
    np.testing.assert_allclose(extreme, [0.25e4 + 1e4, 0.75e4], rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_different_shapes_raise_with_both_shapes(name):
    pair = losses.ADVERSARIAL[name]
    with pytest.raises(ValueError, match=r"\(4,\).*\(4, 1\)"):
        pair.discriminator(jnp.zeros(4), jnp.zeros((4, 1)))
    if name.startswith("relativistic"):
        with pytest.raises(ValueError, match=r"\(4,\).*\(4, 1\)"):
            pair.generator(jnp.zeros(4), jnp.zeros((4, 1)))


def test_integer_logits_raise():
    with pytest.raises(TypeError, match="int32"):
        losses.hinge_generator_loss(jnp.arange(3))


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name):
    real, fake = (jnp.asarray(x, jnp.bfloat16) for x in logits((50,)))
    for function in losses.ADVERSARIAL[name]:
        value = function(real, fake)
        assert value.dtype == jnp.float32
        np.testing.assert_array_equal(value, function(real.astype(jnp.float32), fake.astype(jnp.float32)))


@pytest.mark.parametrize("name", ["wasserstein", "relativistic", "relativistic_average"])
def test_a_constant_added_to_both_logits_changes_nothing(name):
    real, fake = logits((8,))
    loss = losses.ADVERSARIAL[name].discriminator
    np.testing.assert_allclose(loss(real + 3, fake + 3), loss(real, fake), rtol=1e-4, atol=1e-5)


def test_minimax_at_the_optimum_is_minus_log_4():
    # Equal distributions: D = 1/2 everywhere, and V(G, D*) = -log 4 (Goodfellow et al. 2014, theorem 1).
    zero = jnp.zeros(5)
    np.testing.assert_allclose(-losses.minimax_discriminator_loss(zero, zero), -np.log(4.0), rtol=1e-6)


def test_wasserstein_is_the_dual_value_of_a_shift():
    # Between N(0, 1) and its shift by 3, the critic x -> -x is optimal and the distance is 3.
    x = np.random.default_rng(0).normal(size=500).astype(np.float32)
    value = losses.wasserstein_discriminator_loss(-x, -(x + 3.0))
    np.testing.assert_allclose(-value.mean(), 3.0, rtol=1e-5)


def test_every_public_function_is_documented():
    for name in losses.__all__:
        entry = getattr(losses, name)
        if inspect.isfunction(entry):
            for part in ("Args:", "Returns:", "References:", "[...]"):
                assert part in entry.__doc__, f"{name}: {part}"


def test_importing_losses_imports_nothing_else(root):
    code = (
        "import sys; import jaxgan.losses; "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('flax', 'optax', 'tensorflow_datasets', 'orbax', 'ml_collections', 'tensorflow', 'torch', 'grain') "
        "or (m.startswith('jaxgan.') and not m.startswith('jaxgan.losses'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
