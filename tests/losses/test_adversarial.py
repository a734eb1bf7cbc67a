"""The adversarial losses against formulas written independently in NumPy float64, finite differences and extremes."""

import importlib
import inspect
import math
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import losses

NAMES = sorted(losses.ADVERSARIAL)
pytestmark = pytest.mark.smoke


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def bce(logits, target):
    """Cross-entropy from probabilities, the textbook way; exact enough in float64 for moderate logits."""
    p = sigmoid(logits)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def dual_contrastive(r, f):
    """One entry against all of the other kind, with the exponentials written out."""
    loss = np.empty(r.shape)
    for i in np.ndindex(r.shape):
        against_fake = np.exp(r[i]) / (np.exp(r[i]) + sum(np.exp(x) for x in f.ravel()))
        against_real = np.exp(-f[i]) / (np.exp(-f[i]) + sum(np.exp(-x) for x in r.ravel()))
        loss[i] = -np.log(against_fake) - np.log(against_real)
    return loss


# (output activation g of a logit, conjugate f* of g): tables 2 and 6 of the f-GAN paper.
F_GAN = {
    "kl": (lambda v: v, lambda t: np.exp(t - 1)),
    "reverse_kl": (lambda v: -np.exp(-v), lambda t: -1 - np.log(-t)),
    "jensen_shannon": (lambda v: np.log(2) - np.log(1 + np.exp(-v)), lambda t: -np.log(2 - np.exp(t))),
    "squared_hellinger": (lambda v: 1 - np.exp(-v), lambda t: t / (1 - t)),
    "pearson": (lambda v: v, lambda t: t**2 / 4 + t),
}


def f_gan(name):
    g, conjugate = F_GAN[name]
    return lambda r, f: -g(r) + conjugate(g(f)), lambda r, f: -conjugate(g(f))


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
    "dual_contrastive": (dual_contrastive, lambda r, f: -dual_contrastive(r, f)),
    **{f"f_gan_{name}": f_gan(name) for name in F_GAN},
}
NAMED = [name for name in NAMES if not name.startswith("f_gan_")]
TAKES_REAL = ("relativistic", "relativistic_average", "dual_contrastive")  # the generators that compare
BATCHED = ("relativistic_average", "dual_contrastive")  # an entry's loss depends on the others
OVERFLOWS = ("f_gan_kl", "f_gan_reverse_kl", "f_gan_squared_hellinger")  # an exponential is part of the formula
SHAPES = [(7,), (5, 1), (2, 3, 3, 1)]


def logits(shape, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(0, 2, shape).astype(np.float32) for _ in range(2))


def test_the_table_holds_the_design_s_games():
    seven = {
        "minimax", "non_saturating", "wasserstein", "hinge", "least_squares", "relativistic", "relativistic_average"
    }  # fmt: skip
    assert seven <= set(NAMES)
    assert set(REFERENCE) == set(NAMES)
    assert {f"f_gan_{name}" for name in losses.F_DIVERGENCES} == set(NAMES) - set(NAMED)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_values(name, shape, strict):
    real, fake = logits(shape)
    pair = losses.ADVERSARIAL[name]
    compiled = jax.jit(lambda r, f: [loss(r, f) for loss in pair])(real, fake)
    for ours, traced, reference in zip(pair, compiled, REFERENCE[name], strict=True):
        expected = reference(real.astype(np.float64), fake.astype(np.float64))
        for value in (ours(real, fake), traced):
            assert value.shape == shape and value.dtype == jnp.float32
            np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_double_precision_stays_and_is_used(name):
    with jax.enable_x64(True):
        real, fake = (x.astype(np.float64) for x in logits((5, 1), seed=1))
        for ours, reference in zip(losses.ADVERSARIAL[name], REFERENCE[name], strict=True):
            value = ours(real, fake)
            assert value.dtype == jnp.float64
            # 1 - sigmoid loses some of the reference's own digits.
            np.testing.assert_allclose(value, reference(real, fake), rtol=1e-12, atol=1e-13)
            assert ours(real.astype(np.float32), fake.astype(np.float32)).dtype == jnp.float32


@pytest.mark.parametrize("name", NAMES)
def test_vmap_over_groups_is_a_loop_over_groups(name):
    real, fake = logits((3, 4), seed=2)
    for function in losses.ADVERSARIAL[name]:
        expected = np.stack([function(r, f) for r, f in zip(real, fake, strict=True)])
        np.testing.assert_allclose(jax.vmap(function)(real, fake), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_only_batched_losses_look_at_other_entries(name):
    real, fake = logits((4,))
    changed_real, changed_fake = real.copy(), fake.copy()
    changed_real[0] += 1.0
    changed_fake[0] -= 1.0
    for function in losses.ADVERSARIAL[name]:
        same = np.asarray(function(real, fake))[1:] == np.asarray(function(changed_real, changed_fake))[1:]
        assert not same.any() if name in BATCHED else same.all()


@pytest.mark.parametrize("name", NAMED)
def test_named_functions_are_the_table_s(name):
    real, fake = logits((6,))
    discriminator = getattr(losses, f"{name}_discriminator_loss")
    generator = getattr(losses, f"{name}_generator_loss")
    assert losses.ADVERSARIAL[name].discriminator is discriminator
    takes_real = "real_logits" in inspect.signature(generator).parameters
    assert takes_real == (name in TAKES_REAL)
    value = generator(fake, real) if takes_real else generator(fake)
    np.testing.assert_array_equal(value, losses.ADVERSARIAL[name].generator(real, fake))


@pytest.mark.parametrize("name", losses.F_DIVERGENCES)
def test_f_gans_of_the_table_are_the_functions_with_that_divergence(name):
    real, fake = logits((6,))
    pair = losses.ADVERSARIAL[f"f_gan_{name}"]
    np.testing.assert_array_equal(
        pair.discriminator(real, fake), losses.f_gan_discriminator_loss(real, fake, divergence=name)
    )
    np.testing.assert_array_equal(pair.generator(real, fake), losses.f_gan_generator_loss(fake, divergence=name))
    g = F_GAN[name][0](fake.astype(np.float64))
    value = losses.f_gan_generator_loss(fake, divergence=name, saturating=False)
    np.testing.assert_allclose(value, -g, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TAKES_REAL])
def test_other_generators_need_no_real_logits(name):
    _, fake = logits((3,))
    generator = losses.ADVERSARIAL[name].generator
    np.testing.assert_array_equal(generator(None, fake), generator(fake + 1, fake))


@pytest.mark.parametrize("name", NAMES)
def test_first_and_second_derivatives_by_finite_differences_of_the_reference(name):
    real, fake = (x.astype(np.float64) for x in logits((4,), seed=3))
    rng = np.random.default_rng(4)
    direction = rng.normal(size=4), rng.normal(size=4)
    weights = rng.uniform(1, 2, 4)  # the losses are not summed alike, so that none can stand for another

    def derivatives(r, f):
        """Reverse mode, and forward over reverse, of both sides."""
        for loss in losses.ADVERSARIAL[name]:
            slope = jax.grad(lambda r, f, loss=loss: (weights * loss(r, f)).sum(), (0, 1))
            yield jax.jvp(slope, (r, f), direction)

    with jax.enable_x64(True):
        ours = jax.jit(lambda r, f: list(derivatives(r, f)))(real, fake)
    # The hinge's kinks at +-1 are not within reach of the step for these logits.
    for (slope, curvature), reference in zip(ours, REFERENCE[name], strict=True):

        def along(h, reference=reference):
            return (weights * reference(real + h * direction[0], fake + h * direction[1])).sum()

        h = 1e-3
        first, second = (along(h) - along(-h)) / (2 * h), (along(h) - 2 * along(0) + along(-h)) / h**2
        np.testing.assert_allclose(np.dot(slope[0], direction[0]) + np.dot(slope[1], direction[1]), first, rtol=1e-4)
        curved = np.dot(curvature[0], direction[0]) + np.dot(curvature[1], direction[1])
        np.testing.assert_allclose(curved, second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("r, f", [(1e4, 1e4), (1e4, -1e4), (-1e4, 1e4), (-1e4, -1e4), (0.0, 0.0)])
def test_extreme_logits_stay_finite(name, r, f):
    if name in OVERFLOWS:
        r, f = np.clip([r, f], -80, 80)
    real, fake = jnp.array([r, 0.5]), jnp.array([f, -0.5])
    for function in losses.ADVERSARIAL[name]:
        value, grads = jax.value_and_grad(lambda a, b, function=function: function(a, b).sum(), (0, 1))(real, fake)
        assert np.isfinite(value) and all(np.isfinite(g).all() for g in grads)


def test_dual_contrastive_at_the_extremes_is_the_largest_exponent():
    real, fake = jnp.array([1e4, -1e4]), jnp.array([1e4, -1e4])
    # -log e^r / (e^r + sum e^f) and its mirror: the gap to the largest generated, to the smallest real logit.
    value = losses.dual_contrastive_discriminator_loss(real, fake)
    np.testing.assert_allclose(value, [math.log(2) + 2e4, 2e4 + math.log(2)], rtol=1e-6)
    assert (losses.dual_contrastive_discriminator_loss(jnp.full(2, 1e4), jnp.full(2, -1e4)) == 0).all()


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
    if name in TAKES_REAL:
        with pytest.raises(ValueError, match=r"\(4,\).*\(4, 1\)"):
            pair.generator(jnp.zeros(4), jnp.zeros((4, 1)))


@pytest.mark.parametrize("name", NAMES)
def test_integer_logits_raise(name):
    for function in losses.ADVERSARIAL[name]:
        with pytest.raises(TypeError, match="int32"):
            function(jnp.zeros(3), jnp.arange(3))


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name):
    real, fake = (jnp.asarray(x, jnp.bfloat16) for x in logits((50,)))
    for function in losses.ADVERSARIAL[name]:
        value = function(real, fake)
        assert value.dtype == jnp.float32
        np.testing.assert_array_equal(value, function(real.astype(jnp.float32), fake.astype(jnp.float32)))


@pytest.mark.parametrize("name", ["wasserstein", *TAKES_REAL])
def test_a_constant_added_to_both_logits_changes_nothing(name):
    real, fake = logits((8,))
    for loss in losses.ADVERSARIAL[name][: 1 if name == "wasserstein" else 2]:
        np.testing.assert_allclose(loss(real + 3, fake + 3), loss(real, fake), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_reordering_the_batch_reorders_the_loss(name):
    real, fake = logits((6,))
    order = np.random.default_rng(1).permutation(6)
    for loss in losses.ADVERSARIAL[name]:
        np.testing.assert_allclose(
            loss(real[order], fake[order]), np.asarray(loss(real, fake))[order], rtol=1e-6, atol=1e-6
        )


def test_hinge_is_flat_outside_the_margin():
    def slopes(r, f):
        return [float(x) for x in jax.grad(losses.hinge_discriminator_loss, (0, 1))(jnp.float32(r), jnp.float32(f))]

    assert losses.hinge_discriminator_loss(jnp.float32(1.0), jnp.float32(-1.0)) == 0
    assert slopes(1.01, -1.01) == [0, 0] and slopes(50.0, -50.0) == [0, 0]
    assert slopes(0.99, -0.99) == [-1, 1] and slopes(-50.0, 50.0) == [-1, 1]


def test_minimax_at_the_optimum_is_minus_log_4():
    # Equal distributions: D = 1/2 everywhere, and V(G, D*) = -log 4 (Goodfellow et al. 2014, theorem 1).
    zero = jnp.zeros(5)
    np.testing.assert_allclose(-losses.minimax_discriminator_loss(zero, zero), -np.log(4.0), rtol=1e-6)


def test_wasserstein_is_the_dual_value_of_a_shift():
    # Between N(0, 1) and its shift by 3, the critic x -> -x is optimal and the distance is 3.
    x = np.random.default_rng(0).normal(size=500).astype(np.float32)
    value = losses.wasserstein_discriminator_loss(-x, -(x + 3.0))
    np.testing.assert_allclose(-value.mean(), 3.0, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (2, 3, 1)], ids=str)
def test_top_k_marks_the_k_largest_and_the_earlier_of_equals(shape, strict):
    x = np.array([0.5, 2.0, 0.5, -1.0, 2.0, 0.5], np.float32)
    order = [1, 4, 0, 2, 5, 3]
    for k in range(7):
        expected = np.zeros(6, np.float32)
        expected[order[:k]] = 1.0
        for function in (losses.top_k_mask, jax.jit(losses.top_k_mask)):
            mask = function(x.reshape(shape), k)
            assert mask.dtype == jnp.float32
            np.testing.assert_array_equal(mask, expected.reshape(shape))


def test_top_k_of_many_equal_logits_has_exactly_k():
    np.testing.assert_array_equal(losses.top_k_mask(jnp.zeros(1000), 300), np.arange(1000) < 300)


def test_top_k_of_half_and_double_precision():
    for dtype in (jnp.float16, jnp.bfloat16):
        mask = losses.top_k_mask(jnp.array([1.0, 3.0, 2.0], dtype), 2)
        assert mask.dtype == jnp.float32 and mask.tolist() == [0, 1, 1]
    with jax.enable_x64(True):
        # Equal in float32: the ranking is done in double precision.
        mask = losses.top_k_mask(np.array([1.0, 1.0 + 1e-12]), 1)
        assert mask.dtype == jnp.float64 and mask.tolist() == [0, 1]
    with pytest.raises(TypeError, match="int32"):
        losses.top_k_mask(jnp.arange(3), 1)


def test_top_k_keeps_the_gradient_of_the_best_samples_only():
    _, fake = logits((5,))

    def loss(x):
        return (losses.top_k_mask(x, 2) * losses.wasserstein_generator_loss(x)).sum() / 2

    expected = np.where(fake >= np.sort(fake)[-2], -0.5, 0.0)
    np.testing.assert_array_equal(jax.grad(loss)(fake), expected)


def test_top_k_under_vmap_ranks_each_group_by_itself():
    _, fake = logits((3, 4))
    mask = jax.vmap(losses.top_k_mask)(fake, jnp.array([1, 2, 3]))
    for i in range(3):
        np.testing.assert_array_equal(mask[i], fake[i] >= np.sort(fake[i])[-(i + 1)])


@pytest.mark.parametrize(
    "batch, epoch, kwargs, k",
    [
        (100, 0, {}, 100),
        (100, 1, {}, 99),
        (100, 2, {}, 98),  # 98.01
        (1000, 7, {}, 932),  # 932.07: the defaults to three digits
        (64, 68, {}, 32),  # 0.504866 of 64 is 32.31
        (64, 69, {}, 32),  # 0.499837: the floor
        (64, 10_000, {}, 32),
        (10, 1, {"decay": 0.75}, 7),
        (10, 2, {"decay": 0.5, "floor": 0.2}, 2),
        (10, 9, {"decay": 0.5, "floor": 0.25}, 2),
        (7, 1000, {}, 3),
        (16, 0.5, {"decay": 0.25, "floor": 0.1}, 8),  # half an epoch
        # Whole numbers which float32 misses by a little from below.
        (100, 2, {"decay": 0.9}, 81),
        (2000, 2, {"decay": 0.9}, 1620),
        # Fractions of .99984 and more which are no rounding errors.
        (1, 1, {"decay": 0.99984}, 0),
        (1, 1, {"decay": 0.9998}, 0),
    ],
)
def test_top_k_schedule(batch, epoch, kwargs, k):
    value = losses.top_k_schedule(batch, epoch, **kwargs)
    assert value.shape == () and value.dtype == jnp.int32 and value == k
    traced = jax.jit(lambda e: losses.top_k_schedule(batch, e, **kwargs))(epoch)
    assert traced.dtype == jnp.int32 and traced == k


# What these do is no formula: they turn, mark, unroll, start.
IN_WORDS = {"lecam_init", "rotate_four_ways", "top_k_mask", "unrolled"}
FORMULA = re.compile(r"[=+^*|]|->|(^|[\s(\[])-[\w|(]|\s-\s")


@pytest.mark.parametrize("name", [name for name in losses.__all__ if inspect.isfunction(getattr(losses, name))])
def test_every_public_function_is_documented(name):
    function = getattr(losses, name)
    text = inspect.getdoc(function)
    parts = ["Args:"] if inspect.signature(function).parameters else []
    for part in [*parts, "Returns:", "References:", "Conventions:", "float32"]:
        assert part in text, f"no {part}"
    references = text.split("References:")[1].split("Conventions:")[0]
    assert re.search(r"\b(19|20)\d\d\b", references), "no year"
    assert re.search(r"`\[[^`\]]*\]`", text), "no shape"
    assert name in IN_WORDS or FORMULA.search(text.split("\n\n")[0]), "no formula in the first paragraph"
    described = text.split("Args:")[-1].split("Returns:")[0]
    for parameter in inspect.signature(function).parameters:
        is_described = re.search(rf"^ +([\w, ]+, )?{parameter}(, [\w, ]+)?:", described, re.MULTILINE)
        assert is_described, f"{parameter} is not described"


def test_every_function_that_names_its_paper_is_exported():
    assert len(losses.__all__) == len(set(losses.__all__))
    rooms = re.findall(r"^(\w+)  +\w", losses.__doc__, re.MULTILINE)
    assert len(rooms) >= 10
    for room in rooms:
        for name, entry in vars(importlib.import_module(f"jaxgan.losses.{room}")).items():
            if inspect.isfunction(entry) and "References:" in (entry.__doc__ or ""):
                assert getattr(losses, name) is entry and name in losses.__all__


def test_importing_losses_imports_nothing_else(root):
    code = (
        "import sys; import jaxgan.losses; "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('flax', 'optax', 'tensorflow_datasets', 'orbax', 'ml_collections', 'tensorflow', 'torch', 'grain') "
        "or (m.startswith('jaxgan.') and not m.startswith('jaxgan.losses'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
