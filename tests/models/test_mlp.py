from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.models import mlp
from tests.small import dense_layers


def initialise(module, *shape):
    return module.init(jax.random.key(0), jnp.zeros(shape), train=False)


def test_the_classic_pair():
    generator, discriminator = mlp.Generator(), mlp.Discriminator()
    variables_g, variables_d = initialise(generator, 1, 100), initialise(discriminator, 1, 28, 28, 1)
    assert set(variables_g) == set(variables_d) == {"params"}
    sizes_g, sizes_d = (100, 256, 512, 1024, 784), (784, 1024, 512, 256, 1)
    for variables, sizes in ((variables_g, sizes_g), (variables_d, sizes_d)):
        expected = sum(a * b + b for a, b in pairwise(sizes))
        assert sum(p.size for p in jax.tree.leaves(variables)) == expected
    z = 10 * jax.random.normal(jax.random.key(1), (5, 100))
    picture = generator.apply(variables_g, z, train=True)
    assert picture.shape == (5, 28, 28, 1)
    assert jnp.max(jnp.abs(picture)) <= 1.0
    logits = discriminator.apply(variables_d, picture, train=False)
    assert logits.shape == (5,)
    assert logits.dtype == jnp.float32


def test_discriminator_against_its_formula():
    discriminator = mlp.Discriminator(hidden=(7, 5))
    x = np.asarray(jax.random.normal(jax.random.key(1), (4, 3, 2, 1)))
    variables = initialise(discriminator, 4, 3, 2, 1)
    params = jax.tree.map(np.asarray, variables["params"])
    h = x.reshape(4, 6)
    for i in range(2):
        h = h @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"]
        h = np.where(h > 0, h, 0.2 * h)
    last = params["judge"]["logit"]
    expected = (h @ last["kernel"] + last["bias"])[:, 0]
    np.testing.assert_allclose(discriminator.apply(variables, x, train=False), expected, rtol=1e-5, atol=1e-6)


def test_points_are_not_bounded():
    generator = mlp.Generator(shape=(2,), hidden=(8,), final_tanh=False, activation="relu")
    points = generator.apply(initialise(generator, 1, 4), 100 * jnp.ones((3, 4)), train=True)
    assert points.shape == (3, 2)
    assert jnp.max(jnp.abs(points)) > 1.0
    discriminator = mlp.Discriminator(hidden=(8,), dropout=0.0)
    assert discriminator.apply(initialise(discriminator, 1, 2), points, train=True).shape == (3,)


def test_batch_norm_is_an_option():
    generator = mlp.Generator(shape=(2,), hidden=(8, 8), batch_norm=True)
    variables = initialise(generator, 4, 3)
    assert set(variables) == {"params", "batch_stats"}
    assert "bias" not in variables["params"]["Dense_0"]
    _, updated = generator.apply(variables, jnp.ones((4, 3)), train=True, mutable=["batch_stats"])
    assert set(updated) == {"batch_stats"}


def test_two_halves_of_a_batch_are_the_whole():
    discriminator = mlp.Discriminator(hidden=(32, 16), dropout=0.5)
    x = jnp.broadcast_to(jax.random.normal(jax.random.key(1), (1, 2)), (6, 2))
    variables = initialise(discriminator, 6, 2)

    def logits(x, index=None):
        return discriminator.apply(variables, x, train=True, index=index, rngs={"dropout": jax.random.key(3)})

    whole = logits(x)
    assert len(np.unique(whole)) == 6  # equal examples, each under a mask of its own
    halves = [logits(x[:3], jnp.arange(3)), logits(x[3:], jnp.arange(3, 6))]
    np.testing.assert_allclose(whole, jnp.concatenate(halves), rtol=1e-6)


def test_maxout_is_the_largest_piece():
    discriminator = mlp.Discriminator(hidden=(3,), maxout=4)
    x = np.asarray(jax.random.normal(jax.random.key(1), (5, 2)))
    variables = initialise(discriminator, 5, 2)
    first, last = dense_layers(variables["params"])
    pieces = [x @ first["kernel"][:, i] + first["bias"][i] for i in range(12)]
    hidden = np.stack([np.max(pieces[4 * unit : 4 * unit + 4], axis=0) for unit in range(3)], axis=1)
    expected = (hidden @ last["kernel"] + last["bias"])[:, 0]
    np.testing.assert_allclose(discriminator.apply(variables, x, train=False), expected, rtol=1e-5, atol=1e-6)


def test_the_spread_of_the_first_kernels_may_be_given():
    for module, shape in ((mlp.Generator(init_std=0.02), (1, 100)), (mlp.Discriminator(init_std=0.02), (1, 28, 28, 1))):
        layers = dense_layers(initialise(module, *shape)["params"])
        assert all(abs(float(layer["kernel"].std()) - 0.02) < 2e-3 and not layer["bias"].any() for layer in layers)


def test_unknown_activation():
    with pytest.raises(ConfigError, match=r"unknown activation 'swich'; known: leaky_relu, relu, tanh"):
        initialise(mlp.Generator(activation="swich"), 1, 4)
