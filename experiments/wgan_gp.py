"""WGAN-GP with residual networks.

Gulrajani et al., Improved Training of Wasserstein GANs, 2017.

    python launch.py --config=experiments/wgan_gp.py             the 5,000 embedded digits, narrow networks
    python launch.py --config=experiments/wgan_gp.py:cifar10     the paper's networks and length

    mnist5k, mnist, fashion_mnist    28x28 grey, widths of 32, two critic steps
    cifar10                          the paper's: 128 channels, lambda 10, five critic steps, Adam 2e-4 (0, 0.9)
                                     falling linearly to 0 over 100,000 generator steps
    celeb_a, imagenet64, folder      64x64 colour, one more block
    cnn                              the paper's convolutional networks for CIFAR-10, Adam 1e-4 (0.5, 0.9), 200k steps
    tiny                             one update, for tests

Published for cifar10: FID 22.29 +- 0.06 (mimicry, 256 channels in G, 50k against 50k of train), 16.95 (PyTorch-GAN-
Collections, with flips). Beta1 of 0.5 without decay gives 36 to 54 (StudioGAN). The authors give the generator batches
of 128; here both sides have 64. Not trained at that length here.
"""

from ml_collections import ConfigDict

from experiments import common

VARIANTS = (*common.PICTURES, "cnn", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    common.choose("wgan_gp", variant, VARIANTS)
    c = common.base("wgan_gp" + (f"-{variant}" if variant else ""))
    side = common.pictures(c, "cifar10" if variant == "cnn" else "" if variant == "tiny" else variant)
    c.model.name = "wgan_gp_cnn" if variant == "cnn" else "wgan_gp"
    c.game.latent_size = 128
    c.d_steps = 5
    c.loss.name = "wasserstein"
    c.loss.penalties.wgan_gp = 10.0
    common.adam(c, 2e-4, 0.0, 0.9)
    if side == 28:
        widths(c, (32,) * 3, (32,) * 4)
        common.briefly(c)
        c.d_steps = 2
        c.duration = "3k steps"
    else:
        c.duration = "100k steps"
        c.ema.half_life_images = 0.0  # the paper's numbers are of the raw generator
    if side == 64:
        widths(c, (128,) * 5, (128,) * 5)
        c.model.discriminator.downsampled = 3
    if variant == "cnn":
        common.adam(c, 1e-4, 0.5, 0.9)
        c.duration = "200k steps"
    else:
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
