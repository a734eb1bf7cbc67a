"""Every family makes and judges pictures of any base size times a power of two, in colour and in grey."""

import jax
import jax.numpy as jnp
import pytest

from jaxgan.models import biggan, biggan_deep, dcgan, r3gan, sndcgan, sngan, stylegan2, wgan_gp, wgan_gp_cnn

NARROW = {r3gan: {"blocks": 1, "group_size": 8}, biggan: {"attention": 0}, biggan_deep: {"attention": 0}}
DOUBLINGS = {dcgan: 0, wgan_gp_cnn: 0}  # these double once for each width, the others once less
FAMILIES = [biggan, biggan_deep, dcgan, r3gan, sndcgan, sngan, stylegan2, wgan_gp, wgan_gp_cnn]


def networks(family, shape, doublings):
    """A generator and a discriminator that double and halve so often."""
    widths, options = (8,) * (doublings + DOUBLINGS.get(family, 1)), NARROW.get(family, {})
    downsampled = {"downsampled": doublings} if hasattr(family.Discriminator, "downsampled") else {}
    return family.Generator(shape, widths, **options), family.Discriminator(widths, **options, **downsampled)


@pytest.mark.parametrize("shape, doublings", [((4, 4, 1), 1), ((28, 28, 3), 2), ((24, 40, 1), 3), ((192, 192, 3), 6)])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__.rpartition(".")[2])
def test_pictures_are_made_and_judged(family, shape, doublings):
    generator, discriminator = networks(family, shape, doublings)
    z = jnp.zeros((2, 8 * (doublings + 1)))  # of which BigGAN cuts equal parts

    def play(key):
        made, _ = generator.init_with_output(key, z, train=False)
        return made, discriminator.init_with_output(key, made, train=False)[0]

    made, logits = jax.eval_shape(play, jax.random.key(0))
    assert (made.shape, made.dtype) == ((2, *shape), jnp.float32)
    assert (logits.shape, logits.dtype) == ((2,), jnp.float32)
