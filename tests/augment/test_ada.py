"""The pipe of StyleGAN2-ADA: what is drawn, that draws belong to examples, gradients, and that it does not leak."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgan import augment
from jaxgan.augment import ada, filters
from tests.augment import oracles

KEYS = jax.random.split(jax.random.key(11), 4096)
EVERYTHING = augment.PRESETS["bgcfnc"]


def pictures(n, *shape):
    return jnp.asarray(np.random.default_rng(2).uniform(-1, 1, (n, *shape)).astype(np.float32))


_draw = jax.jit(lambda p, multipliers, shape: jax.vmap(lambda k: ada.draw(k, p, multipliers, shape))(KEYS))


def drawn(p, multipliers=EVERYTHING, n=4096, shape=(32, 32, 3)):
    """The draws of the first n keys; one program serves all tests."""
    draws = _draw(p, {name: multipliers.get(name, 0.0) for name in EVERYTHING}, shape)
    return jax.tree.map(lambda a: np.asarray(a)[:n], draws)


apply = jax.jit(lambda draws, x, noise: ada.apply(draws, x, EVERYTHING, noise))


@functools.cache
def compiled(preset):
    return jax.jit(lambda keys, x, p: augment.ada_augment(keys, x, p, preset))


@pytest.mark.parametrize("preset", ["r3gan", "bgcfnc"])
def test_at_p_0_pictures_come_out_bit_for_bit(preset):
    x = pictures(64, 8, 8, 3).at[0, 0, 0].set(-0.0)
    out = compiled(preset)(KEYS[:64], x, 0.0)
    np.testing.assert_array_equal(np.asarray(out).view(np.int32), np.asarray(x).view(np.int32))


def test_an_example_that_nothing_was_drawn_for_comes_out_bit_for_bit():
    x, draws = pictures(64, 8, 8, 3), drawn(0.1, n=64, shape=(8, 8, 3))
    out = compiled("bgcfnc")(KEYS[:64], x, 0.1)
    blit = draws.mirrored | (draws.turns > 0) | (draws.pixels != 0).any(1)
    idle = ~(blit | draws.warped | draws.recolored | draws.filtered | (draws.noise > 0) | draws.hidden)
    assert 3 < idle.sum() < 40
    np.testing.assert_array_equal(jnp.all(out == x, axis=(1, 2, 3)), idle)


def test_at_p_1_every_operation_is_drawn_over_its_range():
    d = drawn(1.0)
    assert d.warped.all() and d.recolored.all() and d.filtered.all() and d.hidden.all() and (d.noise > 0).all()
    np.testing.assert_allclose([d.mirrored.mean(), d.flipped.mean()], 0.5, atol=0.03)
    np.testing.assert_allclose(np.bincount(d.turns) / 4096, 0.25, atol=0.03)
    assert set(np.unique(d.pixels)) == set(range(-4, 5))  # 1/8 of 32
    for angle in (d.before, d.after, d.hue):
        assert -np.pi <= angle.min() < -3.1 and 3.1 < angle.max() <= np.pi and abs(angle.mean()) < 0.12
    for log2, std in ((d.scale, 0.2), (d.stretch, 0.2), (d.contrast, 0.5), (d.saturation, 1.0)):
        np.testing.assert_allclose([np.log2(log2).mean() / std, np.log2(log2).std() / std], [0, 1], atol=0.06)
    for normal, std in ((d.move, 4.0), (d.brightness, 0.2)):
        np.testing.assert_allclose([normal.mean() / std, normal.std() / std], [0, 1], atol=0.06)
    np.testing.assert_allclose([np.square(d.noise).mean(), d.noise.min()], [0.01, 0], atol=1e-3)
    assert 0 <= d.middle.min() < 0.01 and 0.99 < d.middle.max() <= 1
    columns = [d.scale, d.before, d.stretch, d.after, *d.move.T, d.brightness, d.contrast, d.hue, d.saturation]
    assert np.abs(np.corrcoef(columns) - np.eye(len(columns))).max() < 0.07


@pytest.mark.parametrize(("name", "field"), [("aniso", "stretch"), ("noise", "noise")])
def test_a_multiplier_scales_the_chance_of_its_operation_alone(name, field):
    multipliers = {**EVERYTHING, name: 0.5}
    halved = drawn(0.6, multipliers)
    neutral = 1.0 if field in ("scale", "stretch") else 0.0
    np.testing.assert_allclose(jnp.mean(getattr(halved, field) != neutral), 0.3, atol=0.03)
    whole = drawn(0.6)
    for other in set(ada.Draws._fields) - {field, "warped", "recolored"}:
        np.testing.assert_array_equal(getattr(halved, other), getattr(whole, other))


def test_two_turns_together_have_the_chance_of_one():
    d = drawn(0.6, {"rotate": 1.0})
    np.testing.assert_allclose(jnp.mean((d.before != 0) | (d.after != 0)), 0.6, atol=0.03)
    np.testing.assert_allclose([jnp.mean(d.before != 0), jnp.mean(d.after != 0)], 1 - np.sqrt(0.4), atol=0.03)
    past = drawn(1.5, {"rotate": 1.0})  # a controller without a limit
    assert jnp.isfinite(past.before).all() and (past.before != 0).all()


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1)], ids=str)
def test_the_whole_pipe_is_its_operations_one_after_the_other(shape):
    x, d = pictures(4, *shape), drawn(1.0, n=4, shape=shape)
    noise = np.random.default_rng(4).normal(size=x.shape).astype(np.float32)
    out = apply(d, x, noise)
    for i in range(4):
        each = ada.Draws(*(np.asarray(a[i], np.float64) for a in d))
        expected = oracles.everything(np.asarray(x[i]), each, noise[i], filters.SYM6, filters.SYM2)
        np.testing.assert_allclose(out[i], expected, atol=3e-4 * max(1.0, np.abs(expected).max()))


def test_draws_belong_to_examples():
    x = pictures(64, 8, 8, 3)
    whole = compiled("bgcfnc")(KEYS[:64], x, 0.8)
    assert whole.shape == x.shape and whole.dtype == jnp.float32
    np.testing.assert_allclose(compiled("bgcfnc")(KEYS[30:40], x[30:40], 0.8), whole[30:40], atol=1e-4)


def test_compiling_changes_nothing():
    x, d = pictures(4, 28, 28, 1), drawn(1.0, n=4, shape=(28, 28, 1))
    noise = jnp.ones_like(x)
    np.testing.assert_allclose(apply(d, x, noise), ada.apply(d, x, EVERYTHING, noise), atol=1e-4)


def test_one_key_is_split_for_the_examples():
    x, key, augmented = pictures(16, 8, 8, 1), jax.random.key(2), compiled("blit")
    np.testing.assert_array_equal(augmented(key, x, 1.0), augmented(jax.random.split(key, 16), x, 1.0))


def test_whole_pixel_moves_survive_the_other_operations_being_possible():
    """Where only they were drawn pixels are copied, though the filtered lookup is in the program."""
    only = {name: float(name in ada.BLIT) or 1e-9 for name in (*ada.BLIT, *ada.GEOMETRY)}
    x = pictures(16, 8, 8, 1)
    out = jax.jit(lambda x: augment.ada_augment(KEYS[:16], x, 1.0, only))(x)
    np.testing.assert_array_equal(out, compiled("blit")(KEYS[:16], x, 1.0))
    for a, b in zip(np.asarray(out), np.asarray(x), strict=True):
        assert set(a.ravel()) <= set(b.ravel())


def test_its_gradients_are_those_of_finite_differences():
    x, d = pictures(2, 6, 6, 3), drawn(1.0, n=2, shape=(6, 6, 3))
    wave = jax.jit(lambda x: jnp.sin(ada.apply(d, x, EVERYTHING, jnp.ones_like(x))))
    check_grads(wave, (x,), order=2, modes=["rev"], atol=0.03, rtol=0.03, eps=1e-2)


def test_the_penalty_on_the_gradient_goes_through_it():
    """R1 with regard to the clean picture, differentiated by the critic's weight as a training step does."""
    x, d = pictures(4, 8, 8, 3), drawn(0.7, n=4, shape=(8, 8, 3))

    def penalty(weight):
        critic = jax.grad(lambda x: jnp.sum(jnp.tanh(weight * ada.apply(d, x, augment.PRESETS["bgc"]))))
        return 0.5 * jnp.sum(jnp.square(critic(x)))

    both = jax.jit(jax.value_and_grad(penalty))
    (below, _), (_, slope), (above, _) = (both(weight) for weight in (0.49, 0.5, 0.51))
    np.testing.assert_allclose(slope, (above - below) / 0.02, rtol=5e-3)


def orbit():
    """A picture without symmetry under the 8 moves of the square: mirrored or not, turned 0 to 3 times."""
    x = np.arange(16, dtype=np.float32).reshape(4, 4) / 16
    return np.stack([np.rot90(y, turns) for y in (x, x[:, ::-1]) for turns in range(4)])[..., None]


@pytest.mark.parametrize("p", [0.3, 0.8])
def test_mirroring_and_turning_do_not_leak(p):
    """They mix the orbit of a picture by a matrix that can be inverted, so what was generated can be told from it."""
    members = orbit()
    keys = KEYS.reshape(8, 512)
    mix = np.zeros((8, 8))
    for start in range(8):
        x = jnp.asarray(np.broadcast_to(members[start], (512, 4, 4, 1)))
        out = np.asarray(compiled_turns(keys[start], x, p))
        same = (out[:, None] == members[None]).all((2, 3, 4))
        assert (same.sum(1) == 1).all()
        mix[:, start] = same.mean(0)
    # Appendix C.2: each move keeps with 1 - p, else is uniform over its own choices.
    index = [(m, t) for m in range(2) for t in range(4)]
    theory = np.zeros((8, 8))
    for column, (m, t) in enumerate(index):
        for row, (m2, t2) in enumerate(index):
            for flip in range(2):
                turned = (-t if flip else t) % 4  # mirroring what was turned turns the mirrored the other way
                if m ^ flip == m2:
                    chance = (1 - p) * (flip == 0) + p / 2
                    theory[row, column] += chance * ((1 - p) * (turned == t2) + p / 4)
    np.testing.assert_allclose(mix, theory, atol=0.08)
    assert np.linalg.svd(theory, compute_uv=False).min() >= (1 - p) ** 2 - 1e-9
    truth = np.array([0.4, 0.0, 0.1, 0.1, 0.0, 0.3, 0.0, 0.1])
    np.testing.assert_allclose(np.linalg.solve(theory, theory @ truth), truth, atol=1e-9)


compiled_turns = jax.jit(lambda keys, x, p: augment.ada_augment(keys, x, p, {"xflip": 1.0, "rotate90": 1.0}))


def test_at_p_1_mirroring_and_turning_would_leak():
    """All eight moves are equally likely then, whatever the picture was."""
    out = np.asarray(compiled_turns(KEYS, jnp.asarray(np.broadcast_to(orbit()[0], (4096, 4, 4, 1))), 1.0))
    same = (out[:, None] == orbit()[None]).all((2, 3, 4))
    np.testing.assert_allclose(same.mean(0), 1 / 8, atol=0.03)


def test_cutout_hides_the_paper_s_rectangle():
    x, middle = pictures(64, 28, 32, 1), np.random.default_rng(0).uniform(size=(64, 2)).astype(np.float32)
    expected = [oracles.hide(np.asarray(a), m) for a, m in zip(x, middle, strict=True)]
    np.testing.assert_array_equal(jax.jit(ada.hide)(x, middle), np.stack(expected).astype(np.float32))


def test_presets_are_the_paper_s_and_r3gan_s():
    letters = {"b": "blit", "g": "geom", "c": "color", "f": "filter", "n": "noise"}
    for name in ("bg", "bgc", "bgcf", "bgcfn"):
        assert augment.PRESETS[name] == {k: v for letter in name for k, v in augment.PRESETS[letters[letter]].items()}
    assert augment.PRESETS["bgcfnc"] == {**augment.PRESETS["bgcfn"], "cutout": 1.0}
    assert set(EVERYTHING) == set(ada.OPERATIONS)
    r3gan = augment.PRESETS["r3gan"]
    assert {r3gan[name] for name in ada.COLOR} == {0.5} and r3gan["cutout"] == r3gan["xfrac"] == 1.0
    assert len(r3gan) == 13


@pytest.mark.parametrize(
    ("shape", "multipliers", "message"),
    [
        ((4, 4, 3), "bgx", r"'bgx'.*bgcfnc"),
        ((4, 4, 3), {"scale": 1.0, "skew": 1.0}, "skew; known: xflip"),
        ((4, 4, 2), "bgc", "1 or 3 channels, not 2"),
        ((4, 5, 3), "blit", "4x5"),
    ],
)
def test_what_cannot_be_done_is_named(shape, multipliers, message):
    with pytest.raises(ValueError, match=message):
        augment.ada_augment(KEYS[:2], jnp.zeros((2, *shape)), 0.5, multipliers)


def test_pictures_of_any_channels_and_sides_have_what_fits_them():
    for shape, multipliers in (((4, 6, 5), "bg"), ((4, 5, 1), {"xint": 1.0, "rotate90": 0.0}), ((1, 1, 3), "bgcfnc")):
        x = jnp.zeros((2, *shape))
        out = jax.eval_shape(lambda x, m=multipliers: augment.ada_augment(KEYS[:2], x, 1.0, m), x)
        assert out.shape == x.shape


def test_it_keeps_the_type_and_runs_where_jax_is_at_its_strictest(strict):
    x = jnp.zeros((2, 4, 4, 3), jnp.bfloat16)
    assert jax.eval_shape(compiled("bgcfnc"), KEYS[:2], x, jnp.float32(0.5)).dtype == jnp.bfloat16


def test_a_population_may_have_a_p_each():
    x = pictures(64, 8, 8, 3)
    both = jax.jit(jax.vmap(compiled("r3gan"), (None, None, 0)))(KEYS[:64], x, jnp.asarray([0.0, 0.9]))
    np.testing.assert_array_equal(both[0], x)
    np.testing.assert_allclose(both[1], compiled("r3gan")(KEYS[:64], x, 0.9), atol=1e-4)
