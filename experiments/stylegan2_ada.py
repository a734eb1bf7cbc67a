"""StyleGAN2 with adaptive discriminator augmentation.

Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020; Karras et al., Training Generative
Adversarial Networks with Limited Data, 2020 (ADA).

    python launch.py --config=experiments/stylegan2_ada.py             the 5,000 embedded digits, narrow networks
    python launch.py --config=experiments/stylegan2_ada.py:cifar10     the authors' cfg=cifar, with labels
    python launch.py --mode=sample --workdir=runs/stylegan2_ada --truncation=0.7

    mnist5k, mnist, fashion_mnist    28x28 grey, widths of 32
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
    if side == 28:
        c.game.latent_size = 64
        networks(c, (32,) * 3, w_size=64)
        c.ema.half_life_images = 10e3
        c.augment.speed_images = 100e3
        c.duration = "200k images"
    if side == 64:
        networks(c, (512, 512, 512, 512, 256), style_mixing=0.9)
        optimizers(c, 0.0025, lazy_g=True)
    c.loss.penalties = {"r1": {"weight": 0.0002 * side**2 / 64 if side != 32 else 0.01, "every": 16}}
    if side == 64:
        c.loss.penalties.path_length = {"weight": 2.0, "every": 4}
    common.every(c, 20)
    common.rows_for_classes(c, variant)
    if variant == "tiny":
        common.tiny(c)
        networks(c, (8, 8), w_size=8)
        c.model.discriminator.group_size, c.model.discriminator.mapping_layers = 4, 1
    return c


def optimizers(c: ConfigDict, learning_rate: float, lazy_g: bool) -> None:
    """Adam; where a term comes at each k-th step, the rate is times k / (k + 1) and the betas to that power."""
    for side, share in (("generator", 4 / 5 if lazy_g else 1.0), ("discriminator", 16 / 17)):
        knobs = {"learning_rate": learning_rate * share, "b1": 0.0, "b2": 0.99**share, "eps": 1e-8}
        c.optimizer[side] = ConfigDict({"name": "adam", **knobs})


def networks(c: ConfigDict, lowest_first: tuple[int, ...], w_size: int = 512, style_mixing: float = 0.0) -> None:
    c.model.generator = ConfigDict({"widths": lowest_first, "w_size": w_size, "style_mixing": style_mixing})
    c.model.discriminator = ConfigDict({"widths": lowest_first[::-1], "group_size": 32})
