"""InfoGAN: a part of the latent is read back by the discriminator, and comes to mean something without labels.

Chen et al., InfoGAN: Interpretable Representation Learning by Information Maximizing Generative Adversarial Nets, 2016:
for MNIST 62 numbers of noise, a code of ten categories and two uniform ones; learning rates 2e-4 for D and 1e-3 for G.

    python launch.py --config=experiments/infogan.py            a DCGAN on the embedded digits

Variants: mnist5k (the default), mnist, fashion_mnist, cifar10, tiny.
"""

from ml_collections import ConfigDict

from experiments import common


def get_config(variant: str = "") -> ConfigDict:
    common.choose("infogan", variant, ("mnist5k", "mnist", "fashion_mnist", "cifar10", "tiny"))
    if variant == "mnist5k":  # the default, by its name
        return get_config()
    c = common.base("infogan" + (f"-{variant}" if variant else ""))
    common.pictures(c, "" if variant == "tiny" else variant)
    c.game.latent_size = 62
    c.game.codes = ConfigDict({"categorical": (10,), "continuous": 2})
    c.loss.auxiliary.info_gan = 1.0
    c.share_fake = False  # each side has to know the codes of its own samples
    c.optimizer.generator.learning_rate = 1e-3
    c.model.name = "dcgan"
    common.dcgan_widths(c, {"": (64, 32), "tiny": (8, 4), "cifar10": (256, 128, 64)}.get(variant, (128, 64)))
    c.duration = {"": "90 epochs", "cifar10": "100 epochs"}.get(variant, "25 epochs")
    common.every(c, 15)
    if variant == "tiny":
        common.tiny(c)
    return c
