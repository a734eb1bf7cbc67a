"""The loop: one function, read from top to bottom."""

import contextlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from absl import logging
from ml_collections import ConfigDict

from jaxgan import build, compilation, distributed
from jaxgan.data.sampler import in_rows
from jaxgan.interrupt import Interrupt
from jaxgan.run import Run
from jaxgan.state import TrainState
from jaxgan.update import repeat
from jaxgan.writers import ProgressLine


def train(
    config: ConfigDict,
    workdir: str,
    overrides: dict | None = None,
    report: Callable[[int, dict[str, float]], bool] | None = None,
    make_progress: Callable[[int], ProgressLine] = ProgressLine,
) -> TrainState:
    """Trains the experiment `config` in `workdir`, or goes on with it, until `config.duration` is reached.

    Killed at any moment and started again, it ends with the same numbers as if it had not been. Every process of a run
    calls this; see `jaxgan.distributed`. The first one writes.

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
    parallel = build.make_parallel(config)
    dataset = build.load_data(config)
    real = dataset.arrays["real"]
    experiment = build.make_experiment(config, real.shape[1:], len(real), build.label_counts(dataset))
    run = Run(config, workdir, dataset, experiment)

    # The record, and the state: a checkpoint's, or a new one.
    run.claim(overrides or {})
    state = run.restore(parallel.abstract_state(jax.eval_shape(experiment.new_state)))
    if state is None:
        state = parallel.create(experiment.new_state)
    step, total = int(state.step), run.total
    if run.is_complete(step):
        logging.info(
            "the run in %s is complete: %d of %d updates%s. To go on, ask for more with --config.duration=... (or "
            "--config.stop.metric=''), or choose another --workdir.",
            run.folder.path,
            step,
            total,
            ", as good as config.stop asks for" if run.is_satisfied else "",
        )
        run.checkpoints.close()
        return state
    logging.info("%s, %s, from update %d to %d", run.folder.path, parallel.describe(), step, total)

    # What the devices hold, and the compiled call of several updates.
    arrays = parallel.replicate(in_rows(dataset.arrays))
    index = parallel.split(jnp.arange(experiment.counting.images_per_step, dtype=jnp.int32))
    several = experiment.counting.steps_per_call
    single_call = call = compilation.once(parallel.compile(experiment.step, shared=1), "the update")
    if several > 1:
        many = parallel.compile(repeat(experiment.step, several), shared=1)
        call = compilation.once(many, f"the call of {several} updates")

    run.begin(make_progress(run.total))
    with contextlib.closing(run), Interrupt() as interrupt:
        agreement = distributed.Agreement()
        if step == 0:
            run.picture_of_the_start(state)
        stopping = False
        while not (run.is_complete(step) or stopping):
            # A run that comes from a machine with other calls may stand between two of this one's.
            updates = several if step % several == 0 else 1
            state, metrics = (call if updates == several else single_call)(state, index, arrays)
            step += updates
            run.push(step, metrics, updates)
            stopping = agreement.any(interrupt.signal_name is not None)
            if run.is_due(step, stopping):
                values = run.settle(state, step, stopping)
                if values is not None and report is not None and report(step, values):
                    stopping = True
            else:
                run.write()
        run.checkpoints.wait()
    run.log_end(step, interrupt.signal_name or "its caller, or a signal to another process")
    return state
