"""What a discriminator says beside real or fake: each term is the library's loss on its head, for both sides."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import losses
from jaxgan.errors import ConfigError
from jaxgan.games import heads
from jaxgan.games.heads import Codes, Said, read_heads
from jaxgan.games.standard import make_game
from jaxgan.models import mlp
from jaxgan.update import create_state, make_update
from tests.small import assert_close, settings, sgd

BATCH, LATENT, CLASSES, SHAPE = 8, 3, 3, (2,)
KEY = jax.random.key(9)
CODES = Codes((3, 2), 2)
LABELS = jnp.array([0, 2, 2, 0, 1, 0, 1, 2])
WEIGHTS = {"ac_gan": (0.7, 0.3), "contragan": (0.5, 0.9), "reacgan": (1.1, 0.6), "info_gan": (0.4, 1.3)}  # D's and G's
OTHER = {
    "ac_gan": {"fake_share": 0.25},
    "contragan": {"temperature": 0.3},
    "reacgan": {"temperature": 0.2, "margin": 0.5},
    "info_gan": {},
}

GENERATOR = mlp.Generator(shape=SHAPE, hidden=(8,), final_tanh=False, classes=CLASSES, init_std=0.5)
DISCRIMINATOR = mlp.Discriminator(
    hidden=(8,),
    dropout=0.0,
    classes=CLASSES,
    heads=("class", "code", "embedding"),
    code_size=CODES.size,
    init_std=0.5,
)


def make(auxiliary, latent_size=LATENT, codes=CODES):
    pair, shares = losses.ADVERSARIAL["wasserstein"], (1 / CLASSES,) * CLASSES
    return make_game(
        GENERATOR, DISCRIMINATOR, pair, latent_size, label_shares=shares, codes=codes, auxiliary=auxiliary
    )


def batch():
    real = np.random.default_rng(0).normal(size=(BATCH, *SHAPE)).astype(np.float32)
    return {"real": jnp.asarray(real), "index": jnp.arange(BATCH), "label": LABELS}


@pytest.fixture(scope="module")
def state():
    return jax.jit(lambda: create_state(make({"info_gan": 1.0}), sgd(), jax.random.key(0), batch()))()


@partial(jax.jit, static_argnums=0)
def both(game, state):
    d = jax.value_and_grad(game.discriminator_loss, has_aux=True)
    g = jax.value_and_grad(game.generator_loss, has_aux=True)
    return (
        d(state.params_d, state.params_g, state.variables, batch(), KEY),
        g(state.params_g, state.params_d, state.variables, batch(), KEY),
    )


def losses_by_hand(params_d, params_g, options):
    """(loss, terms) of D and of G, from the modules alone: the adversarial loss, and the terms without weights."""
    z = make({"info_gan": 1.0}).latents(jax.random.split(jax.random.split(KEY, 3)[0])[0], jnp.arange(BATCH))
    codes = z[:, LATENT:]

    def say(x):
        return DISCRIMINATOR.apply({"params": params_d}, x, LABELS, train=True)

    (r, real), (f, fake) = say(batch()["real"]), say(GENERATOR.apply({"params": params_g}, z, LABELS, train=True))

    def with_options(name, loss):
        return lambda said: loss(said["embedding"], said["proxy"], LABELS, **options.get(name, {})).mean()

    class_of_real, class_of_fake = (losses.ac_gan_loss(said["class"], LABELS).mean() for said in (real, fake))
    contragan = with_options("contragan", losses.conditional_contrastive_loss)
    reacgan = with_options("reacgan", losses.data_to_data_cross_entropy_loss)
    answer = fake["code"]
    first, second = (jax.nn.log_softmax(part) for part in (answer[:, :3], answer[:, 3:5]))
    one_hot = jnp.sum(first * codes[:, :3], axis=1) + jnp.sum(second * codes[:, 3:5], axis=1)
    gaussian = jax.scipy.stats.norm.logpdf(codes[:, 5:], loc=answer[:, 5:]).sum(axis=1)
    info_gan = -jnp.mean(one_hot + gaussian)
    share = options.get("ac_gan", {}).get("fake_share", 1.0)
    terms_d = {
        "ac_gan": class_of_real + share * class_of_fake,
        "contragan": contragan(real),
        "reacgan": reacgan(real),
        "info_gan": info_gan,
    }
    terms_g = {"ac_gan": class_of_fake, "contragan": contragan(fake), "reacgan": reacgan(fake), "info_gan": info_gan}
    return (f.mean() - r.mean(), terms_d), (-f.mean(), terms_g)


@partial(jax.jit, static_argnums=(0, 1))
def by_hand(with_options, weights, params_d, params_g):
    """For each side: adversarial loss, terms, the weighted total, its gradient, and each term's own gradient."""
    found = []
    for side in (0, 1):

        def total(params, side=side):
            given = (params, params_g) if side == 0 else (params_d, params)
            adversarial, terms = losses_by_hand(*given, OTHER if with_options else {})[side]
            weighted = sum(pair[side] * terms[name] for name, pair in weights)
            return adversarial + weighted, (adversarial, terms)

        own = (params_d, params_g)[side]
        (value, (adversarial, terms)), grads = jax.value_and_grad(total, has_aux=True)(own)
        found.append((adversarial, terms, value, grads, jax.jacrev(lambda p, f=total: f(p)[1][1])(own)))
    return found


@pytest.mark.parametrize("with_options", [False, True], ids=["default", "other"])
def test_terms_are_the_library_s_losses_with_their_side_s_weights(with_options, state):
    game = make(
        {
            name: {"weight": d, "generator_weight": g, **(OTHER[name] if with_options else {})}
            for name, (d, g) in WEIGHTS.items()
        }
    )
    expected = by_hand(with_options, tuple(WEIGHTS.items()), state.params_d, state.params_g)
    for side, found in enumerate(both(game, state)):
        (value, aux), grads = found
        adversarial, terms, total, expected_grads, of_terms = expected[side]
        letter = "dg"[side]
        np.testing.assert_allclose(aux.metrics[f"loss_{letter}"], adversarial, rtol=1e-4, atol=1e-6)
        for name, term in terms.items():
            np.testing.assert_allclose(aux.metrics[f"{name}_{letter}"], term, rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(value, total, rtol=1e-4)
        assert_close(grads, expected_grads, rtol=1e-3)
        for name in terms:  # what each of them adds to the gradient is no rounding error
            assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(of_terms[name])) > 0.01, name


def test_the_generator_s_weight_is_the_discriminator_s_unless_it_is_given():
    assert read_heads({"ac_gan": 2}, has_labels=True, codes=Codes())[0][1:3] == (2.0, 2.0)
    assert read_heads({"ac_gan": {"generator_weight": 0.1}}, has_labels=True, codes=Codes())[0][1:3] == (1.0, 0.1)
    assert read_heads({"ac_gan": {"weight": 0.0, "generator_weight": 1}}, has_labels=True, codes=Codes())[0][1:3] == (
        0.0,
        1.0,
    )
    (head,) = read_heads({"reacgan": {"margin": 0.5}}, has_labels=True, codes=Codes())
    assert head.options == {"temperature": 0.5, "margin": 0.5}


def test_a_side_of_weight_0_learns_nothing_from_its_head(state):
    (_, grads_d), ((value_g, aux), grads_g) = both(make({"ac_gan": {"weight": 1.0, "generator_weight": 0.0}}), state)
    assert float(value_g) == float(aux.metrics["loss_g"]) != 0.0 and float(aux.metrics["ac_gan_g"]) > 0.0
    assert np.any(grads_d["judge"]["class"]["kernel"])
    assert_close(grads_g, by_hand(False, (), state.params_d, state.params_g)[1][3], rtol=1e-3)


def test_several_heads_add_up():
    outputs = {
        "class": jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, CLASSES)), jnp.float32),
        "code": jnp.asarray(np.random.default_rng(1).normal(size=(BATCH, CODES.size)), jnp.float32),
    }
    codes = jax.vmap(CODES.draw)(jax.random.split(KEY, BATCH))
    said = Said({k: v + 1 for k, v in outputs.items()}, outputs, LABELS, codes)
    given = {"ac_gan": 2.0, "info_gan": {"weight": 3.0, "generator_weight": 5.0}}
    found = read_heads(given, has_labels=True, codes=CODES)
    for side, weights in (("discriminator", (2.0, 3.0)), ("generator", (2.0, 5.0))):
        total, metrics = heads.evaluate(found, side, said, CODES)
        names = [f"ac_gan_{side[0]}", f"info_gan_{side[0]}"]
        assert list(metrics) == names
        np.testing.assert_allclose(total, sum(w * metrics[n] for w, n in zip(weights, names, strict=True)), rtol=1e-6)


def test_codes_stand_at_the_latent_s_end():
    game = make({"info_gan": 1.0})
    latents = jax.jit(game.latents)
    z = np.asarray(latents(KEY, jnp.arange(3000)))
    assert z.shape == (3000, LATENT + CODES.size) and CODES.size == 7
    np.testing.assert_array_equal(z[[2999, 5]], latents(KEY, jnp.array([2999, 5])))
    first, second, continuous = z[:, LATENT : LATENT + 3], z[:, LATENT + 3 : LATENT + 5], z[:, LATENT + 5 :]
    for one_hot, n in ((first, 3), (second, 2)):
        assert set(np.unique(one_hot)) == {0.0, 1.0} and np.all(one_hot.sum(axis=1) == 1.0)
        expected = 3000 / n
        assert np.sum((one_hot.sum(axis=0) - expected) ** 2 / expected) < 13.8  # 99.9% at 2 degrees of freedom
    assert -1.0 <= continuous.min() < -0.99 and 0.99 < continuous.max() <= 1.0
    np.testing.assert_allclose(continuous.std(axis=0), 1 / np.sqrt(3), rtol=0.03)
    correlations = np.corrcoef(np.delete(z, [LATENT + 2, LATENT + 4], axis=1).T)  # one-hot parts are one number short
    expected = np.eye(len(correlations))
    expected[LATENT, LATENT + 1] = expected[LATENT + 1, LATENT] = -0.5  # of one categorical code
    np.testing.assert_allclose(correlations, expected, atol=0.08)
    np.testing.assert_allclose([z[:, :LATENT].mean(), z[:, :LATENT].std()], [0.0, 1.0], atol=0.03)


def test_codes_of_one_kind_alone():
    assert Codes().size == 0
    assert set(np.asarray(Codes((4,)).draw(KEY)).tolist()) == {0.0, 1.0}
    assert Codes((), 3).draw(KEY).shape == (3,)
    answer, codes = jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 1.0]])
    np.testing.assert_allclose(Codes((2,)).loss(answer, codes), np.log(1 + np.exp(-1.0)), rtol=1e-6)
    np.testing.assert_allclose(Codes((), 2).loss(answer, codes), [1.0 + np.log(2 * np.pi)], rtol=1e-6)


def test_the_codes_of_a_shared_pass_are_not_known(state):
    game = make({"info_gan": 1.0})
    with pytest.raises(ConfigError, match=r"codes of a shared pass are not known.*set config\.share_fake=False"):
        jax.eval_shape(make_update(game, sgd(), settings(share_fake=True)), state, batch())
    _, metrics = jax.eval_shape(make_update(game, sgd(), settings(share_fake=False)), state, batch())
    assert {"info_gan_d", "info_gan_g"} <= set(metrics)


def test_labels_of_a_shared_pass_are_known(state):
    game = make({"ac_gan": 1.0}, latent_size=LATENT + CODES.size, codes=Codes())
    new, metrics = jax.jit(make_update(game, sgd(), settings(share_fake=True)))(state, batch())
    assert metrics["ac_gan_d"] > 0.0 and metrics["ac_gan_g"] > 0.0
    assert np.any(new.params_d["judge"]["class"]["kernel"] != state.params_d["judge"]["class"]["kernel"])


def test_weight_0_is_no_head():
    assert read_heads(dict.fromkeys(heads.TERMS, 0.0), has_labels=False, codes=Codes()) == ()
    assert read_heads({"ac_gan": {"weight": 0.0}}, has_labels=False, codes=Codes()) == ()


@pytest.mark.parametrize(
    "given, words",
    [
        ({"acgan": 1.0}, r"unknown head 'acgan' in config\.loss\.auxiliary; known: ac_gan, contragan, .*info_gan"),
        ({"ac_gan": {"share": 1.0}}, r"auxiliary\.ac_gan has no share; it takes weight, generator_weight, fake_share"),
        ({"reacgan": {"t": 1, "m": 1}}, r"reacgan has no m, t; it takes weight, generator_weight, temperature, margin"),
        ({"ac_gan": -1.0}, r"auxiliary\.ac_gan: weights must be 0 or more, not -1\.0 and -1\.0"),
        ({"ac_gan": {"generator_weight": -0.5}}, r"weights must be 0 or more, not 1\.0 and -0\.5"),
        ({"info_gan": 1.0}, r"auxiliary\.info_gan reads codes back, but config\.game\.codes has none"),
    ],
)
def test_mistakes_are_named(given, words):
    with pytest.raises(ConfigError, match=words):
        read_heads(given, has_labels=True, codes=Codes())


@pytest.mark.parametrize("name", ["ac_gan", "contragan", "reacgan"])
def test_a_head_of_labels_needs_labels(name):
    with pytest.raises(ConfigError, match=rf"auxiliary\.{name} is of labels; set config\.game\.conditional=True"):
        read_heads({name: 1.0}, has_labels=False, codes=CODES)
