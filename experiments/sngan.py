"""SNGAN: spectral normalisation in the discriminator, residual networks, hinge loss.

Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018.

    python launch.py --config=experiments/sngan.py             the 5,000 embedded digits, narrow networks
    python launch.py --config=experiments/sngan.py:cifar10     the paper's networks

    mnist5k, mnist, fashion_mnist    28x28 grey, widths of 32, one discriminator step
    cifar10                          G 4.28M, D 1.05M parameters; five discriminator steps, Adam 2e-4 (0, 0.9) falling
                                     linearly to 0 over 100,000 generator steps, no flips
    celeb_a, imagenet64, folder      64x64 colour, mimicry's widths
    sndcgan                          the convolutional networks of compare_gan, for CIFAR-10
    tiny                             one update, for tests

Published for cifar10: FID 21.7 (the authors, 5k samples against 10k), 16.77 +- 0.04 (mimicry, 50k against 50k of
train), 14.32 (PyTorch-GAN-Collections, 50k against train; out-of-place ReLU, as here). Not trained at that length here.
"""

from ml_collections import ConfigDict

from experiments import common

VARIANTS = (*common.PICTURES, "sndcgan", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    common.choose("sngan", variant, VARIANTS)
    c = common.base("sngan" + (f"-{variant}" if variant else ""))
    side = common.pictures(c, "cifar10" if variant == "sndcgan" else "" if variant == "tiny" else variant)
    c.data.flip = side == 64
    c.model.name = "sndcgan" if variant == "sndcgan" else "sngan"
    c.game.latent_size = 128
    c.game.spectral_norm = ("discriminator",)
    c.d_steps = 5
    c.loss.name = "hinge"
    common.adam(c, 2e-4, 0.0, 0.9)
    if side == 28:
        widths(c, (32,) * 3, (32,) * 4)
        common.briefly(c)
        c.duration = "3k steps"
    else:
        c.duration = "100k steps"
        c.ema.half_life_images = 0.0  # the papers' numbers are of the raw generator
    if side == 64:
        widths(c, (1024, 512, 256, 128, 64), (64, 128, 256, 512, 1024))
        c.model.discriminator.downsampled = 5
    c.optimizer.schedule = ConfigDict({"name": "linear_to_zero", "over": c.duration})
    common.every(c, 20)
    if variant == "tiny":
        common.tiny(c)
        widths(c, (8, 8), (8, 8))
        c.d_steps = 2
    return c


def widths(c: ConfigDict, generator: tuple[int, ...], discriminator: tuple[int, ...]) -> None:
    c.model.generator = ConfigDict({"widths": generator})
    c.model.discriminator = ConfigDict({"widths": discriminator})
