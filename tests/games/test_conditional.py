"""Labels in a game: who is told them, how they are drawn, truncation, and that none of it knows its devices."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.games.augmentation import Augmentation
from jaxgan.games.heads import Codes
from jaxgan.games.standard import make_game
from jaxgan.losses import ADVERSARIAL
from jaxgan.models import dcgan, mlp
from jaxgan.parallel import Parallel
from jaxgan.update import create_state, make_update
from tests.small import SHAPE, assert_close, make_step, settings, sgd

BATCH, LATENT, CLASSES = 8, 4, 4
KEY = jax.random.key(21)
SHARES = (0.5, 0.3, 0.15, 0.05)
LABELS = np.array([0, 2, 2, 0, 2, 0, 0, 2], np.int32)  # 1 and 3 are missing


def make(model="mlp", loss="wasserstein", told_d=None, shares=SHARES, **options):
    if model == "mlp":
        told = {"hidden": (8,), "dropout": 0.0, "classes": CLASSES, **(told_d or {})}
        networks = mlp.Generator(shape=SHAPE, hidden=(8,), classes=CLASSES), mlp.Discriminator(**told)
    else:
        told = {"widths": (4, 8), "batch_norm": False, "classes": CLASSES, **(told_d or {})}
        networks = dcgan.Generator(shape=SHAPE, widths=(8, 4), classes=CLASSES), dcgan.Discriminator(**told)
    return make_game(*networks, ADVERSARIAL[loss], LATENT, label_shares=shares, **options)


def start(game, optimizers=None):
    example = {"real": jnp.zeros((2, *SHAPE)), "index": jnp.arange(2), "label": jnp.zeros(2, jnp.int32)}
    return jax.jit(lambda: create_state(game, optimizers or sgd(), jax.random.key(0), example))()


def batch(label=LABELS, seed=0):
    real = np.random.default_rng(seed).uniform(-1, 1, (BATCH, *SHAPE)).astype(np.float32)
    return {"real": jnp.asarray(real), "index": jnp.arange(BATCH), "label": jnp.asarray(label)}


@partial(jax.jit, static_argnums=0)
def both(game, state, batch):
    """Both losses with what came with them, and their gradients."""
    variables = {**state.variables, "adaptive": state.adaptive}
    d = jax.value_and_grad(game.discriminator_loss, has_aux=True)
    g = jax.value_and_grad(game.generator_loss, has_aux=True)
    d = d(state.params_d, state.params_g, variables, batch, KEY)
    return d, g(state.params_g, state.params_d, variables, batch, KEY)


CONCATENATED, PROJECTED = make(), make(told_d={"projection": True, "concatenate": False})
STATES = {id(game): start(game) for game in (CONCATENATED, PROJECTED)}


def dense(layer, x):
    return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])


def hidden(layer, x):
    x = dense(layer, x)
    return np.where(x > 0, x, 0.2 * x)


def fakes_by_hand(game, label):
    """The generator's pass of the loss under KEY, with one-hot labels beside the latents."""
    params = STATES[id(game)].params_g
    z = np.asarray(game.latents(jax.random.split(jax.random.split(KEY, 3)[0])[0], jnp.arange(BATCH)))
    x = np.concatenate([z, np.eye(CLASSES)[label]], axis=1)
    return np.tanh(dense(params["Dense_1"], hidden(params["Dense_0"], x)))


def test_the_batch_s_labels_reach_both_networks():
    state = STATES[id(CONCATENATED)]
    for label in (LABELS, np.array([3, 2, 1, 0, 1, 3, 0, 2])):
        fake, real = fakes_by_hand(CONCATENATED, label), np.asarray(batch()["real"]).reshape(BATCH, -1)
        seen = [np.concatenate([x, np.eye(CLASSES)[label]], axis=1) for x in (real, fake)]
        r, f = (dense(state.params_d["judge"]["logit"], hidden(state.params_d["Dense_0"], x)) for x in seen)
        ((loss_d, aux_d), _), ((loss_g, _), _) = both(CONCATENATED, state, batch(label))
        np.testing.assert_allclose(aux_d.metrics["logits_real"], r.mean(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(aux_d.metrics["logits_fake"], f.mean(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose([loss_d, loss_g], [f.mean() - r.mean(), -f.mean()], rtol=1e-4, atol=1e-6)


def test_a_changed_label_changes_the_sample_that_has_it_and_no_other():
    state = STATES[id(CONCATENATED)]
    generate = jax.jit(CONCATENATED.generate)
    other = LABELS.copy()
    other[3] = 1
    before, after = (
        np.asarray(generate(state.params_g, state.variables, batch(label), KEY)[0]) for label in (LABELS, other)
    )
    differs = np.abs(before - after).reshape(BATCH, -1).max(axis=1) > 1e-4
    np.testing.assert_array_equal(differs, np.arange(BATCH) == 3)


def test_a_projection_s_gradient_touches_the_rows_of_the_labels_present():
    """Of mean(f - r) with logits w.h + b + e_y.h the gradient in e_y is the sum over its examples of h_f - h_r."""
    state = STATES[id(PROJECTED)]
    real, fake = np.asarray(batch()["real"]).reshape(BATCH, -1), fakes_by_hand(PROJECTED, LABELS)
    h_r, h_f = (hidden(state.params_d["Dense_0"], x) for x in (real, fake))
    ((_, _), grads), _ = both(PROJECTED, state, batch())
    expected = np.eye(CLASSES)[LABELS].T @ (h_f - h_r) / BATCH
    found = np.asarray(grads["judge"]["projection"]["embedding"])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(np.abs(found).max(axis=1) > 0, [True, False, True, False])


def test_the_generator_s_weights_of_labels_that_are_missing_get_no_gradient():
    _, ((_, _), grads) = both(CONCATENATED, STATES[id(CONCATENATED)], batch())
    rows = np.abs(grads["Dense_0"]["kernel"][LATENT:]).max(axis=1)
    np.testing.assert_array_equal(rows > 0, [True, False, True, False])


@pytest.mark.parametrize("share_fake", [True, False])
def test_an_update_learns_from_the_labels_of_the_data(share_fake):
    """One data set twice, once with all labels moved on by one: the same latents and pictures, other networks."""
    step = jax.jit(make_step(PROJECTED, sgd(), settings(share_fake=share_fake)))
    real = np.random.default_rng(0).integers(0, 256, (40, *SHAPE), dtype=np.uint8)
    state, embeddings, firsts = STATES[id(PROJECTED)], [], []
    for label in (0, 1):
        new, _ = step(state, jnp.arange(BATCH), {"real": real, "label": np.full(40, label, np.int32)})
        embeddings.append(np.subtract(*(s.params_d["judge"]["projection"]["embedding"] for s in (new, state))))
        firsts.append(np.subtract(*(s.params_g["Dense_0"]["kernel"][LATENT:] for s in (new, state))))
    for moved in (embeddings, firsts):
        for label in (0, 1):
            np.testing.assert_array_equal(np.abs(moved[label]).max(axis=1) > 0, np.arange(CLASSES) == label)


@pytest.mark.parametrize("told", [{"projection": True}, {"projection": False, "heads": ("class",)}])
def test_labels_reach_a_dcgan(told):
    options = {} if told["projection"] else {"auxiliary": {"ac_gan": 1.0}}
    game = make("dcgan", told_d=told, **options)
    state = start(game)
    ((_, aux), _), ((loss_g, _), _) = both(game, state, batch())
    ((_, other), _), ((other_g, _), _) = both(game, state, batch(np.full(BATCH, 3)))
    assert abs(aux.metrics["logits_fake"] - other.metrics["logits_fake"]) > 1e-6 and abs(loss_g - other_g) > 1e-6
    if told["projection"]:
        assert abs(aux.metrics["logits_real"] - other.metrics["logits_real"]) > 1e-6
    else:
        assert aux.metrics["logits_real"] == other.metrics["logits_real"]
        assert abs(aux.metrics["ac_gan_d"] - other.metrics["ac_gan_d"]) > 1e-6


def test_labels_are_drawn_as_the_data_has_them():
    n = 5000
    labels = np.asarray(jax.jit(CONCATENATED.conditions)(KEY, jnp.arange(n)))
    counts = np.bincount(labels, minlength=CLASSES)

    def chi_square(shares):
        expected = n * np.asarray(shares)
        return np.sum((counts - expected) ** 2 / expected)

    assert len(counts) == CLASSES and chi_square(SHARES) < 16.3  # the 99.9th percentile at 3 degrees of freedom
    assert chi_square([0.25] * 4) > 1000  # the test can tell


def test_a_label_belongs_to_its_key_and_number():
    draw = jax.jit(CONCATENATED.conditions)
    labels = draw(KEY, jnp.arange(300))
    some = jnp.array([7, 299, 0, 7])
    np.testing.assert_array_equal(draw(KEY, some), labels[some])
    assert np.mean(np.asarray(draw(jax.random.key(1), jnp.arange(300)) != labels)) > 0.4


def test_a_class_without_examples_is_never_drawn():
    game = make(shares=(0.5, 0.0, 0.5, 0.0))
    assert set(np.asarray(game.conditions(KEY, jnp.arange(500))).tolist()) == {0, 2}


def test_a_game_without_labels_has_no_conditions():
    networks = mlp.Generator(shape=(2,), hidden=(4,)), mlp.Discriminator(hidden=(4,))
    game = make_game(*networks, ADVERSARIAL["hinge"], LATENT)
    assert game.conditions is None
    state = start(make())
    with pytest.raises(ValueError, match="this game is unconditional: it takes no condition"):
        game.decode(state.params_g, state.variables, jnp.zeros((2, LATENT)), jnp.zeros(2, jnp.int32))


def test_decoding_needs_a_label_for_each_latent():
    state = STATES[id(CONCATENATED)]
    with pytest.raises(ValueError, match="it needs a label for each latent"):
        CONCATENATED.decode(state.params_g, state.variables, jnp.zeros((2, LATENT)))


class Tell(nn.Module):
    """Gives back its latent and, after it, its label."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, z, label, *, train, index=None):
        shift = self.param("shift", nn.initializers.zeros, ())
        return jnp.concatenate([z, label[:, None].astype(z.dtype)], axis=1) + shift


def tell():
    judge = mlp.Discriminator(hidden=(4,), dropout=0.0, classes=CLASSES)
    return make_game(Tell(), judge, ADVERSARIAL["hinge"], LATENT, label_shares=(0.25,) * 4)


def test_samples_have_the_labels_that_were_asked_for_or_such_as_the_data_has():
    game = tell()
    params, variables = {"shift": jnp.float32(0.0)}, {"generator": {}}
    asked = game.sample(params, variables, KEY, 5, jnp.array([3, 1, 1, 0, 2]))
    np.testing.assert_array_equal(asked[:, -1], [3, 1, 1, 0, 2])
    np.testing.assert_array_equal(asked[:, :LATENT], game.latents(KEY, jnp.arange(5)))
    drawn = np.asarray(game.sample(params, variables, KEY, 400))[:, -1]
    counts = np.bincount(drawn.astype(int), minlength=CLASSES)
    assert np.sum((counts - 100.0) ** 2 / 100.0) < 16.3
    np.testing.assert_array_equal(game.sample(params, variables, KEY, 7)[:, -1], drawn[:7])


def test_a_sample_s_label_says_nothing_about_its_latent():
    """Both are drawn from the same key and number, but not from the same bits."""
    game = tell()
    drawn = np.asarray(game.sample({"shift": jnp.float32(0.0)}, {"generator": {}}, KEY, 2000))
    z, label = drawn[:, :LATENT], drawn[:, -1].astype(int)
    means = np.stack([z[label == y].mean(axis=0) for y in range(CLASSES)])
    assert np.abs(means).max() < 0.2  # of some 500 draws from N(0, 1): 0.045 is one standard error


def test_packs_take_no_labels():
    with pytest.raises(ConfigError, match="takes no labels: packing must be 1 in a conditional game"):
        make(packing=2)


DEVICES = {
    "mlp_ada": {
        "model": "mlp",
        "told_d": {"projection": True, "dropout": 0.2, "heads": ("class", "embedding")},
        "auxiliary": {"ac_gan": 0.5, "contragan": {"weight": 1.0, "generator_weight": 0.5}},
        # The first update brings p from 0 to 1/2, so the second one is augmented.
        "augmentation": Augmentation(
            "ada", multipliers={"xint": 1, "brightness": 1}, target=-2.0, speed=16.0, every=1
        ),
        "penalties": {"r2": 0.1},
    },
    "dcgan_diff_augment": {
        "model": "dcgan",
        "loss": "relativistic_average",
        "told_d": {"heads": ("class", "code"), "code_size": 5},
        "auxiliary": {"ac_gan": 1.0, "info_gan": 1.0},
        "codes": Codes((3,), 2),
        "augmentation": Augmentation("diff_augment", policy=("color", "translation", "cutout")),
    },
}


@pytest.mark.parametrize("name", ["mlp_ada", pytest.param("dcgan_diff_augment", marks=pytest.mark.slow)])
def test_one_device_equals_four(name):
    game, optimizers = make(**DEVICES[name]), sgd(learning_rate=0.01)
    generator = np.random.default_rng(0)
    real = generator.integers(0, 256, (40, *SHAPE), dtype=np.uint8)
    arrays = {"real": real, "label": generator.integers(0, CLASSES, 40).astype(np.int32)}

    def run(parallel):
        step = parallel.compile(make_step(game, optimizers, settings()), shared=1)
        state = parallel.replicate(start(game, optimizers))
        for _ in range(2):
            state, metrics = step(state, parallel.split(jnp.arange(BATCH)), parallel.replicate(arrays))
        return state, metrics

    one, metrics_one = run(Parallel("jit"))
    four, metrics_four = run(Parallel("pmap", jax.devices()[:4]))
    assert_close(one, four)
    assert_close(metrics_one, metrics_four)
    assert {f"{head}_{side}" for head in DEVICES[name]["auxiliary"] for side in "dg"} <= set(metrics_one)
    if "ada" in name:
        assert float(metrics_one["augment_p"]) == 0.5 and float(one.adaptive["augment"].p) == 1.0


def test_labels_stay_with_their_examples_over_several_steps_of_the_discriminator():
    """Two D steps see the labels of their own examples: entry 2 b + k of the batch is example b of step k."""
    game = PROJECTED
    update = jax.jit(make_update(game, sgd(), settings(d_steps=2)))
    double = {name: jnp.concatenate([x, x]) for name, x in batch().items()} | {"index": jnp.arange(2 * BATCH)}
    label = np.tile(np.array([1, 3], np.int32), BATCH)  # the last step sees 3 alone
    state = STATES[id(game)]
    new, _ = update(state, {**double, "label": jnp.asarray(label)})
    moved = np.abs(new.params_g["Dense_0"]["kernel"] - state.params_g["Dense_0"]["kernel"])[LATENT:].max(axis=1)
    np.testing.assert_array_equal(moved > 0, [False, False, False, True])
    rows = np.abs(np.subtract(*(s.params_d["judge"]["projection"]["embedding"] for s in (new, state)))).max(axis=1)
    np.testing.assert_array_equal(rows > 0, [False, True, False, True])


def test_truncation_bounds_the_latents():
    z = np.asarray(CONCATENATED.latents(KEY, jnp.arange(2000), 1.0))
    assert 0.95 < np.abs(z).max() <= 1.0
    # Var of N(0, 1) in [-1, 1]: 1 - 2 phi(1) / (2 Phi(1) - 1).
    np.testing.assert_allclose(z.std(), np.sqrt(1 - 2 * 0.2419707 / 0.6826895), rtol=0.02)
    np.testing.assert_array_equal(CONCATENATED.latents(KEY, jnp.array([1999, 3]), 1.0), z[[1999, 3]])
    assert np.abs(np.asarray(CONCATENATED.latents(KEY, jnp.arange(2000)))).max() > 2.5


def test_codes_are_not_truncated():
    game = make(told_d={"heads": ("code",), "code_size": 4}, codes=Codes((2,), 2), auxiliary={"info_gan": 1.0})
    latents = jax.jit(game.latents)
    whole, cut = (np.asarray(latents(KEY, jnp.arange(200), bound)) for bound in (None, 0.5))
    assert np.abs(cut[:, :LATENT]).max() <= 0.5 < np.abs(whole[:, :LATENT]).max()
    np.testing.assert_array_equal(cut[:, LATENT:], whole[:, LATENT:])


class Styled(nn.Module):
    """w = W [z, y], x = 2 w + 1; remembers a mean of w."""

    axis_name: str | None = None

    def setup(self):
        self.dense = nn.Dense(2, use_bias=False)
        self.mean = self.variable("w_mean", "mean", lambda: jnp.zeros(2))
        self.scale = self.param("kernel", nn.initializers.constant(2.0), (1, 1))

    def __call__(self, z, label, *, train, index=None):
        return self.synthesis(self.mapping(z, label, train=train), train=train)

    def mapping(self, z, label, *, train):
        return self.dense(jnp.concatenate([z, jax.nn.one_hot(label, CLASSES)], axis=1))

    def synthesis(self, w, *, train):
        return self.scale * w + 1.0


@pytest.mark.parametrize("spectral_norm", [(), ("generator",)])
def test_truncation_of_styles_goes_towards_their_mean(spectral_norm):
    judge = mlp.Discriminator(hidden=(4,), dropout=0.0, classes=CLASSES)
    game = make_game(
        Styled(), judge, ADVERSARIAL["hinge"], LATENT, label_shares=SHARES, spectral_norm=spectral_norm
    )
    example = {"real": jnp.zeros((2, 2)), "index": jnp.arange(2), "label": jnp.zeros(2, jnp.int32)}
    params, _, variables = jax.jit(game.init)(jax.random.key(0), example)
    mean = np.array([5.0, -3.0])
    variables["generator"]["w_mean"] = {"mean": jnp.asarray(mean, jnp.float32)}
    index, label = jnp.arange(6), jnp.array([0, 1, 2, 3, 0, 1])
    latents = jax.jit(game.latents)
    z = latents(KEY, index, 0.5)
    np.testing.assert_array_equal(z, latents(KEY, index))  # it is the styles that are truncated
    kernel, scale = np.asarray(params["dense"]["kernel"]), 2.0
    if spectral_norm:
        kernel, scale = kernel / np.linalg.svd(kernel, compute_uv=False)[0], 1.0
    w = np.concatenate([z, np.eye(CLASSES)[label]], axis=1) @ kernel
    decode = jax.jit(game.decode)
    for truncation in (0.0, 0.5, 1.0):
        expected = scale * (mean + truncation * (w - mean)) + 1.0
        found = decode(params, variables, z, label, truncation)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(decode(params, variables, z, label), scale * w + 1.0, rtol=1e-3, atol=1e-3)
