"""Mixtures of Gaussians in the plane: does the generator find all modes?

    python launch.py --config=experiments/toy2d.py        eight on a ring (the same as :ring)
    python launch.py --config=experiments/toy2d.py:grid   25 on a 5x5 grid

    python launch.py --config=experiments/toy2d.py:grid --mode=sweep --trials=32 --workdir=runs/toy2d-sweep

The classic test for mode collapse (Metz et al., Unrolled GANs, 2017; Lin et al., PacGAN, 2018). In place of a grid of
pictures the run draws samples over data points.
"""

from ml_collections import ConfigDict

from experiments import common


def get_config(variant: str = "") -> ConfigDict:
    common.choose("toy2d", variant, ("ring", "grid", "tiny"))
    c = common.base("toy2d" + (f"-{variant}" if variant else ""))
    c.data.name = "grid" if variant == "grid" else "ring"
    c.game.latent_size = 2
    c.model.name = "mlp"
    hidden = {"hidden": (256, 256, 256), "activation": "relu"}
    c.model.generator = ConfigDict({**hidden, "final_tanh": False})
    c.model.discriminator = ConfigDict({**hidden, "dropout": 0.0})
    c.batch_size = 256
    c.duration = "20k steps"
    c.steps_per_call = 50  # dense layers alone: a loop costs nothing on a CPU
    c.log_every = "500 steps"
    c.sample_every = "500 steps"
    c.checkpoint_every = "5k steps"
    c.sample.rows, c.sample.columns = 32, 64
    if variant == "tiny":
        common.tiny(c)
        c.model.generator.hidden = c.model.discriminator.hidden = (8, 8)
    return c


def sweep() -> list[dict]:
    """Sixteen runs: four learning rates, of both sides, with four seeds each."""
    return common.product(common.both("learning_rate", [5e-5, 1e-4, 2e-4, 4e-4]), common.grid({"seed": range(4)}))


def search_space(trial) -> dict:
    """What decides on a mixture whether all modes are found: the two speeds and their ratio, momentum, and R1."""
    learning_rate = trial.suggest_float("optimizer.generator.learning_rate", 2e-5, 2e-3, log=True)
    ratio = trial.suggest_float("ratio", 0.25, 4.0, log=True)  # of the discriminator's to the generator's
    b1 = trial.suggest_float("optimizer.b1", 0.0, 0.9)
    return {
        "optimizer.generator.learning_rate": learning_rate,
        "optimizer.discriminator.learning_rate": ratio * learning_rate,
        "optimizer.generator.b1": b1,
        "optimizer.discriminator.b1": b1,
        "loss.penalties.r1": trial.suggest_float("loss.penalties.r1", 1e-3, 1.0, log=True),
    }
