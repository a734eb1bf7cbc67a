"""Trains an experiment, sweeps it, or asks a work folder for samples. Flags only; the work is in jaxgan/.

    python launch.py --config=experiments/dcgan.py
    python launch.py --config=experiments/dcgan.py:fashion_mnist --config.batch_size=128 --workdir=runs/fashion
    python launch.py --config=experiments/dcgan.py --seeds=8 --workdir=runs/seeds
    python launch.py --mode=sample --workdir=runs/dcgan --num_samples=5000
    python launch.py --mode=eval --workdir=runs/dcgan
    python launch.py --mode=eval --config=experiments/dcgan.py --samples=samples.npz
    python launch.py --mode=explore --what=neighbours --workdir=runs/dcgan
    python launch.py --mode=compile --config=experiments/r3gan.py:cifar10 --topology=v5e:16x16
    python launch.py --mode=compile --config=experiments/toy2d.py:grid --seeds=256 --topology=v5e:16x16
    python launch.py --mode=profile --config=experiments/dcgan.py --workdir=runs/dcgan-profile
    python launch.py --mode=sweep --config=experiments/dcgan.py --trials=32 --workdir=runs/dcgan-sweep
    python launch.py --mode=sweep --config=experiments/toy2d.py --pbt=0.25 --trials=16 --workdir=runs/pbt
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from jaxgan import processor

FLAGS = flags.FLAGS
_CONFIG = config_flags.DEFINE_config_file("config", None, "An experiment: experiments/NAME.py or NAME.py:VARIANT.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; runs/<experiment> if not given.")
_MODES = ("train", "sample", "eval", "explore", "sweep", "compile", "profile")
_MODE = flags.DEFINE_enum("mode", "train", _MODES, "What to do.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of the first process, in a run of several.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --coordinator: how many processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --coordinator: which of them this is, from 0.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print configuration, parameter counts and devices; train nothing.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", None, "How many: 64 for --mode=sample, 5000 for --mode=eval.")
_SEED = flags.DEFINE_integer("seed", 0, "With --mode=sample and --mode=eval: which samples.")
_SEEDS = flags.DEFINE_integer("seeds", None, "So many seeds as a population, to train or to compile.")
_CLASSES = flags.DEFINE_list("classes", [], "With --mode=sample and explore: of which classes, by name or number.")
_WHAT = flags.DEFINE_string("what", "interpolation", "With --mode=explore: a tool of jaxgan.explore.")
_PICTURE = flags.DEFINE_string("picture", None, "With --what=projection: a picture to find in the latent space.")
_TRUNCATION = flags.DEFINE_float("truncation", None, "With --mode=sample and --mode=eval: the truncation trick.")
_CHECKPOINT = flags.DEFINE_list("checkpoint", ["best", "last"], "With --mode=eval: best, last, or steps.")
_SAMPLES = flags.DEFINE_string("samples", None, "With --mode=eval: an .npz or folder of samples made by somebody else.")
_FEATURES = flags.DEFINE_string("features", "", "With --mode=eval: digits, garments, inception, efflite0 or raw.")
_WEIGHTS = flags.DEFINE_string("weights", "", "With --features=inception: the file of its weights.")
_METRICS = flags.DEFINE_list("metrics", [], "With --mode=eval: of jaxgan.evaluation.METRICS; all quick ones if empty.")
_RESIZE = flags.DEFINE_string("resize", "", "tf1, torch or clean: how pictures get the size that --features want.")
_EMA = flags.DEFINE_bool("ema", True, "With --mode=eval: the averaged generator; --noema: the generator itself.")
_STATISTICS = flags.DEFINE_string("statistics", "", "With --mode=eval: an .npz with the reference's mu and sigma.")
_COMPILED = flags.DEFINE_string("compiled", "", "Where compiled programs are kept; the user's cache if empty, or none.")
_TOPOLOGY = flags.DEFINE_string("topology", None, "With --mode=compile: a pod, as v5e:16x16; the local devices if not.")
_DATA_SHAPE = flags.DEFINE_string("data_shape", "", "With --mode=compile: EXAMPLES,H,W,C[,CLASSES], where not known.")
_JSON = flags.DEFINE_bool("json", False, "With --mode=compile and --mode=profile: the report as JSON.")
_TRIALS = flags.DEFINE_integer("trials", None, "With --mode=sweep: how many; may be raised later.")
_SAMPLER = flags.DEFINE_string("sampler", "", "With --mode=sweep: tpe, cmaes, qmc, random or grid. With compile: grid.")
_PRUNER = flags.DEFINE_string("pruner", "none", "With --mode=sweep: none, median or hyperband.")
_OBJECTIVE = flags.DEFINE_string("objective", "", "With --mode=sweep: such as fid, or fid:min,recall:max.")
_STORAGE = flags.DEFINE_string("storage", "", "With --mode=sweep: postgresql://... or grpc://host:port, to share it.")
_PBT = flags.DEFINE_float("pbt", None, "With --mode=sweep: train all as one; this share, the worst, copies the best.")
_BATCH = flags.DEFINE_integer("batch", 1, "With --mode=sweep: trials taken at once.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; overrides are written --config.name=value")
    if _PBT.present and (_PRUNER.present or _STORAGE.present or _BATCH.present):
        raise app.UsageError("--pbt trains all trials as one population, without --pruner, --storage and --batch")
    config = _CONFIG.value
    if config is None and (_MODE.value in ("train", "sweep", "compile", "profile") or _WORKDIR.value is None):
        raise app.UsageError("name an experiment, for instance --config=experiments/dcgan.py")
    name = config.experiment if config is not None else ""
    workdir = _WORKDIR.value or str(pathlib.Path("runs") / (f"{name}-sweep" if _MODE.value == "sweep" else name))

    from jaxgan import compilation, console, distributed, errors

    console.set_up_logging()
    try:
        # A program for a pod that is not there cannot be read back: JAX would warn, and compile it again.
        compilation.keep("none" if _TOPOLOGY.value else _COMPILED.value)
        if _MODE.value == "compile":  # by one process, before JAX looks for devices of its own
            print(compile_ahead(config, workdir))
            return
        distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        if not distributed.is_main():
            console.warn_only()
        with distributed.Together():
            answer = (describe if _DRY_RUN.value else ACTIONS[_MODE.value])(config, workdir)
            if answer and distributed.is_main():
                print(answer)
    except (errors.JaxganError, OSError) as error:
        logging.debug("where it happened", exc_info=True)
        sys.exit(f"\nerror: {error}")


def describe(config, workdir: str) -> str:
    from jaxgan.describe import describe

    return describe(config, workdir)


def train(config, workdir: str) -> str:
    overrides = config_flags.get_override_values(FLAGS["config"])
    if _SEEDS.present:
        from jaxgan.population.seeds import train_seeds

        return train_seeds(config, workdir, _SEEDS.value, overrides)
    from jaxgan.train import train

    train(config, workdir, overrides)
    return ""


def sample(config, workdir: str) -> str:
    from jaxgan.evaluate import sample

    n, options = _NUM_SAMPLES.value, {"classes": _CLASSES.value, "truncation": _TRUNCATION.value}
    return "\n".join(map(str, sample(workdir, 64 if n is None else n, _SEED.value, **options)))


def explore(config, workdir: str) -> str:
    from jaxgan.explore import explore

    options = {"picture": _PICTURE.value, "classes": _CLASSES.value or None, "seed": _SEED.value}
    return str(explore(workdir, _WHAT.value, checkpoint=_CHECKPOINT.value[-1], **options))


def compile_ahead(config, workdir: str) -> str:
    from jaxgan.aot import describe

    points = None
    if _SAMPLER.value == "grid":
        from jaxgan.sweeps.space import read_space

        points = read_space(config_flags.get_config_filename(FLAGS["config"]), "grid").points
    if _SEEDS.present:
        from jaxgan.population.seeds import with_seeds

        points = with_seeds(points or [{}], config.seed, _SEEDS.value)
    return describe(config, _TOPOLOGY.value, _DATA_SHAPE.value, as_json=_JSON.value, points=points)


def profile(config, workdir: str) -> str:
    from jaxgan.profile import profile

    return profile(config, workdir, as_json=_JSON.value)


def evaluate(config, workdir: str) -> str:
    from jaxgan import evaluate as of

    protocol = {"features": _FEATURES.value, "weights": _WEIGHTS.value, "statistics": _STATISTICS.value}
    protocol |= {"metrics": _METRICS.value, "resize": _RESIZE.value}
    if _SAMPLES.value is not None:
        return of.evaluate_samples(_SAMPLES.value, config or of.read_config(workdir), **protocol)
    n = 5000 if _NUM_SAMPLES.value is None else _NUM_SAMPLES.value
    options = {"num_samples": n, "seed": _SEED.value, "ema": _EMA.value, "truncation": _TRUNCATION.value}
    return of.evaluate(workdir, checkpoints=_CHECKPOINT.value, **options, **protocol)


def sweep(config, workdir: str) -> str:
    from jaxgan.sweep import sweep
    from jaxgan.sweeps.space import read_space

    experiment = config_flags.get_config_filename(FLAGS["config"])
    options = {"trials": _TRIALS.value, "objective": _OBJECTIVE.value}
    options["overrides"] = config_flags.get_override_values(FLAGS["config"])
    space = read_space(experiment, _SAMPLER.value)
    if _PBT.present:
        from jaxgan.population import Exploit
        from jaxgan.sweeps.evolution import evolve

        return evolve(config, workdir, space, Exploit(_PBT.value), **options)
    options |= {"sampler": _SAMPLER.value, "pruner": _PRUNER.value, "batch": _BATCH.value}
    return sweep(config, workdir, space, storage=_STORAGE.value, experiment=experiment, **options)


# What each mode does; gives the text that answers it. Modules are imported there, so that --help answers at once.
ACTIONS = {
    "train": train,
    "sample": sample,
    "eval": evaluate,
    "explore": explore,
    "sweep": sweep,
    "compile": compile_ahead,
    "profile": profile,
}


def parse_flags(argv: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(argv)
    except AttributeError as error:  # config_flags' way to say that an override names no field
        reason = error.args[0].args[0] if error.args and isinstance(error.args[0], KeyError) else error
        reason = " ".join(str(reason).split())
        sys.exit(f"error: the configuration has no field {reason}. Without it, --dry_run prints every field.")


if __name__ == "__main__":
    processor.prepare()
    app.run(main, flags_parser=parse_flags)
