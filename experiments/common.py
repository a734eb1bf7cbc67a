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
    c.joint_pass = False  # one pass of D judges real and generated examples; for a D that does not mix examples
    c.simultaneous = False  # the generator answers the discriminator as it was before its step; only where d_steps is 1
    c.accumulate = 1  # parts of the batch, one after another, whose gradients are averaged: saves memory
    c.precision = "float32"  # "bfloat16": both networks compute in it while training; parameters stay float32
    c.parallel = "pmap"  # over all devices of all processes; or "shard_map", the same by other means; "jit" uses one
    c.shard_state = False  # with shard_map: each device holds a share alone of the optimizers' state and of the EMA
    c.batch_stats = "synchronised"  # of batch norm and its like: over the whole batch; or "per_device", over its parts
    c.steps_per_call = 0  # updates in one call of the compiled program; 0: 1 on a CPU, 20 elsewhere
    c.population = "auto"  # how a population's members share a device: "map", "vmap"; auto: map on a CPU, else vmap
    c.population_devices = 1  # that each member of a population has; its batch is split over them

    c.data = ConfigDict()
    c.data.name = "mnist5k"  # a name of jaxgan.data.OWN, or any set of pictures in TFDS
    c.data.split = "train"
    c.data.image_size = 0  # crop to a square and resize to this; 0 leaves pictures as they are
    c.data.channels = 0  # 1 or 3; 0 leaves them as they are
    c.data.data_dir = ""  # where TFDS keeps data sets; its own default if empty
    c.data.path = ""  # the folder of pictures, for name "folder"
    c.data.flip = False  # mirror pictures left to right at random
    c.data.stream = "auto"  # read while training: "always", "never" (all in memory and on the devices); auto: if larger
    c.data.resident_bytes = 4e9  # ... than this, decoded
    c.data.workers = 0  # processes that read a streamed set; 0: threads of this one

    c.game = ConfigDict({"name": "standard", "latent_size": 100})
    c.game.conditional = False  # both networks are given the data's labels
    c.game.codes = ConfigDict({"categorical": (), "continuous": 0})  # at the latent's end, read back by D (InfoGAN)
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
    # What the discriminator's other heads learn; weights, or dicts with weight, generator_weight and options.
    c.loss.auxiliary = ConfigDict()
    c.loss.auxiliary.ac_gan = 0.0  # the class; option fake_share: 0 learns it from real examples alone
    c.loss.auxiliary.contragan = 0.0  # the 2C loss; option temperature
    c.loss.auxiliary.reacgan = 0.0  # D2D-CE; options temperature, margin
    c.loss.auxiliary.info_gan = 0.0  # the codes

    c.augment = ConfigDict({"name": ""})  # of all that the discriminator sees: diff_augment, ada
    c.augment.policy = ("color", "translation", "cutout")  # diff_augment's
    c.augment.pipe = "bgc"  # ada's: a preset of jaxgan.augment.PRESETS
    c.augment.p = -1.0  # ada's strength, 0 to 1, or a ramp; below 0: adapted to how far the discriminator overfits
    c.augment.target = 0.6  # of the mean sign of D(real)
    c.augment.speed_images = 500e3  # p goes from 0 to 1 in no less
    c.augment.every = 4  # updates between two changes of p

    # A value that moves while images are seen: {"from": 2e-4, "to": 5e-5, "over": "20M images", "shape": "cosine"} in
    # place of the number, for every knob of an optimizer, a penalty's weight ({"r1": {"weight": {"from": ...}}}), and,
    # set within `with c.ignore_type():`, ema.half_life_images and augment.p.
    c.optimizer = ConfigDict()
    adam = {"name": "adam", "learning_rate": 2e-4, "b1": 0.5, "b2": 0.999, "eps": 1e-8}
    c.optimizer.generator = ConfigDict(adam)
    c.optimizer.discriminator = ConfigDict(adam)
    c.optimizer.schedule = ConfigDict({"name": "constant", "over": "0 images"})  # or linear_to_zero, cosine_to_zero
    # Each k-th update both sides step back to where they were k updates ago, but for a share of the way (5, 0.5).
    c.optimizer.lookahead = ConfigDict({"every": 0, "share": 0.5})
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
    # digits, garments, inception, efflite0 (whose distance is fd, not fid), raw; auto: made for the data set, else raw.
    c.eval.features = "auto"
    c.eval.weights = ""  # the file of Inception's weights
    c.eval.resize = ""  # tf1, torch or clean, for all features but raw; their own way if empty
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


PICTURES = ("mnist5k", "mnist", "fashion_mnist", "cifar10", "celeb_a", "imagenet64", "folder")


def pictures(c: ConfigDict, name: str) -> int:
    """Sets the data of a variant that is named after it ("" is mnist5k); gives the pictures' side."""
    if name in ("", "mnist5k", "mnist", "fashion_mnist"):
        c.data.name = name or "mnist5k"
        return 28
    c.data.flip = True
    if name == "cifar10":
        c.data.name = name
        return 32
    c.data.name = {"imagenet64": "imagenet_resized/64x64"}.get(name, name)
    c.data.image_size, c.data.channels = 64, 3
    return 64


def adam(c: ConfigDict, learning_rate: float, b1: float, b2: float) -> None:
    """Adam for both sides."""
    for side in ("generator", "discriminator"):
        c.optimizer[side] = ConfigDict(
            {"name": "adam", "learning_rate": learning_rate, "b1": b1, "b2": b2, "eps": 1e-8}
        )


def briefly(c: ConfigDict) -> None:
    """A recipe of 100,000 generator steps cut to the minutes of a CPU, for narrow networks.

    One discriminator step for each of the generator, as five cost most of the time; and longer steps: at 2e-4 the class
    embeddings of a generator, whose gains start from 1, hardly move within 1,000 of them.
    """
    c.d_steps = 1
    c.optimizer.generator.learning_rate, c.optimizer.discriminator.learning_rate = 1e-3, 5e-4


def every(c: ConfigDict, times: int) -> None:
    """Pictures, evaluations and checkpoints so many times in the run."""
    number, unit = c.duration.split(" ")
    factor = {"k": 1e3, "M": 1e6}.get(number[-1], 1.0)
    steps = float(number.rstrip("kM")) * factor / times
    c.sample_every = c.checkpoint_every = c.eval.every = f"{steps:.0f} {unit}"


def rows_for_classes(c: ConfigDict, variant: str) -> None:
    """A grid with a row for each of ten classes."""
    if variant != "tiny":
        c.sample.rows = c.sample.columns = 10


def dcgan_widths(c: ConfigDict, generator: tuple[int, ...]) -> None:
    """A DCGAN whose discriminator mirrors its generator."""
    c.model.generator = ConfigDict({"widths": generator, "kernel": 4})
    c.model.discriminator = ConfigDict({"widths": generator[::-1], "kernel": 4, "batch_norm": True, "dropout": 0.0})


def stacked_digits(c: ConfigDict, variant: str, batch_norm: bool) -> None:
    """The default DCGAN on triples of digits, in three channels, and the count of its modes."""
    c.data.name = variant
    c.model.name = "dcgan"
    c.model.generator = ConfigDict({"widths": (64, 32), "kernel": 4, "batch_norm": batch_norm})
    discriminator = {"widths": (32, 64), "kernel": 4, "batch_norm": batch_norm, "dropout": 0.0}
    c.model.discriminator = ConfigDict(discriminator)
    c.ema.half_life_images = 0.0  # PacGAN's counts are of the raw generator
    c.eval.samples, c.eval.metrics, c.eval.best = 26_000, ("labelled_modes",), "reverse_kl"


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


# Search spaces. A sweep() gives a list of dicts of dotted overrides: {"optimizer.generator.learning_rate": 1e-4}.


def grid(values: dict[str, list]) -> list[dict]:
    """Every combination of the values of each field; the last field changes fastest."""
    points = [{}]
    for name, choices in values.items():
        points = [{**point, name: choice} for point in points for choice in choices]
    return points


def zip_(values: dict[str, list]) -> list[dict]:
    """The first values of all fields, then the second ones, and so on; ValueError where there are not equally many."""
    return [dict(zip(values, choices, strict=True)) for choices in zip(*values.values(), strict=True)]


def product(*spaces: list[dict]) -> list[dict]:
    """Every combination of a point of each space; the last space changes fastest."""
    points = [{}]
    for space in spaces:
        points = [{**point, **more} for point in points for more in space]
    return points


def both(field: str, values: list) -> list[dict]:
    """A field of both sides' optimizers, at the same value: both("learning_rate", [1e-4, 2e-4])."""
    return zip_({f"optimizer.{side}.{field}": values for side in ("generator", "discriminator")})
