"""What the discriminator is shown: T(x) of both kinds in both steps; penalties at the clean pictures; p's feedback."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import augment, losses
from jaxgan.errors import ConfigError
from jaxgan.games.augmentation import Augmentation, read_augmentation
from jaxgan.games.standard import make_game
from jaxgan.models import mlp
from jaxgan.optim import Ramp
from jaxgan.update import create_state, make_update
from tests.small import SHAPE, assert_close, settings, sgd

BATCH, LATENT = 8, 4
KEY = jax.random.key(31)
PIPE = {"xflip": 1.0, "xint": 1.0, "contrast": 1.0}
METHODS = {
    "diff_augment": Augmentation("diff_augment", policy=("color", "translation")),
    "ada": Augmentation("ada", multipliers=PIPE, p=0.8),
}
GENERATOR = mlp.Generator(shape=SHAPE, hidden=(8,), init_std=0.3)
DISCRIMINATOR = mlp.Discriminator(hidden=(8,), dropout=0.0, init_std=0.3)
PENALTIES = {"r1": 1.0, "r2": 1.0}


def make(augmentation=Augmentation(), loss="relativistic", **options):  # noqa: B008
    pair = losses.ADVERSARIAL[loss]
    return make_game(GENERATOR, DISCRIMINATOR, pair, LATENT, augmentation=augmentation, **options)


def batch():
    real = np.random.default_rng(0).uniform(-1, 1, (BATCH, *SHAPE)).astype(np.float32)
    return {"real": jnp.asarray(real), "index": jnp.arange(BATCH)}


def start(game):
    return jax.jit(lambda: create_state(game, sgd(), jax.random.key(0), batch()))()


@pytest.fixture(scope="module")
def state():
    return start(make())


@partial(jax.jit, static_argnums=0)
def both(game, state, batch):
    variables = {**state.variables, "adaptive": state.adaptive}
    d = jax.value_and_grad(game.discriminator_loss, has_aux=True)
    g = jax.value_and_grad(game.generator_loss, has_aux=True)
    d = d(state.params_d, state.params_g, variables, batch, KEY)
    return d, g(state.params_g, state.params_d, variables, batch, KEY)


def change(method, key, x):
    """The library's augmentation with a key for each example, made from the pass's key and the example's place."""
    keys = jnp.stack([jax.random.fold_in(jax.random.fold_in(key, 1), i) for i in range(BATCH)])
    if method == "diff_augment":
        return augment.diff_augment(keys, x, METHODS[method].policy)
    return augment.ada_augment(keys, x, 0.8, PIPE)


@partial(jax.jit, static_argnums=0)
def by_hand(method, params_d, params_g):
    """D's total with R1 and R2, G's loss and gradient, and what they are made of, from the modules alone."""
    key_fake, key_real_pass, key_fake_pass = jax.random.split(KEY, 3)
    z = make().latents(jax.random.split(key_fake)[0], jnp.arange(BATCH))
    real = batch()["real"]

    def judge(key, x):
        return DISCRIMINATOR.apply({"params": params_d}, change(method, key, x), train=True)

    def steepness(key, x, clean=True):
        grads = jax.grad(lambda x: judge(key, x).sum())(x)
        if not clean:  # with respect to what D is shown, which would be wrong
            shown = change(method, key, x)
            grads = jax.grad(lambda x: DISCRIMINATOR.apply({"params": params_d}, x, train=True).sum())(shown)
        return 0.5 * jnp.mean(jnp.sum(jnp.square(grads), axis=(1, 2, 3)))

    def loss_g(params_g):
        fake = GENERATOR.apply({"params": params_g}, z, train=True)
        r, f = judge(key_real_pass, real), judge(key_fake_pass, fake)
        return jnp.mean(jax.nn.softplus(r - f)), (r, f, fake)

    (value_g, (r, f, fake)), grads_g = jax.value_and_grad(loss_g, has_aux=True)(params_g)
    plain = DISCRIMINATOR.apply({"params": params_d}, real, train=True)
    return {
        "loss_d": jnp.mean(jax.nn.softplus(f - r)),
        "loss_g": value_g,
        "grads_g": grads_g,
        "logits_real": r,
        "logits_fake": f,
        "unchanged": plain,
        "r1": steepness(key_real_pass, real),
        "r2": steepness(key_fake_pass, fake),
        "of_what_is_shown": jnp.stack([steepness(key_real_pass, real, False), steepness(key_fake_pass, fake, False)]),
    }


@pytest.mark.parametrize("method", METHODS)
def test_both_kinds_are_augmented_in_both_steps_and_penalties_are_of_the_clean_pictures(method, state):
    game = make(METHODS[method], penalties=PENALTIES)
    expected = by_hand(method, state.params_d, state.params_g)
    ((value_d, aux_d), _), ((value_g, _), grads_g) = both(game, state, batch())
    assert np.abs(expected["unchanged"] - expected["logits_real"]).max() > 0.1  # T changes what D says
    np.testing.assert_allclose(aux_d.metrics["logits_real"], expected["logits_real"].mean(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(aux_d.metrics["logits_fake"], expected["logits_fake"].mean(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(aux_d.metrics["loss_d"], expected["loss_d"], rtol=1e-4)
    np.testing.assert_allclose(value_g, expected["loss_g"], rtol=1e-4)
    assert_close(grads_g, expected["grads_g"], rtol=1e-3)
    penalties = [expected["r1"], expected["r2"]]
    found = [aux_d.metrics["penalty_r1"], aux_d.metrics["penalty_r2"]]
    np.testing.assert_allclose(found, penalties, rtol=1e-3)
    np.testing.assert_allclose(value_d, expected["loss_d"] + sum(penalties), rtol=1e-3)
    assert np.all(np.abs(expected["of_what_is_shown"] / np.asarray(penalties) - 1) > 0.02)


def test_no_augmentation_shows_the_pictures_themselves(state):
    ((_, aux), _), _ = both(make(), state, batch())
    r = DISCRIMINATOR.apply({"params": state.params_d}, batch()["real"], train=True)
    np.testing.assert_allclose(aux.metrics["logits_real"], r.mean(), rtol=1e-4, atol=1e-6)
    assert "augment_p" not in aux.metrics
    assert Augmentation().view({}, jnp.uint32(0), KEY, jnp.arange(2))(SHAPE) is SHAPE


@pytest.mark.parametrize("method", METHODS)
def test_an_example_s_draws_belong_to_its_place_in_the_batch(method):
    x, turned = batch()["real"], np.array([5, 0, 7, 2])

    @jax.jit
    def shown(index, x):
        return METHODS[method].view({}, jnp.uint32(0), KEY, index)(x)

    whole = np.asarray(shown(jnp.arange(BATCH), x))
    np.testing.assert_allclose(shown(jnp.asarray(turned), x[turned]), whole[turned], atol=1e-6)
    assert not np.allclose(shown(jnp.asarray(turned), x[:4]), whole[:4])


ADAPTIVE = Augmentation("ada", multipliers={"xint": 1.0}, target=0.6, speed=64.0, every=2)


@pytest.fixture(scope="module")
def adaptive():
    """A game with adaptive p, its update (both networks stay as they are), and its state."""
    game = make(ADAPTIVE, "hinge")
    return jax.jit(make_update(game, sgd(0.0), settings())), start(game)


def with_bias(state, bias):
    """D that gives every picture about this logit."""
    params = jax.tree.map(jnp.zeros_like, state.params_d)
    params["judge"]["logit"]["bias"] = jnp.full(1, bias)
    return state.replace(params_d=params)


def test_p_grows_while_the_discriminator_is_sure(adaptive):
    update, state = adaptive
    state, seen = with_bias(state, 1.0), []
    for _ in range(7):
        state, metrics = update(state, batch())
        seen.append((float(metrics["augment_p"]), float(state.adaptive["augment"].p)))
    # Every second step moves p by 16 images of 64; a step is played with the p from before it.
    np.testing.assert_allclose([p for _, p in seen], [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75])
    np.testing.assert_allclose([p for p, _ in seen], [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75])
    state = with_bias(state, -1.0)  # and falls again where D takes real pictures for generated ones
    for _ in range(3):
        state, metrics = update(state, batch())
    assert float(state.adaptive["augment"].p) == 0.25
    assert float(state.adaptive["augment"].overfitting) == -1.0


def test_p_stays_at_0_where_the_discriminator_is_at_a_loss(adaptive):
    update, state = adaptive
    state = with_bias(state, -1.0)
    for _ in range(4):
        state, metrics = update(state, batch())
    assert float(state.adaptive["augment"].p) == float(metrics["augment_p"]) == 0.0


def test_p_is_what_the_discriminator_is_shown(adaptive):
    """The same step at p = 0 and at p = 1 gives other logits."""
    update, state = adaptive
    state = state.replace(params_d=jax.tree.map(lambda x: 3.0 * x, state.params_d))
    full = {"augment": state.adaptive["augment"]._replace(p=jnp.float32(1.0))}
    plain, changed = (update(state.replace(adaptive=a), batch())[1] for a in (state.adaptive, full))
    assert abs(plain["logits_real"] - changed["logits_real"]) > 1e-3
    r = DISCRIMINATOR.apply({"params": state.params_d}, batch()["real"], train=True)
    np.testing.assert_allclose(plain["logits_real"], r.mean(), rtol=1e-4, atol=1e-5)


def test_p_as_a_ramp_follows_the_images_seen(state):
    game = make(METHODS["ada"]._replace(p=Ramp(0.0, 0.8, 100.0), multipliers={"xint": 1.0}))
    metrics = [
        both(game, state, {**batch(), "images": jnp.uint32(images)})[0][0][1].metrics for images in (0, 50, 1000)
    ]
    np.testing.assert_allclose([m["augment_p"] for m in metrics], [0.0, 0.4, 0.8], rtol=1e-6)
    still, moved = metrics[0]["logits_real"], metrics[2]["logits_real"]
    r = DISCRIMINATOR.apply({"params": state.params_d}, batch()["real"], train=True)
    np.testing.assert_allclose(still, r.mean(), rtol=1e-4, atol=1e-5)
    assert abs(moved - still) > 1e-4


OPTIONS = {
    "name": "ada",
    "policy": ("color",),
    "pipe": "bgc",
    "p": -1.0,
    "target": 0.5,
    "speed_images": 1000.0,
    "every": 8,
}


def test_options_as_a_configuration_gives_them():
    given = read_augmentation(OPTIONS, (8, 8, 3))
    assert given == Augmentation("ada", ("color",), "bgc", None, 0.5, 1000.0, 8)
    assert given.is_adaptive and set(given.initial()) == {"augment"}
    for p in (0.0, 0.3, Ramp(0.0, 1.0, 10.0)):
        fixed = read_augmentation({**OPTIONS, "p": p}, (8, 8, 3))
        assert fixed.p == p and not fixed.is_adaptive and fixed.initial() == {}
    assert read_augmentation({"name": ""}) == Augmentation()
    assert not read_augmentation({**OPTIONS, "name": "diff_augment"}, (8, 8, 1)).is_adaptive


@pytest.mark.parametrize(
    "changed, shape, words",
    [
        ({"name": "adda"}, (8, 8, 3), r"unknown config\.augment\.name 'adda'; known: diff_augment, ada"),
        ({}, (2,), r"config\.augment changes pictures; the examples here have the shape \(2,\)"),
        ({"pipe": "bgd"}, (8, 8, 3), r"config\.augment: unknown preset 'bgd'.*known: blit, "),
        ({"pipe": {"zoom": 1.0}}, (8, 8, 3), r"config\.augment: unknown augmentations zoom; known: xflip"),
        ({}, (8, 8, 4), r"config\.augment: colours can be changed of pictures with 1 or 3 channels, not 4"),
        ({}, (8, 7, 3), r"config\.augment: rotate90: pixels of 8x7 pictures"),
        ({"name": "diff_augment", "policy": ("colour",)}, (8, 8, 3), r"config\.augment: DiffAugment knows.*'colour'"),
    ],
)
def test_mistakes_are_named(changed, shape, words):
    with pytest.raises(ConfigError, match=words):
        read_augmentation({**OPTIONS, **changed}, shape)
