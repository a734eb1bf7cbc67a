from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.losses import r1_penalty
from jaxgan.models import biggan

# Compiling takes longer than computing here.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
LABEL = jnp.array([0, 2, 1, 2], jnp.int32)
GENERATOR = {"shape": (16, 8, 3), "widths": (8, 12, 6), "attention": 8, "shared_size": 5}
DISCRIMINATOR = {"widths": (6, 9, 9), "downsampled": 1, "attention": 8}


def count(module, *shape, classes=True):
    """Parameters, without making them."""
    label = jnp.zeros(shape[0], jnp.int32) if classes else None
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(shape), label, train=True))
    return sum(p.size for p in jax.tree.leaves(variables["params"]))


def filled(module, x, label=None):
    """Variables of this network with numbers from NumPy, none of them at its initial 0 or 1.

    Drawing them with JAX would take most of this file's time, for it compiles a generator of numbers for each shape.
    """
    rng = np.random.default_rng(5)

    def fill(path, leaf):
        name, noise = path[-1].key, rng.normal(size=leaf.shape).astype(np.float32)
        if name in ("kernel", "embedding"):
            return noise / np.sqrt(np.prod(leaf.shape[:-1]))
        return np.abs(noise) + 0.5 if name == "var" else 0.3 * noise + (name == "scale")

    return jax.tree.map_with_path(fill, jax.eval_shape(lambda: module.init(jax.random.key(0), x, label, train=False)))


def assert_orthogonal(module, x, label=None):
    """At the start all kernels and embeddings are, flattened to [inputs, outputs]; the rest is 0 or 1."""
    params = jit(lambda key: module.init(key, x, label, train=False)["params"])(jax.random.key(0))
    for path, value in jax.tree.leaves_with_path(params):
        name = path[-1].key
        if name in ("kernel", "embedding"):
            matrix = np.asarray(value).reshape(-1, value.shape[-1])
            matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
            np.testing.assert_allclose(matrix.T @ matrix, np.eye(matrix.shape[1]), atol=1e-5, err_msg=str(path))
        else:
            np.testing.assert_array_equal(value, {"bias": 0.0, "gamma": 0.0, "scale": 1.0}[name], err_msg=str(path))


class Reference:
    """The parts in PyTorch: NCHW, float64, from a tree of our params."""

    def __init__(self, params):
        self.torch = pytest.importorskip("torch")
        self.params = jax.tree.map(lambda p: self.torch.tensor(np.asarray(p, np.float64), requires_grad=True), params)

    def tensor(self, x, **kwargs):
        return self.torch.tensor(np.moveaxis(np.asarray(x, np.float64), -1, 1), **kwargs)

    def conv(self, p, x):
        kernel = p["kernel"] if p["kernel"].ndim == 4 else p["kernel"][None, None]
        padding = kernel.shape[0] // 2
        return self.torch.nn.functional.conv2d(x, kernel.permute(3, 2, 0, 1), p.get("bias"), padding=padding)

    def norm(self, p, x, condition=None):
        centred = x - x.mean((0, 2, 3), keepdim=True)
        x = centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-4).sqrt()
        if condition is None:
            return self.torch.einsum("nchw,c->nchw", x, p["norm"]["scale"]) + p["norm"]["bias"][:, None, None]
        scale, bias = (condition @ p["Modulation_0"][name]["kernel"] for name in ("scale", "bias"))
        return x * (1 + scale)[..., None, None] + bias[..., None, None]

    def attention(self, p, x):
        functional = self.torch.nn.functional
        query, key, value = (self.conv(p[name], x) for name in ("query", "key", "value"))
        key, value = (functional.max_pool2d(part, 2).flatten(2) for part in (key, value))
        weights = functional.softmax(query.flatten(2).transpose(1, 2) @ key, dim=-1)
        seen = (weights @ value.transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])
        return x + p["gamma"] * self.conv(p["output"], seen)

    def double(self, x):
        return self.torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")

    def halve(self, x):
        return self.torch.nn.functional.avg_pool2d(x, 2)

    def first(self, z, size):
        p = self.params["first"]
        return (z @ p["kernel"] + p["bias"]).unflatten(1, (*size, -1)).permute(0, 3, 1, 2)

    def last(self, x):
        x = self.norm(self.params["last_norm"], x).relu()
        return self.conv(self.params["last"], x).tanh().permute(0, 2, 3, 1)

    def judge(self, x, label):
        p, h = self.params["judge"], x.relu().sum((2, 3))
        logits = (h @ p["logit"]["kernel"] + p["logit"]["bias"])[:, 0]
        return logits + (p["projection"]["embedding"][np.array(label)] * h).sum(1)

    def embed(self, label):
        return self.params["shared"]["embedding"][np.array(label)]


class BigGAN(Reference):
    def generate(self, z, label=None, hierarchical=True):
        z = self.torch.tensor(np.asarray(z, np.float64))
        conditions = [None if label is None else self.embed(label)] * 2
        if hierarchical:
            z, *chunks = z.chunk(3, dim=1)
            given = [[] if c is None else [c] for c in conditions]
            conditions = [self.torch.cat([*c, chunk], 1) for c, chunk in zip(given, chunks, strict=True)]
        x = self.up(self.params["block0"], self.first(z, (4, 2)), conditions[0])
        x = self.attention(self.params["attention"], x)
        return self.last(self.up(self.params["block1"], x, conditions[1]))

    def up(self, p, x, condition):
        h = self.double(self.norm(p["norm1"], x, condition).relu())
        h = self.norm(p["norm2"], self.conv(p["conv1"], h), condition).relu()
        return self.conv(p["conv2"], h) + self.conv(p["skip"], self.double(x))

    def discriminate(self, x, label):
        p = self.params["block0"]
        h = self.halve(self.conv(p["conv2"], self.conv(p["conv1"], x).relu()))
        h = self.attention(self.params["attention"], h + self.halve(self.conv(p["skip"], x)))
        p = self.params["block1"]
        h = self.conv(p["conv2"], self.conv(p["conv1"], h.relu()).relu()) + self.conv(p["skip"], h)
        p = self.params["block2"]
        h = h + self.conv(p["conv2"], self.conv(p["conv1"], h.relu()).relu())
        return self.judge(h, label)


def assert_discriminator_and_its_penalty_are(reference_type, module, x):
    """Logits, and the derivatives of the mean of logits**2 + R1 in every parameter."""
    params = filled(module, x, LABEL)["params"]

    @jit
    @partial(jax.grad, has_aux=True)
    def ours(params):
        def critic(x):
            return module.apply({"params": params}, x, LABEL, train=True)

        logits = critic(x)
        return jnp.mean(logits**2 + r1_penalty(critic, x)), logits

    gradients, logits = ours(params)
    assert logits.shape == (4,) and logits.dtype == jnp.float32
    reference = reference_type(params)
    theirs_x = reference.tensor(x, requires_grad=True)
    theirs = reference.discriminate(theirs_x, LABEL)
    (slope,) = reference.torch.autograd.grad(theirs.sum(), theirs_x, create_graph=True)
    ((theirs**2).mean() + 0.5 * slope.square().sum() / 4).backward()
    np.testing.assert_allclose(logits, theirs.detach().numpy(), rtol=1e-5, atol=1e-5)

    assert_gradients_are(reference, gradients)


def assert_gradients_are(reference, gradients):
    """Those that PyTorch has left in the parameters, to float32's rounding."""
    expected = jax.tree.map(lambda p: np.zeros(p.shape) if p.grad is None else p.grad.numpy(), reference.params)
    # A bias in front of a batch norm has gradient 0, and what rounding leaves of that is as large as other gradients'.
    least = 0.01 * max(np.abs(g).max() for g in jax.tree.leaves(expected))

    def compare(path, ours, theirs):
        scale = max(np.abs(theirs).max(), least)
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=3e-5, err_msg=str(path))

    jax.tree.map_with_path(compare, gradients, expected)


def assert_generator_and_its_gradients_are(reference, theirs, module, variables, z, label):
    """A training pass, and the derivatives of a sum over its pixels."""
    weights = np.random.default_rng(6).normal(size=(4, *module.shape)).astype(np.float32)

    @jit
    @partial(jax.grad, has_aux=True)
    def ours(params):
        picture, _ = module.apply({**variables, "params": params}, z, label, train=True, mutable=["batch_stats"])
        return jnp.sum(weights * picture), picture

    gradients, picture = ours(variables["params"])
    assert picture.shape == weights.shape and picture.dtype == jnp.float32
    assert jnp.std(picture) > 0.1
    np.testing.assert_allclose(picture, theirs.detach().numpy(), rtol=1e-5, atol=1e-5)
    (theirs * reference.torch.tensor(weights)).sum().backward()
    assert_gradients_are(reference, gradients)


def assert_halves_are_the_whole(module, variables, z, label):
    """A generator's batch norm over a mapped axis is that of the whole batch."""

    def apply(z, label, axis_name=None):
        return module.clone(axis_name=axis_name).apply(variables, z, label, train=True, mutable=["batch_stats"])

    whole, moved = jit(apply)(z, label)
    split = jit(jax.vmap(lambda z, label: apply(z, label, "batch"), axis_name="batch"))
    parts, moved_parts = split(z.reshape(2, 2, -1), label.reshape(2, 2))
    np.testing.assert_allclose(parts.reshape(whole.shape), whole, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-5), moved_parts, moved)
    return whole


def test_parameters_of_the_published_networks():
    """The paper, appendix B: 70.4M and 88.0M; the authors' PyTorch code prints the generator's to the last digit."""
    generator = biggan.Generator((128, 128, 3), (1536, 1536, 768, 384, 192, 96), attention=64, classes=1000)
    assert count(generator, 1, 120) == 70_433_988
    discriminator = biggan.Discriminator((96, 192, 384, 768, 1536, 1536), downsampled=5, attention=64, classes=1000)
    assert count(discriminator, 1, 128, 128, 3) == 87_982_370


def test_parameters_of_the_defaults():
    """By hand, as StudioGAN's for CIFAR-10: 9.4M and 2.4M."""
    c, condition = 384, 128 + 20
    block = 2 * 9 * c * c + c * c + 3 * c + 4 * condition * c
    attention = c * (c // 8 + c // 8 + c // 2 + c // 2) + 1
    generator = 10 * 128 + 21 * 16 * c + 3 * block + attention + 2 * c + 9 * c * 3 + 3
    assert count(biggan.Generator(classes=10), 1, 80) == generator == 9_416_196
    c = 192
    blocks = (9 * 3 * c + 3 * c) + 7 * 9 * c * c + c * c + 10 * c
    attention = c * (c // 8 + c // 8 + c // 2 + c // 2) + 1
    discriminator = blocks + attention + c + 1 + 10 * c
    assert count(biggan.Discriminator(classes=10), 1, 32, 32, 3) == discriminator == 2_415_170
    plain = count(biggan.Generator(hierarchical=False), 1, 80, classes=False)
    assert plain == 81 * 16 * 384 + 3 * (19 * 384**2 + 7 * 384) + 384 * 480 + 1 + 2 * 384 + 27 * 384 + 3


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (biggan.Generator((4, 4, 3), (8, 6), attention=4, shared_size=5, classes=3), (4, 4)),
        (biggan.Discriminator((6,), downsampled=1, attention=4, classes=3), (4, 8, 8, 3)),
    ],
)
def test_initial_weights(module, inputs):
    assert_orthogonal(module, jnp.zeros(inputs), LABEL)


@pytest.mark.parametrize(("conditional", "hierarchical"), [(True, True), (False, True), (True, False)])
def test_generator_against_pytorch(conditional, hierarchical):
    label = LABEL if conditional else None
    module = biggan.Generator(**GENERATOR, hierarchical=hierarchical, classes=3 if conditional else 0)
    z = jax.random.normal(jax.random.key(1), (4, 9))
    variables = filled(module, z, label)
    assert set(variables) == {"params", "batch_stats"}
    reference = BigGAN(variables["params"])
    theirs = reference.generate(z, label, hierarchical)
    assert_generator_and_its_gradients_are(reference, theirs, module, variables, z, label)


def test_discriminator_and_its_gradient_penalty_against_pytorch():
    x = jax.random.normal(jax.random.key(1), (4, 16, 12, 3))
    assert_discriminator_and_its_penalty_are(BigGAN, biggan.Discriminator(**DISCRIMINATOR, classes=3), x)


def test_halves_of_a_batch_make_the_whole_and_statistics_are_used_at_rest():
    module = biggan.Generator(**GENERATOR, classes=3)
    z = jax.random.normal(jax.random.key(1), (4, 9)) * jnp.arange(1.0, 5.0)[:, None]
    variables = filled(module, z, LABEL)
    whole = assert_halves_are_the_whole(module, variables, z, LABEL)
    at_rest = jit(lambda z, label: module.apply(variables, z, label, train=False))
    assert not np.allclose(at_rest(z, LABEL), whole, atol=1e-2)
    np.testing.assert_allclose(at_rest(z, LABEL)[::-1], at_rest(z[::-1], LABEL[::-1]), atol=1e-5)
    assert not np.allclose(at_rest(z, LABEL), at_rest(z, LABEL[::-1]), atol=1e-2)


@pytest.mark.parametrize(
    ("shape", "widths", "attention", "downsampled"),
    [((28, 28, 1), (8, 8, 4), 14, 2), ((16, 32, 2), (8, 4), 0, 3), ((8, 8, 3), (4, 4, 4), 4, 1)],
)
def test_shapes(shape, widths, attention, downsampled):
    generator = biggan.Generator(shape=shape, widths=widths, attention=attention)
    z = jnp.zeros((3, 4 * len(widths)))
    picture, _ = jax.eval_shape(lambda: generator.init_with_output(jax.random.key(0), z, train=False))
    assert (picture.shape, picture.dtype) == ((3, *shape), jnp.float32)
    discriminator = biggan.Discriminator(widths=(4, 4, 8), downsampled=downsampled, attention=attention)
    x, index = jnp.zeros(picture.shape), jnp.arange(3)
    logits, variables = jax.eval_shape(
        lambda: discriminator.init_with_output(jax.random.key(0), x, train=True, index=index)
    )
    assert (logits.shape, logits.dtype, set(variables)) == ((3,), jnp.float32, {"params"})
    assert ("attention" in variables["params"]) == (attention > 0)


def test_heads_and_projection_are_options():
    x = jnp.zeros((4, 16, 16, 3))

    def found(label=LABEL, **fields):
        module = biggan.Discriminator(**DISCRIMINATOR, **fields)
        out, variables = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), x, label, train=True))
        return out, set(variables["params"]["judge"])

    assert found(classes=3)[1] == {"logit", "projection"}
    assert found(classes=3, projection=False)[1] == {"logit"}
    assert found()[1] == {"logit"}
    assert found(None, classes=3)[1] == {"logit"}
    (logits, heads), _ = found(classes=3, heads=("class", "code"), code_size=2)
    assert logits.shape == (4,)
    assert {name: head.shape for name, head in heads.items()} == {"class": (4, 3), "code": (4, 2)}


@pytest.mark.parametrize(
    ("module", "inputs", "message"),
    [
        (biggan.Generator(shape=(28, 28, 1)), (2, 80), "multiples of 8, 16 or more, not with 28x28. Nearest is 32x32"),
        (biggan.Generator(shape=(8, 8, 1)), (2, 80), "not with 8x8. Nearest is 16x16"),
        (biggan.Generator(shape=(784,)), (2, 80), r"needs pictures.*\(784,\)"),
        (biggan.Generator(), (2, 90), "4 equal chunks.* 90 is no multiple of 4. Nearest is 88"),
        (biggan.Generator(attention=4), (2, 80), "attention=4, but the maps are 8, 16, 32 pixels high"),
        (biggan.Generator(classes=10), (2, 80), "10 classes has to be told the labels"),
        (biggan.Discriminator(), (2, 30, 32, 3), "multiples of 4, 8 or more, not with 30x32. Nearest is 32x32"),
        (biggan.Discriminator(attention=32), (2, 32, 32, 3), "attention=32, but the maps are 16, 8 pixels high"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_can(module, inputs, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(inputs), train=False))
