"""Trains an experiment, or asks a work folder for samples. Flags only; the work is in jaxgan/.

    python launch.py --config=experiments/dcgan.py
    python launch.py --config=experiments/dcgan.py:fashion_mnist --config.batch_size=128 --workdir=runs/fashion
    python launch.py --mode=sample --workdir=runs/dcgan --num_samples=5000
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

FLAGS = flags.FLAGS
_CONFIG = config_flags.DEFINE_config_file("config", None, "An experiment: experiments/NAME.py or NAME.py:VARIANT.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; runs/<experiment> if not given.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "sample"], "What to do.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print configuration, parameter counts and devices; train nothing.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 64, "With --mode=sample: how many.")
_SEED = flags.DEFINE_integer("seed", 0, "With --mode=sample: which samples.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; overrides are written --config.name=value")
    config = _CONFIG.value
    if config is None and (_MODE.value == "train" or _WORKDIR.value is None):
        raise app.UsageError("name an experiment, for instance --config=experiments/dcgan.py")
    workdir = _WORKDIR.value or str(pathlib.Path("runs") / config.experiment)
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
        else:
            from jaxgan.evaluate import sample

            for file in sample(workdir, _NUM_SAMPLES.value, _SEED.value):
                print(file)
    except (errors.JaxganError, OSError) as error:
        logging.debug("where it happened", exc_info=True)
        sys.exit(f"\nerror: {error}")


def parse_flags(argv: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(argv)
    except AttributeError as error:  # config_flags' way to say that an override names no field
        reason = error.args[0].args[0] if error.args and isinstance(error.args[0], KeyError) else error
        reason = " ".join(str(reason).split())
        sys.exit(f"error: the configuration has no field {reason}. Without it, --dry_run prints every field.")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
