import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.models import convolution, dcgan


def count(params):
    return sum(p.size for p in jax.tree.leaves(params))


def initialise(module, *shape):
    return jax.jit(lambda key: module.init(key, jnp.zeros(shape), train=False))(jax.random.key(0))


@pytest.mark.parametrize(
    ("shape", "widths", "kernel"),
    [
        ((28, 28, 1), (8, 4), 4),
        ((32, 32, 3), (16, 8, 4), 4),
        ((64, 64, 3), (16, 8, 8, 4), 5),
        ((8, 12, 2), (6, 5), 3),
    ],
)
def test_shapes_and_ranges(shape, widths, kernel):
    generator = dcgan.Generator(shape=shape, widths=widths, kernel=kernel)
    discriminator = dcgan.Discriminator(widths=widths[::-1], kernel=kernel)
    z = jax.random.normal(jax.random.key(1), (3, 10))
    variables = initialise(generator, 3, 10)
    assert set(variables) == {"params", "batch_stats"}
    picture, updated = generator.apply(variables, z, train=True, mutable=["batch_stats"])
    assert picture.shape == (3, *shape)
    assert picture.dtype == jnp.float32
    assert jnp.max(jnp.abs(picture)) < 1.0
    assert jnp.std(picture) > 0.0
    assert set(updated) == {"batch_stats"}
    variables = initialise(discriminator, 3, *shape)
    logits = discriminator.apply(variables, picture, train=False, index=jnp.arange(3))
    assert logits.shape == (3,)
    assert logits.dtype == jnp.float32


def test_parameters_of_the_default_and_of_the_paper():
    """Counted by hand: kernels k*k*in*out, batch norm 2 per channel, biases only in the layers without."""
    default = 100 * 49 * 128 + 16 * 128 * 64 + 16 * 64 + 2 * (128 + 64) + 1
    assert count(initialise(dcgan.Generator(), 1, 100)["params"]) == default
    default_d = 16 * 64 + 64 + 16 * 64 * 128 + 2 * 128 + 49 * 128 + 1
    assert count(initialise(dcgan.Discriminator(), 1, 28, 28, 1)["params"]) == default_d
    paper = dcgan.Generator(shape=(64, 64, 3), widths=(1024, 512, 256, 128), kernel=5)
    params = jax.eval_shape(lambda: paper.init(jax.random.key(0), jnp.zeros((1, 100)), train=False))["params"]
    convolutions = 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
    assert count(params) == 100 * 16 * 1024 + convolutions + 2 * (1024 + 512 + 256 + 128) + 3


def test_initial_statistics():
    for variables in (
        initialise(dcgan.Generator(widths=(64, 32)), 1, 100),
        initialise(dcgan.Discriminator(widths=(32, 64)), 1, 28, 28, 1),
    ):
        for path, value in jax.tree.leaves_with_path(variables["params"]):
            name = path[-1].key
            if name == "bias":
                np.testing.assert_array_equal(value, 0.0)
            else:
                mean = {"kernel": 0.0, "scale": 1.0}[name]
                np.testing.assert_allclose(jnp.mean(value), mean, atol=0.1 / np.sqrt(value.size))
                np.testing.assert_allclose(jnp.std(value), 0.02, atol=0.1 / np.sqrt(value.size))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_generator_against_its_formula(batch_norm):
    """With numpy: dense, batch norm at rest or a bias, ReLU, one transposed convolution pixel by pixel, tanh."""
    generator = dcgan.Generator(shape=(4, 4, 1), widths=(3,), kernel=4, batch_norm=batch_norm)
    variables = initialise(generator, 2, 5)
    assert ("batch_stats" in variables) == batch_norm
    z = np.asarray(jax.random.normal(jax.random.key(1), (2, 5)))
    params = jax.tree.map(np.asarray, variables["params"])
    x = z @ params["Dense_0"]["kernel"]
    if batch_norm:
        x = x.reshape(2, 2, 2, 3) / np.sqrt(1 + 1e-5) * params["BatchNorm_0"]["norm"]["scale"]
    else:
        bias = np.linspace(-0.1, 0.1, 12, dtype=np.float32)
        variables["params"]["Dense_0"]["bias"] = bias
        x = (x + bias).reshape(2, 2, 2, 3)
    x = np.maximum(x, 0.0)
    padded = np.zeros((2, 6, 6, 1))
    for i in range(2):
        for j in range(2):
            contribution = np.einsum("bo,klco->bklc", x[:, i, j], params["ConvTranspose_0"]["kernel"])
            padded[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += contribution
    out = generator.apply(variables, z, train=False)
    np.testing.assert_allclose(out, np.tanh(padded[:, 1:5, 1:5]), atol=1e-6)


def test_training_and_resting_differ_and_statistics_move():
    discriminator = dcgan.Discriminator(widths=(4, 8))
    x = jax.random.normal(jax.random.key(1), (6, 8, 8, 1))
    variables = initialise(discriminator, 6, 8, 8, 1)
    training, updated = discriminator.apply(variables, x, train=True, mutable=["batch_stats"])
    assert not np.allclose(training, discriminator.apply(variables, x, train=False))
    before = variables["batch_stats"]
    jax.tree.map(lambda a, b: np.testing.assert_(not np.allclose(a, b)), updated["batch_stats"], before)


def test_gradient_penalty_is_that_of_the_plain_convolution(monkeypatch):
    discriminator = dcgan.Discriminator(widths=(4, 8))
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    variables = initialise(discriminator, 2, 8, 8, 1)

    def penalty(params):
        def critic(x):
            return jnp.sum(discriminator.apply({**variables, "params": params}, x, train=False))

        return 1e6 * jnp.sum(jax.grad(critic)(x) ** 2)

    ours = jax.jit(jax.grad(penalty))(variables["params"])

    def as_lax(x, kernel, stride):
        return convolution._conv_plain(stride, x.shape[1:3], x, kernel)

    monkeypatch.setattr(convolution, "conv", as_lax)
    plain = jax.jit(jax.grad(penalty))(variables["params"])
    assert jnp.max(jnp.abs(plain["Conv_0"]["kernel"])) > 0.1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, plain)


def test_synchronised_over_devices():
    devices = jax.local_devices()
    if len(devices) < 4:
        pytest.skip("needs four devices, see tests/conftest.py")
    generator = dcgan.Generator(shape=(8, 8, 1), widths=(8, 4))
    variables = initialise(generator, 8, 6)
    z = jax.random.normal(jax.random.key(1), (8, 6)) * jnp.arange(1.0, 9.0)[:, None]

    def apply(z, axis_name=None):
        return generator.clone(axis_name=axis_name).apply(variables, z, train=True, mutable=["batch_stats"])

    whole, stats = apply(z)
    split = jax.pmap(lambda z: apply(z, "batch"), axis_name="batch", devices=devices[:4])
    parts, part_stats = split(z.reshape(4, 2, 6))
    np.testing.assert_allclose(parts.reshape(whole.shape), whole, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[3], b, rtol=1e-4, atol=1e-6), part_stats, stats)


@pytest.mark.parametrize(
    ("size", "widths", "nearest"),
    [
        ((30, 28), (8, 4), "32x28"),
        ((28, 28), (8, 8, 4), "32x32"),
        ((4, 4), (8, 4), "8x8"),
        ((65, 64), (8, 8, 8, 4), "64x64"),
    ],
)
def test_sizes_that_cannot_be_made(size, widths, nearest):
    for module, inputs in (
        (dcgan.Generator(shape=(*size, 1), widths=widths), (2, 10)),
        (dcgan.Discriminator(widths=widths), (2, *size, 1)),
    ):
        with pytest.raises(ConfigError, match=f"multiples of {2 ** len(widths)}.*Nearest is {nearest}"):
            module.init(jax.random.key(0), jnp.zeros(inputs), train=False)


def test_points_are_no_pictures():
    with pytest.raises(ConfigError, match=r"needs pictures.*\(2,\)"):
        dcgan.Discriminator().init(jax.random.key(0), jnp.zeros((4, 2)), train=False)


def test_batch_norm_and_dropout_are_options():
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (6, 8, 8, 1)), jnp.float32)
    bare = dcgan.Discriminator(widths=(4, 8), batch_norm=False)
    variables = bare.init(jax.random.key(0), x, train=True)
    assert set(variables) == {"params"} and "bias" in variables["params"]["Conv_1"]
    dropped = dcgan.Discriminator(widths=(4, 8), batch_norm=False, dropout=0.5)
    key = jax.random.key(1)

    def logits(x, index):
        return dropped.apply(variables, x, train=True, index=index, rngs={"dropout": key})

    whole = logits(x, jnp.arange(6))
    assert not np.allclose(whole, bare.apply(variables, x, train=True))
    np.testing.assert_allclose(logits(x[4:], jnp.array([4, 5])), whole[4:], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(dropped.apply(variables, x, train=False), bare.apply(variables, x, train=False))
