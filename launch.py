"""Trains an experiment, sweeps it, or asks a work folder for samples. Flags only; the work is in jaxgan/.

    python launch.py --config=experiments/dcgan.py
    python launch.py --config=experiments/dcgan.py:fashion_mnist --config.batch_size=128 --workdir=runs/fashion
    python launch.py --mode=sample --workdir=runs/dcgan --num_samples=5000
    python launch.py --mode=eval --workdir=runs/dcgan
    python launch.py --mode=eval --config=experiments/dcgan.py --samples=samples.npz
    python launch.py --mode=explore --what=neighbours --workdir=runs/dcgan
    python launch.py --mode=sweep --config=experiments/dcgan.py --trials=32 --workdir=runs/dcgan-sweep
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

FLAGS = flags.FLAGS
_CONFIG = config_flags.DEFINE_config_file("config", None, "An experiment: experiments/NAME.py or NAME.py:VARIANT.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; runs/<experiment> if not given.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "sample", "eval", "explore", "sweep"], "What to do.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print configuration, parameter counts and devices; train nothing.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", None, "How many: 64 for --mode=sample, 5000 for --mode=eval.")
_SEED = flags.DEFINE_integer("seed", 0, "With --mode=sample and --mode=eval: which samples.")
_CLASSES = flags.DEFINE_list("classes", [], "With --mode=sample and explore: of which classes, by name or number.")
_WHAT = flags.DEFINE_string("what", "interpolation", "With --mode=explore: a tool of jaxgan.explore.")
_PICTURE = flags.DEFINE_string("picture", None, "With --what=projection: a picture to find in the latent space.")
_TRUNCATION = flags.DEFINE_float("truncation", None, "With --mode=sample and --mode=eval: the truncation trick.")
_CHECKPOINT = flags.DEFINE_list("checkpoint", ["best", "last"], "With --mode=eval: best, last, or steps.")
_SAMPLES = flags.DEFINE_string("samples", None, "With --mode=eval: an .npz or folder of samples made by somebody else.")
_FEATURES = flags.DEFINE_string("features", "", "With --mode=eval: digits, garments, inception or raw.")
_WEIGHTS = flags.DEFINE_string("weights", "", "With --features=inception: the file of its weights.")
_STATISTICS = flags.DEFINE_string("statistics", "", "With --mode=eval: an .npz with the reference's mu and sigma.")
_TRIALS = flags.DEFINE_integer("trials", None, "With --mode=sweep: how many; may be raised later.")
_SAMPLER = flags.DEFINE_string("sampler", "", "With --mode=sweep: tpe, cmaes, qmc, random or grid.")
_PRUNER = flags.DEFINE_string("pruner", "none", "With --mode=sweep: none, median or hyperband.")
_OBJECTIVE = flags.DEFINE_string("objective", "", "With --mode=sweep: such as fid, or fid:min,recall:max.")
_STORAGE = flags.DEFINE_string("storage", "", "With --mode=sweep: postgresql://... or grpc://host:port, to share it.")
_BATCH = flags.DEFINE_integer("batch", 1, "With --mode=sweep: trials taken at once.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; overrides are written --config.name=value")
    config = _CONFIG.value
    if config is None and (_MODE.value in ("train", "sweep") or _WORKDIR.value is None):
        raise app.UsageError("name an experiment, for instance --config=experiments/dcgan.py")
    name = config.experiment if config is not None else ""
    workdir = _WORKDIR.value or str(pathlib.Path("runs") / (f"{name}-sweep" if _MODE.value == "sweep" else name))
    overrides = config_flags.get_override_values(FLAGS["config"]) if config is not None else {}

    # Imported late, so that --help and a mistyped flag answer at once.
    from jaxgan import console, errors

    console.set_up_logging()
    try:
        if _DRY_RUN.value:
            from jaxgan.describe import describe

            print(describe(config, workdir))
        elif _MODE.value == "train":
            from jaxgan.train import train

            train(config, workdir, overrides)
        elif _MODE.value == "sweep":
            print(sweep(config, workdir, overrides))
        elif _MODE.value == "sample":
            from jaxgan.evaluate import sample

            n, options = _NUM_SAMPLES.value, {"classes": _CLASSES.value, "truncation": _TRUNCATION.value}
            for file in sample(workdir, 64 if n is None else n, _SEED.value, **options):
                print(file)
        elif _MODE.value == "explore":
            from jaxgan.explore import explore

            options = {"picture": _PICTURE.value, "classes": _CLASSES.value or None, "seed": _SEED.value}
            print(explore(workdir, _WHAT.value, checkpoint=_CHECKPOINT.value[-1], **options))
        else:
            print(evaluate(config, workdir))
    except (errors.JaxganError, OSError) as error:
        logging.debug("where it happened", exc_info=True)
        sys.exit(f"\nerror: {error}")


def evaluate(config, workdir: str) -> str:
    from jaxgan import evaluate as of

    protocol = {"features": _FEATURES.value, "weights": _WEIGHTS.value, "statistics": _STATISTICS.value}
    if _SAMPLES.value is not None:
        return of.evaluate_samples(_SAMPLES.value, config or of.read_config(workdir), **protocol)
    n = 5000 if _NUM_SAMPLES.value is None else _NUM_SAMPLES.value
    options = {"num_samples": n, "seed": _SEED.value, "truncation": _TRUNCATION.value}
    return of.evaluate(workdir, checkpoints=_CHECKPOINT.value, **options, **protocol)


def sweep(config, workdir: str, overrides: dict) -> str:
    from jaxgan.sweep import sweep
    from jaxgan.sweeps.space import read_space

    experiment = config_flags.get_config_filename(FLAGS["config"])
    options = {"trials": _TRIALS.value, "sampler": _SAMPLER.value, "pruner": _PRUNER.value, "batch": _BATCH.value}
    options |= {"objective": _OBJECTIVE.value, "storage": _STORAGE.value, "experiment": experiment}
    return sweep(config, workdir, read_space(experiment, _SAMPLER.value), overrides=overrides, **options)


def parse_flags(argv: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(argv)
    except AttributeError as error:  # config_flags' way to say that an override names no field
        reason = error.args[0].args[0] if error.args and isinstance(error.args[0], KeyError) else error
        reason = " ".join(str(reason).split())
        sys.exit(f"error: the configuration has no field {reason}. Without it, --dry_run prints every field.")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
