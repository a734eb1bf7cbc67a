"""The update against one written out by hand, and against itself on other numbers of devices."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxgan.errors import ConfigError
from jaxgan.games import standard
from jaxgan.losses import ADVERSARIAL
from jaxgan.models import mlp
from jaxgan.optim import Lookahead
from jaxgan.parallel import Parallel
from jaxgan.state import count_parameters
from jaxgan.update import ema_decay, make_update, repeat
from tests.small import (
    SHAPE,
    assert_close,
    assert_equal,
    dcgan_game,
    dense_layers,
    make_step,
    mlp_game,
    new_state,
    pictures,
    plain,
    settings,
    sgd,
)

BATCH = 8


def run(game, config, parallel, steps=3):
    optimizers = sgd(learning_rate=0.01)  # small steps: batch norm over few examples amplifies rounding errors
    step = parallel.compile(make_step(game, optimizers, config), shared=1)
    state = parallel.replicate(new_state(game, optimizers))
    arrays = parallel.replicate(pictures())
    index = parallel.split(jnp.arange(BATCH * config.d_steps))
    for _ in range(steps):
        state, metrics = step(state, index, arrays)
    return state, metrics


@pytest.mark.parametrize(
    "game, config",
    [
        pytest.param(dcgan_game(), settings(share_fake=True), id="shared", marks=pytest.mark.slow),
        pytest.param(
            dcgan_game("relativistic_average"), settings(), id="relativistic_average", marks=pytest.mark.slow
        ),
        pytest.param(dcgan_game("hinge"), settings(d_steps=3), id="three_d_steps"),
        pytest.param(
            mlp_game("wasserstein", dropout=0.3), settings(d_steps=2), id="dropout", marks=pytest.mark.slow
        ),
    ],
)
def test_one_device_equals_four_under_pmap(game, config):
    assert jax.device_count() >= 4, "tests/conftest.py forces four devices"
    one, metrics_one = run(game, config, Parallel("jit"))
    mapped, _ = run(game, config, Parallel("pmap", jax.devices()[:1]))
    four, metrics_four = run(game, config, Parallel("pmap", jax.devices()[:4]))
    assert_close(one, mapped)
    assert_close(one, four)
    assert_close(metrics_one, metrics_four)
    assert int(four.images) == 3 * BATCH * config.d_steps


def normalised_game(hidden=(16,), **options):
    """Batch norm in the generator alone."""
    networks = mlp.Generator(shape=SHAPE, hidden=hidden, batch_norm=True), mlp.Discriminator(hidden=hidden, dropout=0.0)
    return standard.make_game(*networks, ADVERSARIAL["non_saturating"], latent_size=6, **options)


def test_statistics_per_device_are_those_of_its_part():
    """One step of plain descent is linear in the gradient, so the parts' own steps have to average to the whole's."""
    game, optimizers = normalised_game(batch_stats="per_device"), sgd()
    start, step = new_state(game, optimizers), jax.jit(make_step(game, optimizers, settings(share_fake=True)))
    parts = [step(start, jnp.arange(2 * i, 2 * i + 2), pictures())[0] for i in range(4)]
    expected = jax.tree.map(lambda *x: np.mean(x, axis=0), *[plain((p.params_d, p.variables)) for p in parts])
    for mode in ("pmap", "shard_map"):
        parallel = Parallel(mode, jax.devices()[:4])
        mapped = parallel.compile(make_step(game, optimizers, settings(share_fake=True)), shared=1)
        given = parallel.split(jnp.arange(BATCH)), parallel.replicate(pictures())
        state, _ = mapped(parallel.replicate(new_state(game, optimizers)), *given)
        assert_close((state.params_d, state.variables), expected, rtol=1e-4, atol=1e-6)
        for leaf in jax.tree.leaves(plain_shards(state)):
            np.testing.assert_array_equal(leaf, leaf[:1].repeat(4, axis=0))
    together, _ = step(start, jnp.arange(BATCH), pictures())
    kernels = [plain(s.params_d)["Dense_0"]["kernel"] for s in (together, state)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-4


def plain_shards(state):
    """Each array's copies on the devices, [4, ...]."""
    trees = (state.params_g, state.params_d, state.variables, state.ema_g, state.ema_variables)
    return jax.tree.map(lambda x: np.stack([shard.data for shard in x.addressable_shards]), trees)


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
@pytest.mark.parametrize(
    "config",
    [settings(share_fake=True), pytest.param(settings(d_steps=2), marks=pytest.mark.slow)],
    ids=["shared", "two_d_steps"],
)
def test_the_gradients_are_all_that_is_large_on_the_wire(mode, config):
    game, optimizers = normalised_game(hidden=(128, 128)), sgd()
    parallel = Parallel(mode, jax.devices()[:4])
    state = parallel.replicate(new_state(game, optimizers))
    given = parallel.split(jnp.arange(BATCH * config.d_steps)), parallel.replicate(pictures())
    compiled = parallel.compile(make_step(game, optimizers, config), shared=1).lower(state, *given).compile()
    sent, parameters = numbers_sent(compiled.as_text()), count_parameters((state.params_g, state.params_d))
    assert parameters > 40_000
    assert parameters <= sent < 1.1 * parameters  # a loop's body stands in the text once


def numbers_sent(text):
    """How many numbers come out of the collectives of a compiled program."""
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    total = 0
    for shapes in re.findall(rf"= (.*?) (?:{kinds})(?:-start)?\(", text):
        for dimensions in re.findall(r"\w+\[([\d,]*)\]", shapes):
            total += int(np.prod([int(n) for n in dimensions.split(",") if n]))
    return total


def test_every_device_holds_the_same_state():
    state, _ = run(dcgan_game(), settings(), Parallel("pmap", jax.devices()[:4]))
    for leaf in jax.tree.leaves((state.params_g, state.variables, state.opt_d)):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == 4
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0])


def test_the_update_by_hand():
    """D step, then G step against the new D, gradients by the chain rule of jax.grad on losses written out here."""
    game, optimizers = mlp_game(), sgd(learning_rate=0.1)
    state = new_state(game, optimizers)
    batch = {"real": jnp.linspace(-1, 1, BATCH * 64).reshape(BATCH, 8, 8, 1), "index": jnp.arange(BATCH)}
    new, metrics = make_update(game, optimizers, settings(share_fake=True))(state, batch)

    key = jax.random.fold_in(jax.random.fold_in(state.key, 0), state.step)
    key_fake, _, _ = jax.random.split(key, 3)

    def dense(params, x, layers, last):
        for i in range(layers):
            layer = dense_layers(params)[i]
            x = x @ layer["kernel"] + layer["bias"]
            x = jnp.where(x > 0, x, 0.2 * x) if i < layers - 1 else last(x)
        return x

    z_key, _ = jax.random.split(key_fake)
    z = jnp.stack([jax.random.normal(jax.random.fold_in(z_key, i), (6,)) for i in range(BATCH)])

    def generate(params):
        return dense(params, z, 2, jnp.tanh)

    def discriminate(params, x):
        return dense(params, x.reshape(BATCH, 64), 3, lambda x: x)[:, 0]

    def loss_d(params):
        real, fake = discriminate(params, batch["real"]), discriminate(params, generate(state.params_g))
        return jnp.mean(jnp.logaddexp(0, -real) + jnp.logaddexp(0, fake))

    def loss_g(params, params_d):
        return jnp.mean(jnp.logaddexp(0, -discriminate(params_d, generate(params))))

    value_d, grads_d = jax.value_and_grad(loss_d)(state.params_d)
    params_d = jax.tree.map(lambda p, g: p - 0.1 * g, state.params_d, grads_d)
    value_g, grads_g = jax.value_and_grad(loss_g)(state.params_g, params_d)
    params_g = jax.tree.map(lambda p, g: p - 0.1 * g, state.params_g, grads_g)
    decay = 0.5 ** (BATCH / 100.0)
    ema = jax.tree.map(lambda e, p: decay * e + (1 - decay) * p, state.ema_g, params_g)

    np.testing.assert_allclose(metrics["loss_d"], value_d, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss_g"], value_g, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm_d"], jnp.linalg.norm(ravel_pytree(grads_d)[0]), rtol=1e-4)
    np.testing.assert_allclose(metrics["grad_norm_g"], jnp.linalg.norm(ravel_pytree(grads_g)[0]), rtol=1e-4)
    for ours, expected in ((new.params_d, params_d), (new.params_g, params_g), (new.ema_g, ema)):
        assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    assert int(new.step) == 1 and int(new.images) == BATCH


@pytest.mark.parametrize("share_fake", [True, False])
def test_simultaneous_updates_answer_the_discriminator_before_its_step(share_fake):
    game, optimizers = mlp_game(), sgd(learning_rate=0.1)
    state = new_state(game, optimizers)
    batch = {"real": jnp.linspace(-1, 1, BATCH * 64).reshape(BATCH, 8, 8, 1), "index": jnp.arange(BATCH)}
    update = make_update(game, optimizers, settings(share_fake=share_fake, simultaneous=True))
    new, _ = update(state, batch)
    keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(state.key, 0), state.step), 3 if share_fake else 2)
    fake = game.generate(state.params_g, state.variables, batch, keys[0])[0] if share_fake else None

    def loss(params_g, params_d):
        made = game.generate(params_g, state.variables, batch, keys[0])[0] if share_fake else None
        return game.generator_loss(params_g, params_d, state.variables, batch, keys[-1], None, made)[0]

    def stepped(params_d):
        return jax.tree.map(lambda p, g: p - 0.1 * g, state.params_g, jax.grad(loss)(state.params_g, params_d))

    assert fake is None or fake.shape == (BATCH, 8, 8, 1)
    assert_close(new.params_g, stepped(state.params_d), rtol=1e-5, atol=1e-6)
    alternating, _ = make_update(game, optimizers, settings(share_fake=share_fake))(state, batch)
    assert_close(alternating.params_g, stepped(new.params_d), rtol=1e-5, atol=1e-6)
    assert_close(alternating.params_d, new.params_d, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("game", [mlp_game("hinge"), mlp_game("wasserstein", dropout=0.3)], ids=["plain", "dropout"])
@pytest.mark.parametrize("d_steps", [1, 2])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(game, d_steps):
    state = new_state(game, sgd())
    rng = np.random.default_rng(0)
    real = jnp.asarray(rng.uniform(-1, 1, (BATCH * d_steps, 8, 8, 1)), jnp.float32)
    batch = {"real": real, "index": jnp.arange(BATCH * d_steps)}
    whole, parts = (
        jax.jit(make_update(game, sgd(), settings(d_steps=d_steps, accumulate=n)))(state, batch) for n in (1, 4)
    )
    assert_close(parts[0], whole[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts[1]["loss_d"], whole[1]["loss_d"], rtol=1e-5)


def test_parts_move_batch_statistics_one_after_another():
    game = dcgan_game()
    state = new_state(game, sgd())
    real = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (BATCH, 8, 8, 1)), jnp.float32)
    batch = {"real": real, "index": jnp.arange(BATCH)}
    new, _ = jax.jit(make_update(game, sgd(), settings(accumulate=2)))(state, batch)
    mean = new.variables["generator"]["batch_stats"]["BatchNorm_0"]["norm"]["mean"]
    assert np.abs(mean).max() > 0 and int(new.images) == BATCH
    with pytest.raises(ConfigError, match="accumulate 3 must divide the batch size 8"):
        make_update(game, sgd(), settings(accumulate=3))


def test_lookahead_steps_both_sides_back():
    game = mlp_game()
    plain, looking = sgd(), sgd()._replace(lookahead=Lookahead(every=3, share=0.25))
    real = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (BATCH, 8, 8, 1)), jnp.float32)
    batch = {"real": real, "index": jnp.arange(BATCH)}
    fast, state = new_state(game, plain), new_state(game, looking)
    start = state
    step_fast, step = (jax.jit(make_update(game, optimizers, settings())) for optimizers in (plain, looking))
    for number in range(1, 4):
        fast, state = step_fast(fast, batch)[0], step(state, batch)[0]
        if number < 3:
            assert_close(state.params_g, fast.params_g, rtol=1e-5, atol=1e-6)
    for side in ("params_g", "params_d"):
        first, last = getattr(start, side), getattr(fast, side)
        expected = jax.tree.map(lambda s, f: s + 0.25 * (f - s), first, last)
        assert_close(getattr(state, side), expected, rtol=1e-5, atol=1e-6)
    assert_close(state.adaptive["slow"], {"g": state.params_g, "d": state.params_d}, rtol=1e-6, atol=1e-9)


def test_simultaneous_updates_are_one_step_of_each():
    with pytest.raises(ConfigError, match="d_steps is 2"):
        make_update(mlp_game(), sgd(), settings(d_steps=2, simultaneous=True))


@pytest.mark.slow  # two compilations
def test_sharing_the_generator_s_pass_changes_only_the_noise():
    """With one set of fakes for both sides, the gradients are those of two passes over the same latents."""
    game, optimizers = dcgan_game(), sgd()
    state = new_state(game, optimizers)
    batch = {"real": jnp.zeros((BATCH, 8, 8, 1)), "index": jnp.arange(BATCH)}
    key = jax.random.key(7)
    fake, pullback, _ = jax.vjp(
        lambda p: game.generate(p, state.variables, batch, jax.random.split(key, 3)[0]), state.params_g, has_aux=True
    )
    arguments = (state.params_d, state.variables, batch, key)
    direct, _ = jax.grad(game.generator_loss, has_aux=True)(state.params_g, *arguments)
    cotangent, _ = jax.grad(lambda x: game.generator_loss(state.params_g, *arguments, None, x), has_aux=True)(fake)
    assert_close(pullback(cotangent)[0], direct, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("d_steps", [1, 2, 5])
def test_d_steps_see_different_examples_and_count_images(d_steps):
    seen = []
    game = mlp_game()

    def spy(params_d, params_g, variables, batch, key, axis_name=None, fake=None):
        jax.debug.callback(lambda index: seen.append(index.tolist()), batch["index"])
        return game.discriminator_loss(params_d, params_g, variables, batch, key, axis_name, fake)

    optimizers = sgd()
    state = new_state(game, optimizers)
    index = jnp.arange(4 * d_steps)
    batch = {"real": jnp.zeros((4 * d_steps, 8, 8, 1)), "index": index}
    new, _ = make_update(game._replace(discriminator_loss=spy), optimizers, settings(d_steps=d_steps))(state, batch)
    jax.effects_barrier()
    assert sorted(i for part in seen for i in part) == index.tolist()
    assert sorted(seen) == sorted(index.reshape(4, d_steps).T.tolist())
    assert int(new.images) == 4 * d_steps


def test_several_updates_in_one_call_are_the_single_ones():
    game, optimizers = mlp_game(), sgd()
    step = make_step(game, optimizers, settings(share_fake=True))
    index, arrays = jnp.arange(BATCH), pictures()
    state = new_state(game, optimizers)
    together, metrics = jax.jit(repeat(step, 4))(state, index, arrays)
    single = jax.jit(step)
    for _ in range(4):
        state, last = single(state, index, arrays)
    assert_close(together, state)
    assert metrics["loss_d"].shape == (4,)
    np.testing.assert_allclose(metrics["loss_g"][-1], last["loss_g"], rtol=1e-5)


def test_no_recompilation_after_the_first_call():
    """The second call meets the first one's output as its input: same shardings, same types, nothing new to compile."""
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration, **_: compilations.append(event) if "backend_compile" in event else None
    )
    game, optimizers = dcgan_game(), sgd()
    parallel = Parallel("pmap")
    step = parallel.compile(make_step(game, optimizers, settings()), shared=1)
    state = parallel.replicate(new_state(game, optimizers))
    index, arrays = parallel.split(jnp.arange(BATCH)), parallel.replicate(pictures())
    state, _ = step(state, index, arrays)
    assert compilations
    compilations.clear()
    for _ in range(3):
        state, _ = step(state, index, arrays)
    assert not compilations


def test_the_state_is_donated():
    game, optimizers = mlp_game(), sgd()
    parallel = Parallel("pmap")
    step = parallel.compile(make_step(game, optimizers, settings()), shared=1)
    state = parallel.replicate(new_state(game, optimizers))
    step(state, parallel.split(jnp.arange(BATCH)), parallel.replicate(pictures()))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params_g))


def test_a_schedule_scales_the_step_by_the_images_seen():
    game = mlp_game()
    batch = {"real": jnp.zeros((BATCH, 8, 8, 1)), "index": jnp.arange(BATCH)}
    moved = []
    for schedule, images in (("constant", 0), ("linear_to_zero", 100.0)):
        optimizers = sgd(schedule=schedule, images=images)
        state = new_state(game, optimizers).replace(images=jnp.uint32(75))
        new, _ = make_update(game, optimizers, settings())(state, batch)
        moved.append(ravel_pytree(jax.tree.map(jnp.subtract, new.params_d, state.params_d))[0])
    np.testing.assert_allclose(moved[1], 0.25 * moved[0], rtol=1e-4, atol=1e-7)


def test_ema_decay():
    images, per_update = jnp.uint32(1000), jnp.uint32(64)
    np.testing.assert_allclose(ema_decay(images, per_update, 640.0, 0.0), 0.5**0.1, rtol=1e-6)
    np.testing.assert_allclose(ema_decay(images, per_update, 640.0, 0.05), 0.5 ** (64 / 50), rtol=1e-6)
    assert float(ema_decay(images, per_update, 0.0, 0.0)) == 0.0


def test_equal_keys_give_equal_runs_and_others_do_not():
    game, parallel = mlp_game(), Parallel("jit")
    assert_equal(run(game, settings(), parallel)[0], run(game, settings(), parallel)[0])
    a, b = (new_state(game, sgd(), seed=seed) for seed in (0, 1))
    assert not np.array_equal(ravel_pytree(a.params_g)[0], ravel_pytree(b.params_g)[0])


@pytest.mark.parametrize("name", sorted(ADVERSARIAL))
def test_every_loss_trains(name):
    _, metrics = run(mlp_game(name), settings(), Parallel("jit"), steps=2)
    assert all(np.isfinite(value) for value in metrics.values())
    assert {"loss_d", "loss_g", "accuracy_d", "grad_norm_d", "grad_norm_g", "std_fake", "std_real"} <= set(metrics)
