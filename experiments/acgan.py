"""AC-GAN: a second head of the discriminator names the class, and both sides want it to be right.

Odena, Olah and Shlens, Conditional Image Synthesis with Auxiliary Classifier GANs, 2017.

    python launch.py --config=experiments/acgan.py              a DCGAN on the embedded digits, a row of the grid each
    python launch.py --config=experiments/acgan.py:cifar10
    python launch.py --config=experiments/acgan.py --config.loss.auxiliary.ac_gan=0 --config.loss.auxiliary.contragan=1

The last line is the 2C loss (Kang and Park, ContraGAN, 2020) on the same networks. Variants: mnist5k (the default),
mnist, fashion_mnist, cifar10, tiny. Published for CIFAR-10: FID 33.39 (StudioGAN's "ACGAN-mod", residual networks; 50k
against train).
"""

from ml_collections import ConfigDict

from experiments import common


def get_config(variant: str = "") -> ConfigDict:
    common.choose("acgan", variant, ("mnist5k", "mnist", "fashion_mnist", "cifar10", "tiny"))
    if variant == "mnist5k":  # the default, by its name
        return get_config()
    c = common.base("acgan" + (f"-{variant}" if variant else ""))
    common.pictures(c, "" if variant == "tiny" else variant)
    c.game.conditional = True
    c.loss.auxiliary.ac_gan = 1.0
    c.model.name = "dcgan"
    common.dcgan_widths(c, {"": (64, 32), "tiny": (8, 4), "cifar10": (256, 128, 64)}.get(variant, (128, 64)))
    c.model.discriminator.projection = False  # labels reach D through its second head alone
    c.duration = {"": "90 epochs", "cifar10": "100 epochs"}.get(variant, "25 epochs")
    common.every(c, 15)
    common.rows_for_classes(c, variant)
    if variant == "tiny":
        common.tiny(c)
    return c
