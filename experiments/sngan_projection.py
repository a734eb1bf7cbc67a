"""The projection discriminator on SNGAN: class-conditional batch norm in G, an inner product with the label in D.

Miyato and Koyama, cGANs with Projection Discriminator, 2018.

    python launch.py --config=experiments/sngan_projection.py             the embedded digits, a row of the grid each
    python launch.py --config=experiments/sngan_projection.py:cifar10     SNGAN's recipe with labels

    mnist5k, mnist, fashion_mnist    28x28 grey, widths of 32, one discriminator step
    cifar10                          SNGAN's networks and recipe, see experiments/sngan.py
    imagenet64                       64x64, mimicry's widths
    tiny                             one update, for tests

Published for cifar10: FID 10.84 (mimicry, 50k against 50k of train), 8.12 (mmgeneration, out-of-place ReLU, as here;
50k against train). Not trained at that length here.
"""

from ml_collections import ConfigDict

from experiments import common

VARIANTS = ("mnist5k", "mnist", "fashion_mnist", "cifar10", "imagenet64", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    common.choose("sngan_projection", variant, VARIANTS)
    c = common.base("sngan_projection" + (f"-{variant}" if variant else ""))
    side = common.pictures(c, "" if variant == "tiny" else variant)
    c.data.flip = side == 64
    c.game.conditional = True
    c.game.latent_size = 128
    c.game.spectral_norm = ("discriminator",)
    c.model.name = "sngan"
    c.d_steps = 5
    c.loss.name = "hinge"
    common.adam(c, 2e-4, 0.0, 0.9)
    if side == 28:
        c.model.generator = ConfigDict({"widths": (32,) * 3})
        c.model.discriminator = ConfigDict({"widths": (32,) * 4})
        common.briefly(c)
        c.duration = "3k steps"
    else:
        c.duration = "100k steps"
        c.ema.half_life_images = 0.0  # the papers' numbers are of the raw generator
    if side == 64:
        c.model.generator = ConfigDict({"widths": (1024, 512, 256, 128, 64)})
        c.model.discriminator = ConfigDict({"widths": (64, 128, 256, 512, 1024), "downsampled": 5})
    c.optimizer.schedule = ConfigDict({"name": "linear_to_zero", "over": c.duration})
    common.every(c, 20)
    common.rows_for_classes(c, variant)
    if variant == "tiny":
        common.tiny(c)
        c.model.generator.widths = c.model.discriminator.widths = (8, 8)
        c.d_steps = 2
    return c
