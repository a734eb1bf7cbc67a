"""R3GAN: a relativistic loss with R1 and R2, ResNets without normalisation, and nothing else.

Huang, Gokaslan, Kuleshov and Tompkin, The GAN is dead; long live the GAN! A Modern Baseline GAN, 2024.

    python launch.py --config=experiments/r3gan.py             the 5,000 embedded digits, narrow networks
    python launch.py --config=experiments/r3gan.py:cifar10     the paper's: G 20.78M, D 21.28M parameters

    mnist5k, mnist, fashion_mnist    28x28 grey, widths of 64 to 16, one block a resolution
    cifar10                          batch 512; over 20M images, by half a cosine, learning rate 2e-4 to 5e-5, beta2 0.9
                                     to 0.99, gamma 0.05 to 0.005, augmentation 0 to 0.55, EMA half-life 0 to 5M images
    celeb_a, folder                  the paper's FFHQ-64: gamma 2 to 0.2, augmentation to 0.3
    imagenet64                       the paper's ImageNet-64: twice as wide, batch 4096, gamma 1 to 0.1
    stacked_mnist5k, stacked_mnist   1,000 modes: the paper's ablation of the loss and its penalties by a recipe of ours
                                     (the paper's is not public), on a small DCGAN, see benchmarks/comparisons.py
    tiny                             one update, for tests

Published for cifar10: FID 1.96 (50k against train, 250M images). Not trained at that length here.

Gamma is what its users ask about most. The presets above are the authors'. For other data, StyleGAN2-ADA's rule of
thumb 0.0002 * pixels / batch (Karras et al. 2020) says how it scales with the resolution, but not how large
it is: for 64x64 and batch 256 it gives 0.003, far below the preset of 2. So start from the preset of the nearest
resolution, and try a quarter to four times of it, `sweep()`. Too small: loss_d goes to 0 and the samples stop
improving; too large: they stay blurred. It falls to a tenth over the run in every preset.
"""

from ml_collections import ConfigDict

from experiments import common

STACKED = ("stacked_mnist5k", "stacked_mnist")
VARIANTS = (*common.PICTURES, *STACKED, "tiny")


def get_config(variant: str = "") -> ConfigDict:
    common.choose("r3gan", variant, VARIANTS)
    c = common.base("r3gan" + (f"-{variant}" if variant else ""))
    side = common.pictures(c, "" if variant in (*STACKED, "tiny") else variant)
    c.loss.name = "relativistic"
    c.share_fake = False  # fresh latents for each side
    if variant in STACKED:
        return stacked(c, variant)
    c.model.name = "r3gan"
    c.game.latent_size = 64
    c.game.conditional = variant not in ("celeb_a", "folder")
    c.augment.name, c.augment.pipe = "ada", "r3gan"
    if side == 28:
        widths(c, (64, 32, 16), blocks=1)
        # Networks this narrow, and a run this short, take steps five times as long as the paper's.
        schedules(c, batch=64, over="100k images", gamma=1.0, strength=0.2, half_life=10e3, rate=1e-3)
        c.duration = "150k images"
    if variant == "cifar10":
        widths(c, (768,) * 4, bf16_stages=3)
        schedules(c, batch=512, over="20M images", gamma=0.05, strength=0.55, half_life=5e6)
        c.duration = "250M images"
    if variant in ("celeb_a", "folder"):
        widths(c, (768, 768, 768, 768, 384), bf16_stages=3)
        schedules(c, batch=256, over="20M images", gamma=2.0, strength=0.3, half_life=500e3)
        c.duration = "100M images"
    if variant == "imagenet64":
        widths(c, (1536,) * 5, bf16_stages=3)
        schedules(c, batch=4096, over="200M images", gamma=1.0, strength=0.4, half_life=50e6)
        c.duration = "1000M images"
    common.every(c, 20)
    if c.game.conditional:
        common.rows_for_classes(c, variant)
    if variant == "tiny":
        common.tiny(c)
        widths(c, (16, 16), blocks=1)
    return c


def stacked(c: ConfigDict, variant: str) -> ConfigDict:
    """Triples of digits, and the default DCGAN in three channels, but without norms.

    R3GAN's own networks, as narrow as for digits, take eight times as long on a CPU for an image, and made blurred
    strokes after 100,000 of them.
    """
    common.stacked_digits(c, variant, batch_norm=False)
    common.adam(c, 1e-3, 0.0, 0.999)
    c.loss.penalties = {"r1": 1.0, "r2": 1.0}
    c.duration = "500k images"
    common.every(c, 10)
    return c


def sweep() -> list[dict]:
    """Gamma from a quarter to four times the preset's, its end a tenth of its start."""
    return [{"loss.penalties": penalties(factor, "100k images")} for factor in (0.25, 0.5, 1.0, 2.0, 4.0)]


def penalties(gamma: float, over: str) -> dict:
    ramp = {"from": gamma, "to": gamma / 10, "over": over, "shape": "cosine"}
    return {"r1": {"weight": ramp}, "r2": {"weight": ramp}}


def schedules(
    c: ConfigDict, *, batch: int, over: str, gamma: float, strength: float, half_life: float, rate: float = 2e-4
) -> None:
    """The five things that move by half a cosine; `rate` is the learning rate at the start."""

    def ramp(start, end):
        return {"from": start, "to": end, "over": over, "shape": "cosine"}

    c.batch_size = batch
    adam = {"name": "adam", "learning_rate": ramp(rate, rate / 4), "b1": 0.0, "b2": ramp(0.9, 0.99), "eps": 1e-8}
    c.optimizer.generator, c.optimizer.discriminator = ConfigDict(adam), ConfigDict(adam)
    c.loss.penalties = penalties(gamma, over)
    with c.ignore_type():
        c.augment.p = ramp(0.0, strength)
        c.ema.half_life_images = ramp(0.0, half_life)
    c.ema.rampup = 0.0


def widths(c: ConfigDict, lowest_first: tuple[int, ...], bf16_stages: int = 0, blocks: int = 2) -> None:
    both = {"bf16_stages": bf16_stages, "blocks": blocks}
    c.model.generator = ConfigDict({"widths": lowest_first, **both})
    c.model.discriminator = ConfigDict({"widths": lowest_first[::-1], **both})
