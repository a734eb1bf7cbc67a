"""The base configuration: every field that an experiment may set, with what it means.

A duration is a number with a unit: "40 epochs", "5k steps", "25M images". It is rounded up to whole calls of the
compiled program (`steps_per_call`).
"""

from ml_collections import ConfigDict


def base(experiment: str) -> ConfigDict:
    """The configuration that every experiment starts from; `experiment` names its default work folder under runs/."""
    c = ConfigDict()
    c.experiment = experiment
    c.seed = 0
    c.duration = "50 epochs"  # how long to train; may be raised later to go on with a finished run
    c.batch_size = 64  # examples in one discriminator step, over all devices
    c.d_steps = 1  # discriminator steps per generator step (n_critic)
    c.share_fake = True  # one generator pass serves the D and the G step; only where d_steps is 1
    c.parallel = "pmap"  # over all local devices; "jit" uses one
    c.steps_per_call = 0  # updates in one call of the compiled program; 0: 1 on a CPU, 20 elsewhere

    c.data = ConfigDict()
    c.data.name = "mnist5k"  # mnist5k, mnist, fashion_mnist, cifar10, folder, ring, grid, or any image set of TFDS
    c.data.split = "train"
    c.data.image_size = 0  # crop to a square and resize to this; 0 leaves pictures as they are
    c.data.channels = 0  # 1 or 3; 0 leaves them as they are
    c.data.data_dir = ""  # where TFDS keeps data sets; its own default if empty
    c.data.path = ""  # the folder of pictures, for name "folder"
    c.data.flip = False  # mirror pictures left to right at random

    c.game = ConfigDict({"name": "standard", "latent_size": 100})
    c.model = ConfigDict({"name": "dcgan", "generator": {}, "discriminator": {}})
    c.loss = ConfigDict({"name": "non_saturating"})

    c.optimizer = ConfigDict()
    adam = {"name": "adam", "learning_rate": 2e-4, "b1": 0.5, "b2": 0.999, "eps": 1e-8}
    c.optimizer.generator = ConfigDict(adam)
    c.optimizer.discriminator = ConfigDict(adam)
    c.optimizer.schedule = ConfigDict({"name": "constant", "over": "0 images"})  # a factor on both learning rates

    c.ema = ConfigDict()
    c.ema.half_life_images = 10e3  # of the generator's average; 0: no averaging
    c.ema.rampup = 0.05  # the half-life is at most this share of the images seen so far; 0: no ramp

    c.log_every = "50 steps"  # a line in metrics.jsonl
    c.sample_every = "2 epochs"  # a picture of fixed latents
    c.checkpoint_every = "5 epochs"
    c.checkpoint = ConfigDict()
    c.checkpoint.keep = 2  # the newest ones; the best one is kept beside them
    c.checkpoint.best_samples = 1000  # samples for the distance that finds the best; 0: no best checkpoint

    c.sample = ConfigDict({"rows": 8, "columns": 8})  # of the grid of fixed latents

    c.health = ConfigDict()
    c.health.patience = "2k steps"  # how long a bad sign must last before the warning
    c.health.accuracy = 0.999  # the discriminator has won: accuracy above this ...
    c.health.vanished = 0.01  # ... and the generator's gradient norm below this share of its highest
    c.health.collapsed = 0.05  # the generator has collapsed: spread of the samples below this share of the data's
    return c


def tiny(c: ConfigDict) -> ConfigDict:
    """Shrinks a run to one update, through the same code path; networks are the experiment's to shrink."""
    c.duration = "1 steps"
    c.batch_size = 8
    c.steps_per_call = 1
    c.log_every = c.sample_every = c.checkpoint_every = "1 steps"
    c.sample.rows = c.sample.columns = 2
    c.checkpoint.best_samples = 16
    return c


def choose(experiment: str, variant: str, variants: tuple[str, ...]) -> None:
    """Raises ValueError unless `variant` is empty or one of `variants`."""
    if variant and variant not in variants:
        raise ValueError(f"experiments/{experiment}.py has no variant {variant!r}; known: {', '.join(variants)}")
