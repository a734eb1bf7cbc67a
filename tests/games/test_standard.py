"""The game of one generator and one discriminator: who gets which gradient, who sees which batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgan.games.standard import batch_std, make_game
from jaxgan.losses import ADVERSARIAL
from jaxgan.parallel import AXIS, Parallel
from tests.small import assert_close, assert_equal, dcgan_game, dense_layers, mlp_game, new_state, sgd

BATCH = 8
KEY = jax.random.key(11)
DCGAN = dcgan_game()


def batch(seed=0):
    real = np.random.default_rng(seed).uniform(-1, 1, (BATCH, 8, 8, 1)).astype(np.float32)
    return {"real": jnp.asarray(real), "index": jnp.arange(BATCH)}


@partial(jax.jit, static_argnums=(0, 3))
def losses(game, state, batch, axis_name=None):
    """Both losses, their gradients and what came with them."""
    d = jax.value_and_grad(game.discriminator_loss, has_aux=True)
    g = jax.value_and_grad(game.generator_loss, has_aux=True)
    return (
        d(state.params_d, state.params_g, state.variables, batch, KEY, axis_name),
        g(state.params_g, state.params_d, state.variables, batch, KEY, axis_name),
    )


def test_init_gives_both_sides_and_their_collections():
    state = new_state(DCGAN, sgd())
    assert set(state.variables) == {"generator", "discriminator"}
    assert all(set(collections) == {"batch_stats"} for collections in state.variables.values())
    assert new_state(mlp_game(), sgd()).variables == {"generator": {}, "discriminator": {}}


@pytest.mark.parametrize("game", [DCGAN, mlp_game("relativistic_average")], ids=["batch_norm", "relativistic_average"])
def test_losses_see_the_global_batch(game):
    """The sum of the parts' gradients over four devices, averaged, is the gradient of one device's whole batch."""
    state = new_state(game, sgd())
    one = losses(game, state, batch())
    parallel = Parallel("pmap", jax.devices()[:4])

    def on_four(state, batch):
        results = losses(game, state, batch, AXIS)
        return [((value, aux), jax.lax.pmean(grads, AXIS)) for (value, aux), grads in results]

    mapped = jax.pmap(on_four, AXIS, in_axes=(None, 0), devices=parallel.devices)(state, parallel.split(batch()))
    for i, ((value, aux), grads) in enumerate(mapped):
        (value_one, aux_one), grads_one = one[i]
        for device in range(4):  # what a device returns is the global value already
            np.testing.assert_allclose(value[device], value_one, rtol=1e-5)
            metrics = {name: value[device] for name, value in aux.metrics.items()}
            assert_close(metrics, aux_one.metrics, rtol=1e-4)
        assert_close(jax.tree.map(lambda x: x[0], grads), grads_one, rtol=1e-3, atol=2e-5)
        assert_close(jax.tree.map(lambda x: x[0], aux.variables), aux_one.variables)


def test_the_losses_are_the_named_pair_on_the_logits():
    game = mlp_game("hinge")
    state = new_state(game, sgd())
    fake, _ = game.generate(state.params_g, state.variables, batch(), jax.random.split(KEY, 3)[0])

    def discriminate(x):
        x = x.reshape(BATCH, 64)
        for i in range(3):
            layer = dense_layers(state.params_d)[i]
            x = x @ layer["kernel"] + layer["bias"]
            x = np.where(x > 0, x, 0.2 * x) if i < 2 else x
        return np.asarray(x)[:, 0]

    r, f = discriminate(batch()["real"]), discriminate(fake)
    ((loss_d, aux_d), _), ((loss_g, aux_g), _) = losses(game, state, batch())
    np.testing.assert_allclose(loss_d, np.mean(np.maximum(0, 1 - r) + np.maximum(0, 1 + f)), rtol=1e-5)
    np.testing.assert_allclose(loss_g, -np.mean(f), rtol=1e-4)
    expected = {"loss_d": loss_d, "logits_real": r.mean(), "logits_fake": f.mean(), "accuracy_d": np.mean(r > f)}
    for name, value in expected.items():
        np.testing.assert_allclose(aux_d.metrics[name], value, rtol=1e-4)
    assert set(aux_d.metrics) == {*expected, "std_real"} and set(aux_g.metrics) == {"loss_g", "std_fake"}
    np.testing.assert_allclose(aux_g.metrics["std_fake"], batch_std(fake), rtol=1e-5)


def test_the_generator_gets_no_gradient_from_the_discriminator_s_loss():
    game = mlp_game()
    state = new_state(game, sgd())

    def loss(params_g):
        return game.discriminator_loss(state.params_d, params_g, state.variables, batch(), KEY)[0]

    assert all(not np.any(leaf) for leaf in jax.tree.leaves(jax.grad(loss)(state.params_g)))

    def loss_of_given(fake):
        return game.discriminator_loss(state.params_d, state.params_g, state.variables, batch(), KEY, None, fake)[0]

    assert not np.any(jax.grad(loss_of_given)(batch(1)["real"]))


def test_collections_move_in_their_own_steps_only():
    game = DCGAN
    state = new_state(game, sgd())
    ((_, aux_d), _), ((_, aux_g), _) = losses(game, state, batch())
    assert_equal(aux_g.variables["discriminator"], state.variables["discriminator"])
    for moved in (aux_d.variables["discriminator"], aux_g.variables["generator"]):
        assert not np.allclose(moved["batch_stats"]["BatchNorm_0"]["norm"]["mean"], 0.0)


def test_a_pass_that_is_given_is_not_made_again():
    game = DCGAN
    state = new_state(game, sgd())
    fake = batch(1)["real"]
    loss_d, loss_g = (jax.jit(f, static_argnums=5) for f in (game.discriminator_loss, game.generator_loss))
    _, aux = loss_d(state.params_d, state.params_g, state.variables, batch(), KEY, None, fake)
    assert_equal(aux.variables["generator"], state.variables["generator"])
    _, aux = loss_g(state.params_g, state.params_d, state.variables, batch(), KEY, None, fake)
    assert_equal(aux.variables, state.variables)
    np.testing.assert_allclose(aux.metrics["std_fake"], batch_std(fake), rtol=1e-6)


def test_the_discriminator_s_statistics_come_from_both_passes():
    """Real first, then generated, with the momentum of 0.9 each."""
    game = DCGAN
    state = new_state(game, sgd())
    same = batch()["real"]
    loss_d = jax.jit(game.discriminator_loss, static_argnums=5)
    _, aux = loss_d(state.params_d, state.params_g, state.variables, batch(), KEY, None, same)
    norm = aux.variables["discriminator"]["batch_stats"]["BatchNorm_0"]["norm"]

    @jax.jit
    def conv(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=layout)

    first, second = state.params_d["Conv_0"], state.params_d["Conv_1"]
    x = conv(same, first["kernel"]) + first["bias"]
    x = conv(np.where(x > 0, x, 0.2 * x), second["kernel"])
    np.testing.assert_allclose(norm["mean"], 0.19 * np.mean(x, axis=(0, 1, 2)), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(norm["var"], 0.81 + 0.19 * np.var(x, axis=(0, 1, 2)), rtol=1e-3)


def test_latents_belong_to_the_example():
    game = mlp_game()
    z = game.latents(KEY, jnp.arange(1000))
    assert z.shape == (1000, 6)
    np.testing.assert_array_equal(game.latents(KEY, jnp.array([7, 999, 0])), z[jnp.array([7, 999, 0])])
    np.testing.assert_allclose([np.mean(z), np.std(z)], [0.0, 1.0], atol=0.05)
    assert np.abs(np.corrcoef(z.T) - np.eye(6)).max() < 0.15


def test_more_samples_begin_with_the_same_ones():
    game = DCGAN
    state = new_state(game, sgd())
    draw = jax.jit(game.sample, static_argnums=3)
    five, three = (draw(state.params_g, state.variables, KEY, n) for n in (5, 3))
    assert five.shape == (5, 8, 8, 1)
    np.testing.assert_allclose(five[:3], three, atol=1e-6)
    assert np.abs(five).max() <= 1.0


def test_a_condition_is_refused():
    game = mlp_game()
    state = new_state(game, sgd())
    with pytest.raises(ValueError, match="unconditional"):
        game.sample(state.params_g, state.variables, KEY, 2, jnp.zeros(2, jnp.int32))
    with pytest.raises(ValueError, match="unconditional"):
        game.decode(state.params_g, state.variables, jnp.zeros((2, 6)), jnp.zeros(2, jnp.int32))


def test_a_discriminator_of_patches():
    """Logits [B, h, w, 1] go through the same losses."""
    class Patches(nn.Module):
        axis_name: str | None = None

        @nn.compact
        def __call__(self, x, *, train, index=None):
            return nn.Conv(1, (2, 2), (2, 2))(x)

    class Shift(nn.Module):
        axis_name: str | None = None

        @nn.compact
        def __call__(self, z, *, train, index=None):
            return z.reshape(-1, 4, 4, 1) + self.param("shift", nn.initializers.zeros, ())

    game = make_game(Shift(), Patches(), ADVERSARIAL["least_squares"], latent_size=16)
    small = {"real": jnp.ones((4, 4, 4, 1)), "index": jnp.arange(4)}
    params_g, params_d, variables = jax.jit(game.init)(KEY, small)
    value, aux = jax.jit(game.discriminator_loss)(params_d, params_g, variables, small, KEY)
    r = float(np.sum(params_d["Conv_0"]["kernel"]))  # a patch of ones
    np.testing.assert_allclose(aux.metrics["logits_real"], r, rtol=1e-5)
    assert value.shape == ()
    assert np.isfinite(jax.jit(game.generator_loss)(params_g, params_d, variables, small, KEY)[0])


def test_batch_std_by_hand():
    x = np.random.default_rng(0).normal(3.0, 2.0, (50, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(batch_std(jnp.asarray(x)), np.sqrt(np.mean(np.var(x, axis=0))), rtol=1e-5)
    one_of_two = np.stack([np.zeros(4), np.array([2.0, 0.0, 0.0, 0.0])])  # std 1, 0, 0, 0
    np.testing.assert_allclose(batch_std(jnp.asarray(one_of_two)), 0.5, rtol=1e-6)
    assert float(batch_std(jnp.zeros((5, 3)))) == 0.0
    np.testing.assert_allclose(batch_std(jnp.full((64, 28, 28, 1), 0.3)), 0.0, atol=1e-3)


def test_batch_std_over_devices_is_that_of_the_whole_batch():
    x = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32) + np.arange(8)[:, None]
    parts = jax.pmap(lambda x: batch_std(x, AXIS), AXIS, devices=jax.devices()[:4])(x.reshape(4, 2, 5))
    np.testing.assert_allclose(parts, np.full(4, np.sqrt(np.mean(np.var(x, axis=0)))), rtol=1e-5)
