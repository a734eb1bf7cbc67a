"""BigGAN: class-conditional, hierarchical latents, shared embedding, self-attention, orthogonal initialisation.

Brock, Donahue and Simonyan, Large Scale GAN Training for High Fidelity Natural Image Synthesis, 2019.

    python launch.py --config=experiments/biggan.py             the 5,000 embedded digits, narrow networks
    python launch.py --config=experiments/biggan.py:cifar10     StudioGAN's configuration for CIFAR-10
    python launch.py --mode=sample --workdir=runs/biggan --truncation=0.5

    mnist5k, mnist, fashion_mnist    28x28 grey, widths of 32, attention at 14x14, one discriminator step
    cifar10                          G 9.4M, D 2.4M parameters; hinge loss, spectral normalisation of both, five
                                     discriminator steps, Adam 2e-4 (0.5, 0.999), batch 64, 100,000 generator steps
    cifar10_deep                     BigGAN-deep in the same recipe
    imagenet64                       64x64, one more block (a scaled-down recipe of ours; the paper starts at 128)
    tiny                             one update, for tests

Published for cifar10: FID 4.16, IS 9.96 (StudioGAN, 50k against train); with DiffAugment 3.35: --config.augment.name=
diff_augment; with LeCam 3.23: --config.loss.penalties.lecam=0.3. Not trained at that length here.
"""

from ml_collections import ConfigDict

from experiments import common

VARIANTS = ("mnist5k", "mnist", "fashion_mnist", "cifar10", "cifar10_deep", "imagenet64", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    common.choose("biggan", variant, VARIANTS)
    c = common.base("biggan" + (f"-{variant}" if variant else ""))
    side = common.pictures(c, {"cifar10_deep": "cifar10", "tiny": ""}.get(variant, variant))
    c.model.name = "biggan_deep" if variant == "cifar10_deep" else "biggan"
    c.game.conditional = True
    c.game.latent_size = 80
    c.game.spectral_norm = ("generator", "discriminator")
    c.d_steps = 5
    c.loss.name = "hinge"
    common.adam(c, 2e-4, 0.5, 0.999)
    c.duration = "100k steps"
    c.ema.half_life_images = 2.2e6  # a decay of 0.9999 an update of 5 x 64 images
    if variant == "cifar10_deep":
        c.game.latent_size = 128
    if side == 28:
        c.game.latent_size = 60  # three equal parts
        widths(c, (32,) * 3, (32,) * 4, 14)
        c.ema.half_life_images = 10e3
        common.briefly(c)
        # The discriminator's steps four times the generator's, as the paper has them for ImageNet: with the longer ones
        # on the generator's side a class's samples soon hardly differ, and recall falls to 0.1.
        c.optimizer.generator.learning_rate, c.optimizer.discriminator.learning_rate = 5e-4, 2e-3
        c.duration = "3k steps"
    if side == 64:
        c.game.latent_size = 100
        widths(c, (1536, 768, 384, 192, 96), (96, 192, 384, 768, 1536), 32)
        c.model.discriminator.downsampled = 4
    common.every(c, 20)
    common.rows_for_classes(c, variant)
    if variant == "tiny":
        common.tiny(c)
        c.game.latent_size = 6
        widths(c, (8,) * 2, (8,) * 2, 14)
        c.model.generator.attention, c.model.generator.shared_size = 0, 4
        c.d_steps = 2
    return c


def widths(c: ConfigDict, generator: tuple[int, ...], discriminator: tuple[int, ...], attention: int) -> None:
    c.model.generator = ConfigDict({"widths": generator, "attention": attention})
    c.model.discriminator = ConfigDict({"widths": discriminator, "attention": attention})
