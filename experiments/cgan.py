"""The conditional GAN of 2014: fully connected networks that get the label beside their input.

Mirza and Osindero, Conditional Generative Adversarial Nets, 2014. The paper's generator maps z and y to hidden layers
of 200 and 1,000 units, joins them in 1,200 and trains by SGD with dropout; here z and y are concatenated in front of
the MLP of experiments/mlp.py, which Adam trains.

    python launch.py --config=experiments/cgan.py                                       a row of the grid per digit
    python launch.py --mode=sample --workdir=runs/cgan --classes=3,7 --num_samples=20

Variants: mnist5k (the default), mnist, fashion_mnist (60,000 pictures), cifar10, tiny.
"""

from ml_collections import ConfigDict

from experiments import common


def get_config(variant: str = "") -> ConfigDict:
    common.choose("cgan", variant, ("mnist5k", "mnist", "fashion_mnist", "cifar10", "tiny"))
    if variant == "mnist5k":  # the default, by its name
        return get_config()
    c = common.base("cgan" + (f"-{variant}" if variant else ""))
    common.pictures(c, "" if variant == "tiny" else variant)
    c.game.conditional = True
    c.model.name = "mlp"
    c.model.generator = ConfigDict({"hidden": (256, 512, 1024)})
    c.model.discriminator = ConfigDict({"hidden": (1024, 512, 256), "dropout": 0.3})
    c.duration = "50 epochs" if variant else "100 epochs"
    common.every(c, 20)
    common.rows_for_classes(c, variant)
    if variant == "tiny":
        common.tiny(c)
        c.model.generator.hidden = c.model.discriminator.hidden = (16, 8)
    return c
