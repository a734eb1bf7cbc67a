"""The loop: one function, read from top to bottom."""

import contextlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from jaxgan import build
from jaxgan.album import Album
from jaxgan.checkpoint import Checkpoints
from jaxgan.health import Health, Thresholds
from jaxgan.interrupt import Interrupt
from jaxgan.judge import Judge, make_judge
from jaxgan.parallel import Parallel
from jaxgan.recorder import Recorder
from jaxgan.sampling import Generator
from jaxgan.state import TrainState
from jaxgan.update import repeat
from jaxgan.workdir import Workdir
from jaxgan.writers import MetricsFile, ProgressLine, TensorBoard


def train(
    config: ConfigDict,
    workdir: str,
    overrides: dict | None = None,
    report: Callable[[int, dict[str, float]], bool] | None = None,
    make_progress: Callable[[int], ProgressLine] = ProgressLine,
) -> TrainState:
    """Trains the experiment `config` in `workdir`, or goes on with it, until `config.duration` is reached.

    Killed at any moment and started again, it ends with the same numbers as if it had not been.

    Args:
        config: see experiments/common.py for every field.
        workdir: the run's folder; see `jaxgan.workdir`.
        overrides: what was changed on the command line, for the record.
        report: given the step and the numbers of each evaluation; where it says True before the end, the run stops
            there as by a signal, with a checkpoint to go on from.
        make_progress: `(total updates) -> ` what shows the rows as they are written.

    Returns:
        The state at the end, or at the step where SIGTERM, SIGINT or `report` stopped the run.

    Raises:
        JaxganError: whatever the person who started the run can mend.
    """
    # What is asked for. Everything that can be wrong is found before anything is written.
    parallel = Parallel(config.parallel)
    parallel.check_batch_size(config.batch_size, config.game.get("packing", 1))
    dataset = build.load_data(config)
    real = dataset.arrays["real"]
    label_counts = build.label_counts(dataset)
    counting, game, one_update, new_state = build.make_experiment(config, real.shape[1:], len(real), label_counts)
    total = counting.steps(config.duration)
    sample_every, checkpoint_every = counting.steps(config.sample_every), counting.steps(config.checkpoint_every)
    eval_every = counting.steps(config.eval.every)
    generator = Generator(game)
    key_pictures, key_judge = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1))
    judge = make_judge(config, dataset, generator, key_judge, eval_every)

    # The record, and the state: a checkpoint's, or a new one.
    folder = Workdir(workdir)
    facts = {"name": dataset.name, "shape": real.shape[1:], "dtype": str(real.dtype), "examples": len(real)}
    facts |= {"label_names": dataset.label_names, "label_counts": label_counts}
    folder.claim(config, overrides or {}, facts)
    checkpoints = Checkpoints(folder.checkpoints, config.checkpoint.keep)
    restored = checkpoints.restore_newest(parallel.abstract(jax.eval_shape(new_state)))
    state, memory = restored or (parallel.replicate(jax.jit(new_state)()), {})
    step = int(state.step)
    if judge:
        judge.remember(memory.get("judge"))
    if step >= total or is_good_enough(judge):
        logging.info(
            "the run in %s is complete: %d of %d updates%s. To go on, ask for more with --config.duration=... (or "
            "--config.stop.metric=''), or choose another --workdir.",
            folder.path,
            step,
            total,
            ", as good as config.stop asks for" if is_good_enough(judge) else "",
        )
        checkpoints.close()
        return state
    folder.note_environment()
    logging.info("%s, %s, from update %d to %d", folder.path, parallel.describe(), step, total)

    # What the devices hold, and the compiled call of several updates.
    arrays = parallel.replicate({name: np.asarray(array) for name, array in dataset.arrays.items()})
    index = parallel.split(jnp.arange(counting.images_per_step, dtype=jnp.int32))
    several = counting.steps_per_call
    single_call = parallel.compile(one_update, shared=1)
    call = parallel.compile(repeat(one_update, several), shared=1) if several > 1 else single_call

    # What watches and writes.
    h = config.health
    health = Health(Thresholds(counting.steps(h.patience), h.accuracy, h.vanished, h.collapsed), memory.get("health"))
    recorder = Recorder(counting, counting.steps(config.log_every), health, memory.get("recorder"))
    recorder.last_good = step or None
    metrics_file = MetricsFile(folder.metrics, after=step)
    tensorboard = TensorBoard(folder.tensorboard, after=step)
    progress = make_progress(total)
    album = Album(generator, dataset, folder, tensorboard, key_pictures, config.sample.rows, config.sample.columns)

    def write(rows):
        for row in rows:
            metrics_file.write(row)
            tensorboard.scalars(row)
            progress.show(row, recorder.seconds_left(row["step"], total))

    with contextlib.ExitStack() as stack:
        for opened in (checkpoints, tensorboard, metrics_file, progress):
            stack.callback(opened.close)
        interrupt = stack.enter_context(Interrupt())
        if step == 0:
            album.add(state, step)

        stopping = False
        while step < total and not stopping and not is_good_enough(judge):
            # A run that comes from a machine with other calls may stand between two of this one's.
            updates = several if step % several == 0 else 1
            state, metrics = (call if updates == several else single_call)(state, index, arrays)
            step += updates
            rows = recorder.push(step, metrics, updates)

            stopping, at_end = interrupt.signal_name is not None, step >= total
            is_sample = at_end or due(step, sample_every)
            is_evaluation = judge is not None and (at_end or due(step, eval_every))
            is_checkpoint = at_end or stopping or is_evaluation or due(step, checkpoint_every)
            if is_sample or is_checkpoint:
                # The updates so far have to be good before anything is made of them, and their rows come first.
                rows += recorder.flush()
                with recorder.pause():
                    badness = None
                    if is_evaluation:
                        values, badness = judge.measure(state, step)
                        merge(rows, counting.row(step), values)
                        folder.note_evaluation(judge.record(step, values))
                        at_end = at_end or judge.is_satisfied
                        if report is not None and report(step, values):
                            stopping = True
                    if is_sample or at_end:
                        album.add(state, step)
                    if at_end:
                        album.finish(state)
                    write(rows)
                    if is_checkpoint:
                        host = {"recorder": recorder.memory, "health": health.memory}
                        host["judge"] = judge.memory if judge else memory.get("judge")
                        checkpoints.save(state, host, badness)
                        recorder.last_good = step
            else:
                write(rows)
        checkpoints.wait()

    stopped_by = interrupt.signal_name or "its caller"
    ended = "complete" if step >= total else f"stopped by {stopped_by}; the same command goes on"
    if is_good_enough(judge):
        ended = f"complete, because {config.stop.metric} is as good as config.stop asks for"
    logging.info("%s: update %d of %d; pictures in %s", ended, step, total, folder.samples)
    return state


def is_good_enough(judge: Judge | None) -> bool:
    """Whether the run has reached what `config.stop` asks for, if it is evaluated at all."""
    return judge is not None and judge.is_satisfied


def due(step: int, every: int) -> bool:
    """Whether something that happens every so many updates happens now; never, where `every` is 0."""
    return every > 0 and step % every == 0


def merge(rows: list[dict], row: dict, values: dict) -> None:
    """Adds values to the row of this step, which is made if it is not the last of `rows`: a step has one row."""
    if not rows or rows[-1]["step"] != row["step"]:
        rows.append(row)
    rows[-1].update(values)
