"""What a finished or running work folder is asked for afterwards: samples, and how good they are."""

import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgan import build, data, distributed, pictures
from jaxgan.album import draw_samples
from jaxgan.checkpoint import Checkpoints
from jaxgan.console import progress_of
from jaxgan.data.cache import default_data_dir
from jaxgan.errors import CheckpointError, ConfigError, DataError
from jaxgan.evaluation import Evaluator, count_text, make_evaluator
from jaxgan.games import Game
from jaxgan.judge import as_measured
from jaxgan.parallel import Parallel
from jaxgan.reference import Extracted, plain_name
from jaxgan.sampling import Generator
from jaxgan.state import TrainState
from jaxgan.workdir import Workdir

_SHOWN = 100  # samples in the grid


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run read back from its work folder; needs no data set."""

    config: ConfigDict
    game: Game
    state: TrainState


def load_trained(workdir: str, checkpoint: str = "last") -> Trained:
    """A checkpoint of a work folder, with its configuration and game.

    Args:
        workdir: of the run.
        checkpoint: "last" (the newest that can be read), "best", or a step.

    Raises:
        CheckpointError: there is no run, or no such checkpoint.
        ConfigError: the text names no checkpoint.
    """
    folder = Workdir(workdir)
    record, config = folder.read_record(), read_config(workdir)
    facts = record["data"]
    experiment = build.make_experiment(config, facts["shape"], facts["examples"], facts["label_counts"])
    like = Parallel("jit" if jax.process_count() == 1 else "shard_map").abstract(jax.eval_shape(experiment.new_state))
    checkpoints = Checkpoints(folder.checkpoints, read_only=True)
    try:
        restored = _restore(checkpoints, checkpoint, like)
    finally:
        checkpoints.close()
    if restored is None:
        raise CheckpointError(f"{folder.path} holds no checkpoint yet; train for longer")
    return Trained(config, experiment.game, restored[0])


def read_config(workdir: str) -> ConfigDict:
    """The configuration of a run; CheckpointError where there is none."""
    return ConfigDict(Workdir(workdir).read_record()["config"], convert_dict=True)


def _restore(checkpoints: Checkpoints, checkpoint: str, like: TrainState):
    if checkpoint == "last":
        return checkpoints.restore_newest(like)
    steps = checkpoints.steps()
    step = checkpoints.best_step() if checkpoint == "best" else int(checkpoint) if checkpoint.isdecimal() else -1
    if step is None:
        raise CheckpointError("no checkpoint of this run has been measured, so none is the best; try --checkpoint=last")
    if step not in steps:
        known = ", ".join(map(str, steps))
        raise ConfigError(f"--checkpoint={checkpoint}: there are best, last, and the steps {known}")
    return checkpoints.restore(step, like)


def evaluate(
    workdir: str,
    *,
    checkpoints: Sequence[str] = ("best", "last"),
    num_samples: int = 5000,
    seed: int = 0,
    ema: bool = True,
    truncation: float | None = None,
    **protocol: Any,
) -> str:
    """Measures checkpoints of a run with every metric that there is for its data; adds them to its evaluation.json.

    Args:
        workdir: of the run.
        checkpoints: see `load_trained`. One that is the same as another is measured once.
        num_samples: how many.
        seed: of the samples.
        ema: the averaged generator; False: the raw one.
        truncation: see `sample`.
        protocol: `features`, `metrics`, `weights`, `resize`, `split`, `statistics` of `make_evaluator`; what is left
            out is the run's.

    Returns:
        A table of the numbers, with the floor (one half of the reference against the other) beside them.

    Raises:
        ConfigError, DataError, CheckpointError: something asked for is not there.
    """
    if num_samples < 2:
        raise ConfigError(f"--num_samples={num_samples}: two or more are needed")
    runs = {}
    for checkpoint in checkpoints:
        trained = load_trained(workdir, checkpoint)
        names, _ = runs.get(int(trained.state.step), ([], None))
        runs[int(trained.state.step)] = ([*names, checkpoint], trained)
    _, any_of_them = next(iter(runs.values()))
    evaluator, generator = _make_evaluator(any_of_them.config, **protocol), Generator(any_of_them.game)
    lowest, columns = distributed.from_main(evaluator.floor), {}
    for step, (names, trained) in runs.items():
        samples = _draw(generator, trained.state, jax.random.key(seed), num_samples, ema, truncation=truncation)
        fake = evaluator.extract(as_measured(samples))
        how = {"ema": ema, "seed": seed, **({"truncation": truncation} if truncation is not None else {})}
        entry = {"step": step, **how, **evaluator.protocol(num_samples)}
        entry |= distributed.from_main(lambda fake=fake: _measured(evaluator, fake, lowest))
        if distributed.is_main():
            Workdir(workdir).note_evaluation(entry)
        columns[f"{' and '.join(names)} (step {step})"] = entry
    return table(columns, evaluator)


def evaluate_samples(path: str, config: ConfigDict, **protocol: Any) -> str:
    """Measures samples that somebody made: an .npz (arr_0, or the first array) or a folder.

    Args:
        path: of the file, uint8 [N, H, W, C] or points [N, D], or of a folder of pictures.
        config: names the reference's data set, see experiments/common.py.
        protocol: see `evaluate`.

    Returns:
        A table, see `evaluate`. The entry is written to evaluation.json beside the samples.

    Raises:
        ConfigError, DataError: something asked for is not there.
    """
    evaluator = _make_evaluator(config, **protocol)
    samples = read_samples(path)
    lowest = distributed.from_main(evaluator.floor)
    entry = {"path": str(path), **evaluator.protocol(len(samples))}
    fake = evaluator.extract(samples)
    entry |= distributed.from_main(lambda: _measured(evaluator, fake, lowest))
    if distributed.is_main():
        Workdir(pathlib.Path(path).absolute().parent).note_evaluation(entry)
    return table({pathlib.Path(path).name: entry}, evaluator)


def read_samples(path: str) -> np.ndarray:
    """Samples from an .npz or a folder of pictures of one size.

    Raises:
        DataError: there are none.
    """
    if pathlib.Path(path).is_dir():
        return data.load("folder", path=path).arrays["real"]
    try:
        with np.load(path, allow_pickle=False) as stored:
            samples = stored["arr_0" if "arr_0" in stored else stored.files[0]]
    except Exception as error:  # NumPy raises anything, from BadZipFile to SyntaxError, for a damaged file
        raise DataError(f"cannot read samples from {path}: {error}. An .npz with one array, or a folder of pictures.")
    if not (samples.ndim == 4 and samples.dtype == np.uint8) and samples.ndim != 2:
        raise DataError(f"{path} holds {samples.dtype} {samples.shape}; uint8 [N, H, W, C] or points [N, D] are needed")
    return samples


def table(columns: dict[str, dict], evaluator: Evaluator) -> str:
    """The numbers of entries side by side, with the floor beside them and the classes of the samples below.

    Statistics from a file have no halves, and so no floor.
    """
    first, *_ = columns.values()
    half = count_text(evaluator.reference_size // 2)
    rows = [["", *columns, f"floor ({half} real against {half})" if first["floor"] else ""]]
    floors = [*first["floor"].values()] or [None] * len(first["values"])
    for (name, _), lowest in zip(first["values"].items(), floors, strict=True):
        numbers = [f"{entry['values'][name]:.4g}" for entry in columns.values()]
        rows.append([name, *numbers, "" if lowest is None else f"{lowest:.4g}"])
    for label in first.get("labels", {}):
        rows.append([f"taken for {label}", *(str(entry["labels"][label]) for entry in columns.values()), ""])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _measured(evaluator: Evaluator, fake: Extracted, lowest: dict[str, float]) -> dict[str, Any]:
    values = evaluator.named(evaluator.measure_features(fake), len(fake.features))
    half = evaluator.reference_size // 2  # the part that stands for the samples, see Evaluator.floor
    entry = {"values": values, "floor": evaluator.named(lowest, half), "time": round(time.time())}
    labels = evaluator.histogram(fake)
    return {**entry, "labels": labels} if labels else entry


def _make_evaluator(config: ConfigDict, **protocol: Any) -> Evaluator:
    c, split = config.eval, protocol.pop("split", "") or config.eval.split or config.data.split
    own = {"features": c.features, "weights": c.weights, "resize": c.resize}
    asked = {name: value for name, value in protocol.items() if value}
    if asked.get("features", c.features) != c.features:  # the run's resize and weights are its own network's
        own |= {"weights": c.weights if asked["features"] == "inception" else "", "resize": ""}
    kept = default_data_dir() / "jaxgan_statistics"
    return make_evaluator(build.load_data(config, split), split=split, keep_in=kept, **{**own, **asked})


def sample(
    workdir: str, num_samples: int, seed: int = 0, *, classes: Sequence[str] = (), truncation: float | None = None
) -> tuple[pathlib.Path, pathlib.Path]:
    """Draws samples from the averaged (EMA) generator of a work folder's newest checkpoint.

    Args:
        workdir: of a run.
        num_samples: how many.
        seed: other seeds give other samples; sample i of a seed does not depend on `num_samples`.
        classes: of a conditional generator, by name or number, taken in turn; none: such as the data has.
        truncation: less variety for more quality, see `Game.decode`.

    Returns:
        The files written into samples/: an .npz with the array "arr_0" (uint8 [N, H, W, C] for pictures, float32 [N, D]
        for points, the layout that FID tools read), and a PNG grid of the first 100.

    Raises:
        ConfigError: num_samples is below 1, or a class is unknown.
        CheckpointError: there is nothing to sample from.
    """
    if num_samples < 1:
        raise ConfigError(f"--num_samples={num_samples}: at least one sample has to be asked for")
    trained = load_trained(workdir)
    folder = Workdir(workdir).samples
    labels = _labels(classes, Workdir(workdir).read_record()["data"]["label_names"], num_samples, trained.game)
    options = {"labels": labels, "truncation": truncation}
    samples = _draw(Generator(trained.game), trained.state, jax.random.key(seed), num_samples, **options)
    stem = f"generated_step_{int(trained.state.step):09}_seed_{seed}_n_{num_samples}"
    stem += f"_of_{'_'.join(map(plain_name, classes))}" if classes else ""
    stem += f"_truncation_{truncation:g}" if truncation is not None else ""
    is_pictures = samples.ndim == 4
    shown = samples[:_SHOWN] if is_pictures else samples
    if distributed.is_main():
        pictures.save_png(draw_samples(shown, columns=min(10, num_samples)), folder / f"{stem}.png")
        np.savez(folder / f"{stem}.npz", pictures.to_uint8(samples) if is_pictures else samples)
    return folder / f"{stem}.npz", folder / f"{stem}.png"


def _labels(classes: Sequence[str], names: Sequence[str], n: int, game: Game) -> np.ndarray | None:
    """Labels [n] from what a person typed."""
    if not classes:
        return None
    if game.conditions is None:
        raise ConfigError("--classes: this run's generator was trained without labels")
    numbers = {str(n): n for n in range(len(names))} | {name: number for number, name in enumerate(names)}
    unknown = [name for name in classes if name not in numbers]
    if unknown:
        raise ConfigError(f"--classes: there is no {', '.join(unknown)}; known: {', '.join(names)}")
    return np.resize([numbers[name] for name in classes], n)


def _draw(
    generator: Generator,
    state: TrainState,
    key: jax.Array,
    n: int,
    ema: bool = True,
    labels: np.ndarray | None = None,
    truncation: float | None = None,
    part: int = 4096,
) -> np.ndarray:
    """Samples in parts, so that progress can be told."""
    tell, parts = progress_of("samples"), []
    for first in range(0, n, part):
        own = None if labels is None else labels[first : first + part]
        options = {"labels": own, "truncation": truncation}
        parts.append(generator.samples(state, key, min(part, n - first), ema=ema, first=first, **options))
        tell(min(first + part, n), n)
    return np.concatenate(parts)
