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
    c.simultaneous = False  # the generator answers the discriminator as it was before its step; only where d_steps is 1
    c.parallel = "pmap"  # over all local devices; "jit" uses one
    c.steps_per_call = 0  # updates in one call of the compiled program; 0: 1 on a CPU, 20 elsewhere

    c.data = ConfigDict()
    c.data.name = "mnist5k"  # a name of jaxgan.data.OWN, or any set of pictures in TFDS
    c.data.split = "train"
    c.data.image_size = 0  # crop to a square and resize to this; 0 leaves pictures as they are
    c.data.channels = 0  # 1 or 3; 0 leaves them as they are
    c.data.data_dir = ""  # where TFDS keeps data sets; its own default if empty
    c.data.path = ""  # the folder of pictures, for name "folder"
    c.data.flip = False  # mirror pictures left to right at random

    c.game = ConfigDict({"name": "standard", "latent_size": 100})
    c.game.packing = 1  # examples that the discriminator judges together (PacGAN); divides the batch
    c.game.spectral_norm = ()  # of which networks: "discriminator", "generator"
    c.model = ConfigDict({"name": "dcgan", "generator": {}, "discriminator": {}})
    c.loss = ConfigDict({"name": "non_saturating"})  # any of jaxgan.losses.ADVERSARIAL
    c.loss.label_smoothing = 0.0  # one-sided; of minimax and non_saturating
    c.loss.top_k = 1.0  # the generator learns from this share of its samples, the best in the discriminator's eyes
    # Weights; 0: none. In place of a number {"weight": 1.0, "every": 16, ...} takes the term at each 16th step, times
    # 16, and sets the options that jaxgan.losses documents; the whole dict is assigned then:
    # c.loss.penalties = {"wgan_gp": {"weight": 10.0, "target": 0.5}, "lecam": 0.3}.
    # Those on the discriminator's gradient (the first six) want a discriminator without batch norm.
    c.loss.penalties = ConfigDict()
    c.loss.penalties.r1 = 0.0  # 1/2 |grad D|^2 at real examples: the weight is the papers' gamma
    c.loss.penalties.r2 = 0.0  # the same at generated examples
    c.loss.penalties.wgan_gp = 0.0  # (|grad D| - target)^2 in between; options target, one_sided
    c.loss.penalties.wgan_lp = 0.0  # its one-sided form; option target
    c.loss.penalties.dragan = 0.0  # (|grad D| - target)^2 near real examples; options target, noise, scale
    c.loss.penalties.zero_centered_gp = 0.0  # |grad D|^2 in between
    c.loss.penalties.lecam = 0.0  # of logits from the other side's running mean; options decay, start, rectified
    c.loss.penalties.cr = 0.0  # consistency of D under augmentation of real examples; option augmentation
    c.loss.penalties.bcr = 0.0  # and of generated ones; options augmentation, fake_weight
    c.loss.penalties.zcr_discriminator = 0.0  # consistency of D(G(z)) under jitter of z; option radius
    c.loss.penalties.zcr_generator = 0.0  # and its opposite for G; option radius
    c.loss.penalties.path_length = 0.0  # of G: evenly long steps for steps in z; option decay
    c.loss.penalties.mode_seeking = 0.0  # of G: different z, different samples; option eps
    c.loss.penalties.orthogonal = 0.0  # of kernels; option side: "discriminator", "generator" or "both"
    c.loss.penalties.l2 = 0.0  # of kernels; option side

    c.optimizer = ConfigDict()
    adam = {"name": "adam", "learning_rate": 2e-4, "b1": 0.5, "b2": 0.999, "eps": 1e-8}
    c.optimizer.generator = ConfigDict(adam)
    c.optimizer.discriminator = ConfigDict(adam)
    c.optimizer.schedule = ConfigDict({"name": "constant", "over": "0 images"})  # a factor on both learning rates
    c.optimizer.clip_weights = 0.0  # every weight of D stays within this distance of 0 (WGAN: 0.01); 0: no clipping

    c.ema = ConfigDict()
    c.ema.half_life_images = 10e3  # of the generator's average; 0: no averaging
    c.ema.rampup = 0.05  # the half-life is at most this share of the images seen so far; 0: no ramp

    c.log_every = "50 steps"  # a line in metrics.jsonl
    c.sample_every = "2 epochs"  # a picture of fixed latents
    c.checkpoint_every = "5 epochs"
    c.checkpoint = ConfigDict()
    c.checkpoint.keep = 2  # the newest ones; the best one is kept beside them

    c.sample = ConfigDict({"rows": 8, "columns": 8})  # of the grid of fixed latents

    c.eval = ConfigDict()  # the averaged generator's samples are measured, and a checkpoint is saved with the result
    c.eval.every = "5 epochs"  # 0 epochs: never, and no checkpoint is the best one
    c.eval.samples = 1000
    c.eval.metrics = ()  # of jaxgan.evaluation.METRICS (fid, kid, precision_recall, ...); empty: a quick choice
    c.eval.best = ""  # the number whose best checkpoint is kept (fid, recall, ...); empty: the first one's
    c.eval.features = "auto"  # digits, garments, inception, raw; auto: what was made for the data set, else raw
    c.eval.weights = ""  # the file of Inception's weights
    c.eval.resize = ""  # tf1, torch or clean, for Inception; its own if empty
    c.eval.split = ""  # of the reference; data.split if empty
    c.stop = ConfigDict({"metric": "", "below": 0.0, "above": 0.0, "patience": 1})  # end the run when it is good enough

    c.health = ConfigDict()
    c.health.patience = "2k steps"  # how long a bad sign must last before the warning
    c.health.accuracy = 0.999  # the discriminator has won: accuracy above this ...
    c.health.vanished = 0.01  # ... and the generator's gradient norm below this share of its highest
    c.health.collapsed = 0.05  # the generator has collapsed: spread of the samples below this share of the data's
    c.health.turned = 3.0  # the run has turned bad: the best number of c.eval is so many times worse than it was ...
    c.health.turned_for = 3  # ... in so many evaluations in a row; the best checkpoint is named
    return c


def tiny(c: ConfigDict) -> ConfigDict:
    """Shrinks a run to one update, through the same code path; networks are the experiment's to shrink."""
    c.duration = "1 steps"
    c.batch_size = 8
    c.steps_per_call = 1
    c.log_every = c.sample_every = c.checkpoint_every = "1 steps"
    c.eval.every = "10 steps"  # and at the end
    c.sample.rows = c.sample.columns = 2
    c.eval.samples = 16
    return c


def choose(experiment: str, variant: str, variants: tuple[str, ...]) -> None:
    """Raises ValueError unless `variant` is empty or one of `variants`."""
    if variant and variant not in variants:
        raise ValueError(f"experiments/{experiment}.py has no variant {variant!r}; known: {', '.join(variants)}")
