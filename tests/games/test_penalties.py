"""Penalties in a game: named by a configuration, weighted, lazy, the same on any number of devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxgan import losses
from jaxgan.errors import ConfigError
from jaxgan.games import penalties, standard
from jaxgan.models import mlp
from jaxgan.parallel import Parallel
from jaxgan.update import create_state, make_update
from tests.small import assert_close, dense_layers, make_step, settings, sgd

BATCH, LATENT = 8, 3
ALL = {name: 0.1 for name in penalties.TERMS}
KEY = jax.random.key(5)


def game(loss="hinge", shape=(2,), **options):
    pair = losses.ADVERSARIAL[loss] if isinstance(loss, str) else loss
    generator = mlp.Generator(shape=shape, hidden=(8,), final_tanh=False)
    return standard.make_game(generator, mlp.Discriminator(hidden=(8,), dropout=0.0), pair, LATENT, **options)


def batch(shape=(2,), seed=0):
    real = np.random.default_rng(seed).normal(size=(BATCH, *shape)).astype(np.float32)
    return {"real": jnp.asarray(real), "index": jnp.arange(BATCH)}


def start(game, optimizers=None, shape=(2,)):
    example = {"real": jnp.zeros((2, *shape)), "index": jnp.arange(2)}
    return create_state(game, optimizers or sgd(0.05), jax.random.key(0), example)


def switched(number):
    """Every pair of the table in one function, so that one compilation serves them all."""
    pairs = list(losses.ADVERSARIAL.values())

    def side(name):
        return lambda real, fake: jax.lax.switch(number, [getattr(pair, name) for pair in pairs], real, fake)

    return losses.AdversarialLoss(side("discriminator"), side("generator"))


@pytest.mark.parametrize("name", penalties.TERMS)
def test_every_loss_trains_with_every_penalty(name):
    """Two updates on points in the plane for each pair; the penalty shows, and moves its side's parameters."""
    optimizers = sgd(0.05)

    @jax.jit
    def update(number, state, batch):
        return make_update(game(switched(number), penalties={name: 0.1}), optimizers, settings())(state, batch)

    new = start(game(penalties={name: 0.1}), optimizers)
    for number, loss in enumerate(losses.ADVERSARIAL):
        state = new
        for seed in range(2):
            state, metrics = update(number, state, batch(seed=seed))
        assert all(np.isfinite(value) for value in metrics.values()), (loss, metrics)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params_g, state.params_d))), loss
        assert f"penalty_{name}" in metrics


def test_all_penalties_together_do_not_know_their_devices():
    played, optimizers = game(penalties=ALL, packing=2, spectral_norm=("discriminator", "generator")), sgd(0.01)
    arrays = {"real": np.random.default_rng(0).normal(size=(32, 2)).astype(np.float32)}

    def run(parallel):
        step = parallel.compile(make_step(played, optimizers, settings(share_fake=True)), shared=1)
        state = parallel.replicate(start(played, optimizers))
        for _ in range(3):
            state, metrics = step(state, parallel.split(jnp.arange(BATCH)), parallel.replicate(arrays))
        return state, metrics

    one, metrics_one = run(Parallel("jit"))
    four, metrics_four = run(Parallel("pmap", jax.devices()[:4]))
    assert_close(one, four, rtol=1e-3)
    assert_close(metrics_one, metrics_four, rtol=1e-3)
    assert int(one.adaptive["lecam"].updates) == 3 and float(one.adaptive["path_length"]) > 0.0


def by_hand(played, state, real):
    """The critic and the samples of the discriminator's step, written out."""
    kernel = state.params_d

    def critic(x):
        first, last = dense_layers(kernel)
        h = x @ first["kernel"] + first["bias"]
        return (jnp.where(h > 0, h, 0.2 * h) @ last["kernel"] + last["bias"])[:, 0]

    fake, _ = played.generate(state.params_g, state.variables, real, jax.random.split(KEY, 3)[0])
    return critic, fake


def test_the_value_is_the_weighted_penalty_of_the_game_s_own_critic():
    played = game(penalties={"r1": 3.0, "r2": {"weight": 5.0}, "l2": {"weight": 2.0, "side": "both"}})
    state = start(played)
    critic, fake = by_hand(played, state, batch())
    expected_r1 = losses.r1_penalty(critic, batch()["real"]).mean()
    expected_r2 = losses.r2_penalty(critic, fake).mean()
    variables = {**state.variables, "adaptive": state.adaptive}
    value, aux = played.discriminator_loss(state.params_d, state.params_g, variables, batch(), KEY)
    np.testing.assert_allclose(aux.metrics["penalty_r1"], expected_r1, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["penalty_r2"], expected_r2, rtol=1e-5)
    l2 = losses.l2_penalty(state.params_d)
    np.testing.assert_allclose(aux.metrics["penalty_l2"], l2, rtol=1e-6)
    plain = losses.hinge_discriminator_loss(critic(batch()["real"]), critic(fake)).mean()
    np.testing.assert_allclose(aux.metrics["loss_d"], plain, rtol=1e-5)
    np.testing.assert_allclose(value, plain + 3 * expected_r1 + 5 * expected_r2 + 2 * l2, rtol=1e-5)
    value, aux = played.generator_loss(state.params_g, state.params_d, variables, batch(), KEY)
    l2 = losses.l2_penalty(state.params_g)
    np.testing.assert_allclose(value, aux.metrics["loss_g"] + 2 * l2, rtol=1e-5)
    assert set(aux.metrics) == {"loss_g", "std_fake", "penalty_l2_g"}


@pytest.mark.parametrize("name", ["wgan_gp", "wgan_lp", "dragan", "zero_centered_gp", "lecam", "cr", "bcr"])
def test_options_reach_the_penalty(name):
    changed = {
        "wgan_gp": {"target": 0.1},
        "wgan_lp": {"target": 0.1},
        "dragan": {"noise": "gaussian"},
        "zero_centered_gp": {"weight": 2.0},
        "lecam": {"start": 3},
        "cr": {"augmentation": "flip_shift"},
        "bcr": {"fake_weight": 0.0},
    }[name]
    shape = (6, 6, 1) if name == "cr" else (2,)
    values = []
    for options in ({"weight": 1.0, **({"augmentation": "noise"} if name == "cr" else {})}, {"weight": 1.0, **changed}):
        played = game(penalties={name: options}, shape=shape)
        state = start(played, shape=shape)
        variables = {**state.variables, "adaptive": state.adaptive}
        value, aux = played.discriminator_loss(state.params_d, state.params_g, variables, batch(shape), KEY)
        values.append(float(value - aux.metrics["loss_d"]))
    assert values[0] != pytest.approx(values[1], rel=1e-3)


def test_the_consistency_of_pictures_is_under_flips_and_shifts():
    played = game(penalties={"cr": 1.0}, shape=(6, 6, 1))
    state = start(played, shape=(6, 6, 1))
    flat = {**batch((6, 6, 1)), "real": jnp.full((BATCH, 6, 6, 1), 0.3)}  # what a flip and a shift leave alone
    variables = {**state.variables, "adaptive": state.adaptive}
    _, aux = played.discriminator_loss(state.params_d, state.params_g, variables, flat, KEY)
    assert float(aux.metrics["penalty_cr"]) < 1e-12
    _, aux = played.discriminator_loss(state.params_d, state.params_g, variables, batch((6, 6, 1)), KEY)
    assert float(aux.metrics["penalty_cr"]) > 1e-4


@pytest.mark.parametrize(
    "name, side", [("r1", "discriminator"), ("lecam", "discriminator"), ("path_length", "generator")]
)
def test_lazy_terms_are_taken_at_every_kth_step_of_their_side(name, side):
    played = game(penalties={name: {"weight": 1.0, "every": 3}})
    update = jax.jit(make_update(played, sgd(0.0), settings(d_steps=2)))
    state = start(played, sgd(0.0))
    double = {"real": jnp.concatenate([batch()["real"]] * 2), "index": jnp.arange(2 * BATCH)}
    seen = []
    for _ in range(6):
        state, metrics = update(state, double)
        seen.append(float(metrics[f"penalty_{name}"]) != 0.0)
    steps = int(state.adaptive[f"{side}_steps"])
    if side == "generator":
        assert steps == 6 and seen == [True, False, False, True, False, False]
    else:  # the metrics are the second step's of each update: steps 1, 3, 5, 7, 9, 11
        assert steps == 12 and seen == [False, True, False, False, True, False]


def test_a_lazy_term_is_worth_the_same_on_average():
    played, lazy = (game(penalties={"r1": {"weight": 1.0, "every": every}}) for every in (1, 4))
    totals = []
    for which in (played, lazy):
        update = jax.jit(make_update(which, sgd(0.0), settings()))
        state, total = start(which, sgd(0.0)), 0.0
        for _ in range(4):
            state, metrics = update(state, batch())
            total += float(metrics["penalty_r1"])
        totals.append(total)
    np.testing.assert_allclose(totals[0], totals[1], rtol=1e-5)


def test_the_generator_learns_from_its_penalties_when_it_shares_its_pass():
    """The update adds what reaches the parameters directly to what comes back through the shared samples."""
    moved = []
    for weights in ({}, {"l2": {"weight": 2.0, "side": "generator"}}):
        played = game(penalties=weights)
        optimizers = sgd(0.1)
        state = start(played, optimizers)
        new, _ = make_update(played, optimizers, settings(share_fake=True))(state, batch())
        moved.append(ravel_pytree(jax.tree.map(jnp.subtract, new.params_g, state.params_g))[0])
    kernels = jax.tree.map(lambda p: p if p.ndim > 1 else jnp.zeros_like(p), state.params_g)
    np.testing.assert_allclose(moved[1] - moved[0], -0.2 * ravel_pytree(kernels)[0], atol=1e-6)


def test_weight_0_is_no_penalty():
    assert penalties.read_penalties({name: 0.0 for name in penalties.TERMS}) == ()
    state = start(game(penalties={"lecam": 0.0, "path_length": 0}))
    assert state.adaptive == {}


@pytest.mark.parametrize(
    "given, words",
    [
        ({"r3": 1.0}, "unknown penalty 'r3'.*r1, r2"),
        ({"r1": -1.0}, "r1 needs a weight.*-1.0"),
        ({"r1": float("nan")}, "r1 needs a weight.*nan"),
        ({"r1": "much"}, "needs a weight.*'much'"),
        ({"r1": True}, "needs a weight.*True"),
        ({"r1": {"every": 4}}, "needs a weight.*None"),
        ({"r1": {"weight": 1.0, "every": 0}}, "r1.every is 0"),
        ({"r1": {"weight": 1.0, "target": 2.0}}, "r1 has no target; it takes weight, every, side"),
        ({"wgan_gp": {"weight": 1.0, "centre": 2.0}}, "has no centre; it takes weight, every, side, target, one_sided"),
        ({"r1": {"weight": 1.0, "side": "generator"}}, "side is 'generator'; known: discriminator"),
    ],
)
def test_mistakes_are_named(given, words):
    with pytest.raises(ConfigError, match=words):
        penalties.read_penalties(given)


def test_an_augmentation_that_does_not_fit_is_named():
    for kind in ("flip_shift", "flip_shit"):
        played = game(penalties={"cr": {"weight": 1.0, "augmentation": kind}})
        state = start(played)
        variables = {**state.variables, "adaptive": state.adaptive}
        with pytest.raises(ConfigError, match="auto, noise"):
            played.discriminator_loss(state.params_d, state.params_g, variables, batch(), KEY)


def test_packing_shows_neighbours_together():
    played = game(packing=4)
    state = start(played)
    assert state.params_d["Dense_0"]["kernel"].shape[0] == 8
    _, aux = played.discriminator_loss(state.params_d, state.params_g, state.variables, batch(), KEY)
    fake, _ = played.generate(state.params_g, state.variables, batch(), jax.random.split(KEY, 3)[0])
    packed = np.asarray(batch()["real"]).reshape(2, 8), np.asarray(fake).reshape(2, 8)
    layer, last = dense_layers(state.params_d)

    def critic(x):
        h = x @ layer["kernel"] + layer["bias"]
        return np.where(h > 0, h, 0.2 * h) @ last["kernel"] + last["bias"]

    np.testing.assert_allclose(aux.metrics["logits_real"], critic(packed[0]).mean(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(aux.metrics["logits_fake"], critic(packed[1]).mean(), rtol=1e-4, atol=1e-6)


def test_top_k_trains_on_the_best_samples():
    values = []
    for share in (1.0, 0.5, 0.01):
        played = game("wasserstein", top_k=share)
        state = start(played)
        _, aux = played.generator_loss(state.params_g, state.params_d, state.variables, batch(), KEY)
        values.append(float(aux.metrics["loss_g"]))
    critic, fake = by_hand(played, state, batch())
    logits = np.sort(np.asarray(critic(fake)))[::-1]
    np.testing.assert_allclose(values, [-logits.mean(), -logits[:4].mean(), -logits[0]], rtol=1e-4)


def largest_singular_values(params):
    return [np.linalg.svd(kernel, compute_uv=False)[0] for kernel in losses.spectral.kernels(params).values()]


def test_spectral_norm_is_one_sigma_for_real_generated_and_penalty():
    """The logits are those of the normalised kernels, with vectors moved once, before the passes."""
    played = game("wasserstein", spectral_norm=("discriminator",), penalties={"r1": 1.0})
    state = start(played)
    state = state.replace(params_d=jax.tree.map(lambda p: 3.0 * p, state.params_d))
    variables = {**state.variables, "adaptive": state.adaptive}
    _, aux = played.discriminator_loss(state.params_d, state.params_g, variables, batch(), KEY)
    vectors = losses.spectral_iterate(state.params_d, state.variables["discriminator"]["spectral"])
    assert_close(aux.variables["discriminator"]["spectral"], vectors, rtol=1e-6)
    normalized = losses.spectral_normalize(state.params_d, vectors)
    np.testing.assert_allclose(largest_singular_values(normalized), 1.0, rtol=1e-3)
    critic, fake = by_hand(played, state.replace(params_d=normalized), batch())
    np.testing.assert_allclose(aux.metrics["logits_real"], critic(batch()["real"]).mean(), rtol=1e-4)
    np.testing.assert_allclose(aux.metrics["logits_fake"], critic(fake).mean(), rtol=1e-4)
    np.testing.assert_allclose(aux.metrics["penalty_r1"], losses.r1_penalty(critic, batch()["real"]).mean(), rtol=1e-4)
    _, aux = played.generator_loss(state.params_g, state.params_d, variables, batch(), KEY)
    assert_close(aux.variables["discriminator"], state.variables["discriminator"], rtol=0, atol=0)


def test_samples_of_a_normalised_generator_come_from_normalised_kernels():
    played = game(spectral_norm=("generator",))
    state = start(played)
    params = jax.tree.map(lambda p: 7.0 * p, state.params_g)
    blurred = jax.tree.map(lambda v: 0.9 * v, state.variables)  # as an average of vectors over a run is shorter than 1
    a = played.decode(params, state.variables, played.latents(KEY, jnp.arange(4)))
    b = played.decode(params, blurred, played.latents(KEY, jnp.arange(4)))
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    first = largest_singular_values(params)[0]
    assert first > 1.5  # so that the check below is one
    np.testing.assert_allclose(
        a, game().decode(_divided(params), {"generator": {}}, played.latents(KEY, jnp.arange(4))), rtol=1e-2, atol=1e-4
    )


def _divided(params):
    return jax.tree.map(lambda p: p / np.linalg.svd(p, compute_uv=False)[0] if p.ndim > 1 else p, params)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"top_k": 0.0}, "top_k 0.0"),
        ({"top_k": 1.5}, "top_k 1.5"),
        ({"packing": 0}, "packing 0"),
        ({"spectral_norm": ("critic",)}, "spectral_norm names critic"),
    ],
)
def test_options_out_of_range_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        game(**options)


def test_the_pass_over_real_examples_is_made_once():
    """R1 differentiates the pass that the loss makes anyway; WGAN-GP needs one of its own."""

    def products(weights):
        played = game(penalties=weights)
        state = start(played)
        step = jax.jit(jax.grad(partial(_total, played)))
        return step.lower(state.params_d, state).compile().as_text().count(" dot(")

    assert products({"r1": 1.0}) < products({"wgan_gp": 1.0})


def _total(played, params_d, state):
    variables = {**state.variables, "adaptive": state.adaptive}
    return played.discriminator_loss(params_d, state.params_g, variables, batch(), KEY)[0]
