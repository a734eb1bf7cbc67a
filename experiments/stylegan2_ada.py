"""StyleGAN2 with adaptive discriminator augmentation.

Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020; Karras et al., Training Generative
Adversarial Networks with Limited Data, 2020 (ADA).

    python launch.py --config=experiments/stylegan2_ada.py             the 5,000 embedded digits, narrow networks
    python launch.py --config=experiments/stylegan2_ada.py:cifar10     the authors' cfg=cifar, with labels
    python launch.py --mode=sample --workdir=runs/stylegan2_ada --truncation=0.7

    mnist5k, mnist, fashion_mnist    28x28 grey, widths of 64 to 16; numbers of our own for a short run, see `digits`
    cifar10                          G 20.2M, D 23.1M parameters; Adam 2.5e-3 (0, 0.99), batch 64, R1 of 0.01 at each
                                     16th step, no path length, no style mixing, EMA half-life 500k images, ADA bgc
    celeb_a, imagenet64, folder      64x64: one more resolution, style mixing 0.9, path length 2 at each 4th step, R1 by
                                     the authors' rule of thumb 0.0002 * pixels / batch
    tiny                             one update, for tests

Published for cifar10: FID 2.42, IS 10.14 with labels (50k against train, 100M images, the best of many checkpoints);
2.92 without them. Not trained at that length here.
"""

from ml_collections import ConfigDict

from experiments import common

VARIANTS = (*common.PICTURES, "tiny")


def get_config(variant: str = "") -> ConfigDict:
    common.choose("stylegan2_ada", variant, VARIANTS)
    c = common.base("stylegan2_ada" + (f"-{variant}" if variant else ""))
    side = common.pictures(c, "" if variant == "tiny" else variant)
    c.model.name = "stylegan2"
    c.game.latent_size = 512
    c.game.conditional = variant not in ("celeb_a", "folder")
    c.loss.name = "non_saturating"
    c.share_fake = False
    c.augment.name, c.augment.pipe = "ada", "bgc"
    c.ema.half_life_images = 500e3
    c.duration = "100M images"
    optimizers(c, 0.0025, lazy_g=False)
    networks(c, (512,) * 4)
    if side == 64:
        networks(c, (512, 512, 512, 512, 256), style_mixing=0.9)
        optimizers(c, 0.0025, lazy_g=True)
    c.loss.penalties = {"r1": {"weight": 0.0002 * side**2 / 64 if side != 32 else 0.01, "every": 16}}
    if side == 28:
        digits(c)
    if side == 64:
        c.loss.penalties.path_length = {"weight": 2.0, "every": 4}
    common.every(c, 20)
    common.rows_for_classes(c, variant)
    if variant == "tiny":
        common.tiny(c)
        networks(c, (8, 8), w_size=8)
        c.model.discriminator.group_size, c.model.discriminator.mapping_layers = 4, 1
    return c


def digits(c: ConfigDict) -> None:
    """Numbers of our own, for narrow networks and a short run.

    With the authors' the samples sink to one shape within 20,000 images, here and in a training written in PyTorch
    (RESULTS.md). What was changed together, so that no single reason is known: the discriminator learns four times as
    fast as the generator, has its R1 more often, and tells classes apart by their embeddings alone (eight random
    mapping layers of width 32 made nearly the same vector of all labels); smaller batches, wider low resolutions.
    """
    c.batch_size = 32
    c.game.latent_size = 64
    networks(c, (64, 32, 16), w_size=64)
    c.model.discriminator.update({"mapping_layers": 0, "group_size": 8})
    optimizers(c, 0.0025, lazy_g=False, faster_d=4.0, r1_every=4)
    c.loss.penalties = {"r1": {"weight": 1.0, "every": 4}}
    c.ema.half_life_images = 2e3
    c.augment.speed_images = 100e3
    c.duration = "200k images"


def optimizers(c: ConfigDict, learning_rate: float, lazy_g: bool, faster_d: float = 1.0, r1_every: int = 16) -> None:
    """Adam; where a term comes at each k-th step, the rate is times k / (k + 1) and the betas to that power."""
    rates = {"generator": learning_rate, "discriminator": faster_d * learning_rate}
    shares = {"generator": 4 / 5 if lazy_g else 1.0, "discriminator": r1_every / (r1_every + 1)}
    for side, rate in rates.items():
        share = shares[side]
        knobs = {"learning_rate": rate * share, "b1": 0.0, "b2": 0.99**share, "eps": 1e-8}
        c.optimizer[side] = ConfigDict({"name": "adam", **knobs})


def networks(c: ConfigDict, lowest_first: tuple[int, ...], w_size: int = 512, style_mixing: float = 0.0) -> None:
    c.model.generator = ConfigDict({"widths": lowest_first, "w_size": w_size, "style_mixing": style_mixing})
    c.model.discriminator = ConfigDict({"widths": lowest_first[::-1], "group_size": 32})
