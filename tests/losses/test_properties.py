"""What holds for any numbers: Hypothesis looks for values, types and shapes that break it.

Values are drawn for a few fixed shapes, and all losses are compiled together, so that each shape and type is compiled
once. derandomize: the same examples in every run.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# The smoke set is collected with pytest alone.
hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

from jaxgan import losses  # noqa: E402

SHAPES = [(4,), (2, 1), (1, 2, 2, 1)]
TYPES = [jnp.float32, jnp.bfloat16, jnp.float16]
FINITE = 1e4  # the largest logit with which a loss is promised to be finite
EXPONENTIAL = 80.0  # the largest where the formula has an exponential
OVERFLOWS = ("f_gan_kl", "f_gan_reverse_kl", "f_gan_squared_hellinger")
BATCHED = ("relativistic_average", "dual_contrastive")
ELEMENTWISE = {
    function.__name__: function
    for function in (
        losses.l1_loss,
        losses.l2_loss,
        losses.charbonnier_loss,
        losses.cycle_loss,
        losses.identity_loss,
        losses.consistency_penalty,
    )
}
EXTREME = [0.0, -0.0, 1.0, -1.0, 1e-4, -1e-4, 17.0, -17.0, 80.0, -80.0, 104.0, -104.0, FINITE, -FINITE]


def common(examples):
    return hypothesis.settings(deadline=None, max_examples=examples, derandomize=True, database=None)


def numbers(count, bound=FINITE):
    one = st.one_of(
        st.sampled_from([x for x in EXTREME if abs(x) <= bound]),
        st.floats(-4, 4, width=32),
        st.floats(-bound, bound, width=32),
    )
    return st.lists(one, min_size=count, max_size=count)


@st.composite
def pairs(draw, shapes=tuple(SHAPES)):
    """Two arrays of one shape and type."""
    shape, dtype = draw(st.sampled_from(shapes)), draw(st.sampled_from(TYPES))
    count = int(np.prod(shape))
    return tuple(np.array(draw(numbers(count)), np.float32).reshape(shape).astype(dtype) for _ in range(2))


def everything(x, y):
    """{(name, side): loss} of all games and elementwise functions."""
    out = {(name, ""): function(x, y) for name, function in ELEMENTWISE.items()}
    for name, pair in losses.ADVERSARIAL.items():
        r, f = (jnp.clip(a, -EXPONENTIAL, EXPONENTIAL) if name in OVERFLOWS else a for a in (x, y))
        out |= {(name, "discriminator"): pair.discriminator(r, f), (name, "generator"): pair.generator(r, f)}
    return out


@jax.jit
def compiled(x, y):
    """A dictionary with strings for keys, as JAX wants it."""
    return {"/".join(key): value for key, value in everything(x, y).items()}


def calculated(x, y):
    return {tuple(key.split("/")): np.asarray(value) for key, value in compiled(x, y).items()}


def document(name, side):
    return getattr(losses, f"{name}_{side}_loss" if side else name, losses.f_gan_generator_loss).__doc__


def near(value, expected, x, y, what):
    """Up to rounding errors: of the logits, which are added and averaged, and of the value."""
    largest = max(np.abs(a.astype(np.float64)).max() for a in (x, y))
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=2e-6 * (1 + largest), err_msg=str(what))


@common(60)
@hypothesis.given(pairs())
def test_shape_type_finiteness_and_sign(arrays):
    for key, value in calculated(*arrays).items():
        assert value.shape == arrays[0].shape and value.dtype == np.float32, key
        assert np.isfinite(value).all(), key
        if "never negative" in document(*key):
            assert (value >= 0).all(), key
        if "never positive" in document(*key):
            assert (value <= 0).all(), key


def test_the_docstrings_promise_signs():
    """So that the test above does not lose its object with a word."""
    sides = [(name, side) for name in losses.ADVERSARIAL for side in ("discriminator", "generator")]
    never_negative = {key for key in sides if "never negative" in document(*key)}
    never_positive = {key for key in sides if "never positive" in document(*key)}
    assert never_positive == {("minimax", "generator"), ("dual_contrastive", "generator")}
    both = ("relativistic", "relativistic_average", "least_squares")
    assert never_negative >= {(name, side) for name in both for side in ("discriminator", "generator")}
    assert never_negative >= {("hinge", "discriminator"), ("dual_contrastive", "discriminator")}
    assert ("non_saturating", "generator") in never_negative
    assert all("never negative" in document(name, "") for name in ELEMENTWISE if name != "charbonnier_loss")


@common(12)
@hypothesis.given(pairs())
def test_compiled_and_not(arrays):
    eager, jitted = everything(*(jnp.asarray(a) for a in arrays)), calculated(*arrays)
    assert set(eager) == set(jitted)
    for key, value in jitted.items():
        near(value, eager[key], *arrays, key)


@common(30)
@hypothesis.given(pairs())
def test_half_precision_is_float32_of_the_rounded_numbers(arrays):
    exact = calculated(*(a.astype(np.float32) for a in arrays))
    for key, value in calculated(*arrays).items():
        near(value, exact[key], *arrays, key)


@common(30)
@hypothesis.given(pairs(shapes=((4,),)))
def test_elementwise_losses_agree_with_being_applied_entry_by_entry(arrays):
    whole = calculated(*arrays)
    entries = [calculated(*(a[i : i + 1] for a in arrays)) for i in range(4)]
    for key, value in whole.items():
        if key[0] not in BATCHED:
            near(value, np.concatenate([entry[key] for entry in entries]), *arrays, key)


@common(30)
@hypothesis.given(pairs(shapes=((4,),)), st.permutations(range(4)))
def test_every_game_treats_the_pairs_of_a_batch_alike(arrays, order):
    whole, reordered = calculated(*arrays), calculated(*(a[list(order)] for a in arrays))
    for key, value in whole.items():
        near(reordered[key], value[list(order)], *arrays, key)


@common(30)
@hypothesis.given(pairs(shapes=((4,),)))
def test_shapes_are_only_shapes(arrays):
    flat, patches = calculated(*arrays), calculated(*(a.reshape(1, 2, 2, 1) for a in arrays))
    for key, value in flat.items():
        near(patches[key].ravel(), value, *arrays, key)


@jax.jit
def slopes(x, y):
    def total(x, y):
        return sum(value.sum() for value in everything(x, y).values())

    return jax.grad(total, (0, 1))(x, y)


@common(30)
@hypothesis.given(pairs(shapes=((4,),)).filter(lambda arrays: arrays[0].dtype == np.float32))
def test_gradients_are_finite(arrays):
    assert all(np.isfinite(g).all() for g in slopes(*arrays))


# Labels, embeddings and sums over an example


@functools.cache
def compiled_one(function):
    return jax.jit(function)


@st.composite
def class_logits(draw):
    logits = np.array(draw(numbers(12)), np.float32).reshape(3, 4).astype(draw(st.sampled_from(TYPES)))
    return logits, np.array(draw(st.lists(st.integers(0, 3), min_size=3, max_size=3)))


@common(40)
@hypothesis.given(class_logits())
def test_class_losses_are_finite_and_never_negative(arguments):
    for function in (losses.ac_gan_loss, losses.multi_hinge_loss):
        value = compiled_one(function)(*arguments)
        assert value.dtype == jnp.float32 and value.shape == (3,)
        assert np.isfinite(value).all() and (value >= 0).all(), function


@st.composite
def embeddings(draw):
    """Rows of any length, zeros among them, and of equal directions."""
    rows = [np.array(draw(numbers(8)), np.float32).reshape(4, 2) for _ in range(2)]
    return *rows, np.array(draw(st.lists(st.integers(0, 2), min_size=4, max_size=4)))


@common(40)
@hypothesis.given(embeddings())
def test_contrastive_losses_are_finite_and_never_negative(arguments):
    for function in (losses.conditional_contrastive_loss, losses.data_to_data_cross_entropy_loss):
        value = compiled_one(function)(*arguments)
        assert np.isfinite(value).all() and (value >= 0).all(), function
        # At most that of an example opposite to its proxy with the three others beside it: with the default margin
        # and temperature of D2D-CE log(1 + 3 e^((0.98 + 1.98) / 0.5)), with those of 2C less.
        assert (value <= np.log1p(3 * np.exp(5.92)) + 1e-4).all(), function


@common(40)
@hypothesis.given(numbers(12, bound=EXPONENTIAL), numbers(12, bound=EXPONENTIAL))
def test_sums_over_an_example_are_never_negative(first, second):
    x, y = (np.array(a, np.float32).reshape(2, 3, 2, 1) for a in (first, second))
    target = 1 / (1 + np.exp(-y))
    functions = {
        losses.gaussian_kl: (x, y),
        losses.bernoulli_nll: (x, target),
        losses.vq_codebook_loss: (x, y),
        losses.vq_commitment_loss: (x, y),
        losses.feature_matching_loss: ([x, y], [y, y]),
        losses.mean_feature_matching_loss: ([x, y], [y, y]),
        losses.total_variation: (x,),
    }
    for function, arguments in functions.items():
        value = np.asarray(compiled_one(function)(*arguments))
        assert np.isfinite(value).all() and (value >= 0).all(), function
        assert "never negative" in function.__doc__


@common(40)
@hypothesis.given(numbers(6), st.integers(0, 6))
def test_top_k_marks_exactly_k_and_none_above_is_left_out(logits, k):
    x = np.array(logits, np.float32)
    mask = np.asarray(compiled_one(losses.top_k_mask)(x, k))
    assert mask.sum() == k and set(mask) <= {0.0, 1.0}
    if 0 < k < 6:
        assert x[mask == 1].min() >= x[mask == 0].max()


@common(40)
@hypothesis.given(st.integers(1, 4096), st.integers(0, 2000), st.floats(0.5, 1.0), st.floats(0.25, 1.0))
def test_the_schedule_of_k_only_falls_and_stops_at_its_floor(batch, epoch, decay, floor):
    schedule = compiled_schedule()
    now, later = (int(schedule(batch, e, decay, floor)) for e in (epoch, epoch + 1))
    assert int(floor * batch * (1 - 1e-6)) <= later <= now <= batch


@functools.cache
def compiled_schedule():
    return jax.jit(lambda batch, epoch, decay, floor: losses.top_k_schedule(batch, epoch, decay=decay, floor=floor))
