"""An experiment that is small and still has all that may depend on devices: batch norm, and a whole run around it."""

from ml_collections import ConfigDict

from experiments import toy2d


def get_config(variant: str = "") -> ConfigDict:
    c = toy2d.get_config("tiny")
    c.model.generator.batch_norm = True
    c.duration, c.checkpoint_every, c.eval.every, c.sample_every = "20 steps", "10 steps", "20 steps", "0 steps"
    # Steps nearly proportional to the gradient: Adam's would turn a rounding error near zero into a whole one.
    for side in (c.optimizer.generator, c.optimizer.discriminator):
        side.eps, side.learning_rate = 0.1, 0.1
    return c
