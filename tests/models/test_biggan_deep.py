import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.models import biggan_deep
from tests.models.test_biggan import (
    LABEL,
    Reference,
    assert_discriminator_and_its_penalty_are,
    assert_generator_and_its_gradients_are,
    assert_halves_are_the_whole,
    assert_orthogonal,
    count,
    filled,
)

GENERATOR = {"shape": (8, 8, 3), "widths": (12, 8), "attention": 8, "shared_size": 5}
DISCRIMINATOR = {"widths": (4, 8, 8), "downsampled": 1, "attention": 4}


class BigGANDeep(Reference):
    def generate(self, z, label=None):
        condition = self.torch.tensor(np.asarray(z, np.float64))
        if label is not None:
            condition = self.torch.cat([self.embed(label), condition], 1)
        x = self.up(self.params["block0a"], self.first(condition, (4, 4)), condition)
        x = self.up(self.params["block0b"], x, condition, doubled=True)
        return self.last(self.attention(self.params["attention"], x))

    def up(self, p, x, condition, doubled=False):
        h = self.conv(p["conv1"], self.norm(p["norm1"], x, condition).relu())
        h = self.norm(p["norm2"], h, condition).relu()
        h = self.conv(p["conv2"], self.double(h) if doubled else h)
        h = self.conv(p["conv3"], self.norm(p["norm3"], h, condition).relu())
        h = self.conv(p["conv4"], self.norm(p["norm4"], h, condition).relu())
        return h + (self.double(x) if doubled else x)[:, : h.shape[1]]

    def discriminate(self, x, label):
        h = self.down(self.params["block0a"], self.conv(self.params["first"], x), halved=True)
        h = self.attention(self.params["attention"], self.down(self.params["block0b"], h))
        h = self.down(self.params["block1b"], self.down(self.params["block1a"], h))
        return self.judge(h, label)

    def down(self, p, x, halved=False):
        h = x
        for name in ("conv1", "conv2", "conv3"):
            h = self.conv(p[name], h.relu())
        h = self.conv(p["conv4"], self.halve(h.relu()) if halved else h.relu())
        x = self.halve(x) if halved else x
        return h + (self.torch.cat([x, self.conv(p["skip"], x)], 1) if "skip" in p else x)


def test_parameters_of_the_published_networks():
    """The paper, appendix B: 50.4M and 34.6M.

    The authors' generator has a last convolution to as many channels as it is given, of which the first three are the
    picture; the 125 others are weights that nothing reads, and we do without.
    """
    generator = biggan_deep.Generator((128, 128, 3), (2048, 2048, 1024, 512, 256, 128), attention=64, classes=1000)
    unread = (128 - 3) * (9 * 128 + 1)
    assert count(generator, 1, 128) == 50_244_484
    assert round((50_244_484 + unread) / 1e6, 1) == 50.4
    discriminator = biggan_deep.Discriminator(
        (128, 256, 512, 1024, 2048, 2048), downsampled=5, attention=64, classes=1000
    )
    assert count(discriminator, 1, 128, 128, 3) == 34_590_210


def test_parameters_of_the_defaults():
    """By hand, for 512 channels throughout, bottlenecks of 128 and conditions of 256."""
    c, inner, condition = 512, 128, 256
    convolutions = 2 * c * inner + 2 * 9 * inner**2 + 3 * inner + c
    block = convolutions + 2 * condition * (c + 3 * inner)
    attention = c * (c // 8 + c // 8 + c // 2 + c // 2) + 1
    generator = 10 * 128 + (condition + 1) * 16 * c + 6 * block + attention + 2 * c + 27 * c + 3
    assert count(biggan_deep.Generator(classes=10), 1, 128) == generator == 7_762_948
    discriminator = 28 * c + 6 * convolutions + attention + c + 1 + 10 * c
    assert count(biggan_deep.Discriminator(classes=10), 1, 32, 32, 3) == discriminator == 2_908_930


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (biggan_deep.Generator(**GENERATOR, classes=3), (4, 7)),
        (biggan_deep.Discriminator((4, 8), downsampled=1, attention=4, classes=3), (4, 8, 8, 3)),
    ],
)
def test_initial_weights(module, inputs):
    assert_orthogonal(module, jnp.zeros(inputs), LABEL)


@pytest.mark.parametrize("conditional", [True, False])
def test_generator_against_pytorch(conditional):
    label = LABEL if conditional else None
    module = biggan_deep.Generator(**GENERATOR, classes=3 if conditional else 0)
    z = jax.random.normal(jax.random.key(1), (4, 7)) * jnp.arange(1.0, 5.0)[:, None]
    variables = filled(module, z, label)
    reference = BigGANDeep(variables["params"])
    theirs = reference.generate(z, label)
    assert_generator_and_its_gradients_are(reference, theirs, module, variables, z, label)
    if conditional:
        assert_halves_are_the_whole(module, variables, z, label)


def test_discriminator_and_its_gradient_penalty_against_pytorch():
    """A pair that halves and widens, and one that does neither."""
    x = jax.random.normal(jax.random.key(1), (4, 8, 12, 3))
    module = biggan_deep.Discriminator(**DISCRIMINATOR, classes=3)
    assert_discriminator_and_its_penalty_are(BigGANDeep, module, x)


@pytest.mark.parametrize(("shape", "widths", "attention"), [((28, 28, 1), (16, 8, 4), 14), ((16, 24, 2), (8, 4, 4), 0)])
def test_shapes(shape, widths, attention):
    generator = biggan_deep.Generator(shape=shape, widths=widths, attention=attention)
    picture, variables = jax.eval_shape(
        lambda: generator.init_with_output(jax.random.key(0), jnp.zeros((3, 7)), train=False)
    )
    assert (picture.shape, picture.dtype) == ((3, *shape), jnp.float32)
    assert set(variables) == {"params", "batch_stats"}
    discriminator = biggan_deep.Discriminator(
        widths=widths[::-1], attention=attention, classes=3, heads=("class",), projection=False
    )
    x, index = jnp.zeros(picture.shape), jnp.arange(3)
    (logits, heads), variables = jax.eval_shape(
        lambda: discriminator.init_with_output(jax.random.key(0), x, LABEL[:3], train=True, index=index)
    )
    assert (logits.shape, heads["class"].shape, set(variables)) == ((3,), (3, 3), {"params"})
    assert ("attention" in variables["params"]) == (attention > 0)


@pytest.mark.parametrize(
    ("module", "inputs", "message"),
    [
        (biggan_deep.Generator(shape=(28, 28, 1)), (2, 128), "multiples of 8, 16 or more, not with 28x28"),
        (biggan_deep.Generator(attention=4), (2, 128), "attention=4, but the maps are 8, 16, 32 pixels high"),
        (biggan_deep.Generator(widths=(8, 4, 8)), (2, 128), r"widths of the generator must not shrink.*\(8, 4, 8\)"),
        (biggan_deep.Generator(classes=10), (2, 128), "10 classes has to be told the labels"),
        (biggan_deep.Discriminator(), (2, 30, 32, 3), "multiples of 4, 8 or more, not with 30x32"),
        (biggan_deep.Discriminator(widths=(2, 8)), (2, 32, 32, 3), r"nor be under 4; got \(2, 8\)"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_can(module, inputs, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(inputs), train=False))
