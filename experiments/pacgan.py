"""Does the generator find all modes? The three suites of PacGAN, and packing, its answer to mode collapse.

Lin, Khetan, Fanti and Oh, PacGAN: The Power of Two Samples in Generative Adversarial Networks, 2018, sections 4.1, 4.2.

    python launch.py --config=experiments/pacgan.py                               eight Gaussians on a ring (also :ring)
    python launch.py --config=experiments/pacgan.py:grid --config.game.packing=2  25 on a grid, PacGAN2
    python launch.py --config=experiments/pacgan.py:stacked_mnist5k               1,000 combinations of three digits

`packing` is the number of samples that the discriminator judges together; 1 is the plain GAN. Several seeds with mean
and standard error beside the published rows: `python benchmarks/mode_coverage.py`.

    ring, grid         the paper's networks, optimizer, simultaneous updates and counts (2,500 raw samples, good within
                       3 std). Its 400,000 updates take a CPU hours: --config.duration="400k steps"; the default is 40k
    stacked_mnist5k    triples of the 5,000 embedded digits; stacked_mnist: of MNIST's 60,000. A small DCGAN with
                       the paper's optimizer, batch and counts (26,000 samples); the paper has a larger one, two
                       generator steps for one of the discriminator, and 100,000 of them
    tiny               one update, for tests
"""

from ml_collections import ConfigDict

from experiments import common

VARIANTS = ("ring", "grid", "stacked_mnist5k", "stacked_mnist", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    common.choose("pacgan", variant, VARIANTS)
    c = common.base("pacgan" + (f"-{variant}" if variant else ""))
    c.ema.half_life_images = 0.0  # the paper's numbers are of the raw generator
    if variant.startswith("stacked"):
        return stacked(c, variant)
    c.data.name = "grid" if variant == "grid" else "ring"
    c.game.latent_size = 2
    c.model.name = "mlp"
    generator = {"hidden": (400,) * 4, "activation": "relu", "batch_norm": True, "final_tanh": False, "init_std": 0.02}
    c.model.generator = ConfigDict(generator)
    c.model.discriminator = ConfigDict({"hidden": (200,) * 3, "maxout": 5, "dropout": 0.0, "init_std": 0.02})
    for side in (c.optimizer.generator, c.optimizer.discriminator):
        side.learning_rate, side.b1 = 1e-4, 0.8
    c.simultaneous = True
    c.batch_size = 100
    c.duration = "40k steps"
    c.steps_per_call = 50
    c.log_every = "500 steps"
    c.sample_every = "2k steps"
    c.checkpoint_every = "10k steps"
    c.sample.rows, c.sample.columns = 32, 64
    c.eval.every = "5k steps"
    c.eval.samples = 2500
    c.eval.metrics = ("modes", "swd")
    c.eval.best = "reverse_kl"
    if variant == "tiny":
        common.tiny(c)
        c.model.generator.hidden = c.model.discriminator.hidden = (8, 8)
    return c


def stacked(c: ConfigDict, variant: str) -> ConfigDict:
    """Stacked-MNIST: the default DCGAN, in three channels."""
    common.stacked_digits(c, variant, batch_norm=True)
    c.duration = "20k steps"
    c.log_every = "200 steps"
    c.sample_every = "1k steps"
    c.checkpoint_every = c.eval.every = "5k steps"
    return c
