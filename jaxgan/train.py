"""The loop: one function, read from top to bottom."""

import contextlib
from collections.abc import Callable

import jax
from absl import logging
from ml_collections import ConfigDict

from jaxgan import build, compilation, distributed
from jaxgan.feed import make_feed
from jaxgan.interrupt import Interrupt
from jaxgan.overrides import with_values
from jaxgan.run import Run
from jaxgan.state import TrainState
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
    facts = (real.shape[1:], len(real), build.label_counts(dataset))
    experiment = build.make_experiment(config, *facts)
    run = Run(config, workdir, dataset, experiment)

    # The record, and the state: a checkpoint's, or a new one.
    run.claim(overrides or {})
    state = run.restore(parallel.abstract_state(jax.eval_shape(experiment.new_state)))
    if state is None:
        state = parallel.create(experiment.new_state)
    step, total = int(state.step), run.total
    if values := run.folder.values_at(step):
        experiment = build.make_experiment(with_values(config, values), *facts)
        logging.info(
            "%s was a member of a population. In the place of what its config.json says it goes on with what it has "
            "taken over from others there (lineage.json): %s",
            run.folder.path,
            ", ".join(f"{name} = {value:.6g}" for name, value in values.items()),
        )
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

    # What the devices are given, and the compiled call of several updates.
    feed = make_feed(dataset, experiment, parallel, config.data.get("workers", 0))
    several = experiment.counting.steps_per_call
    single_call = call = compilation.once(feed.compile(1), "the update")
    if several > 1:
        call = compilation.once(feed.compile(several), f"the call of {several} updates")

    run.begin(make_progress(run.total))
    with contextlib.closing(run), contextlib.closing(feed), Interrupt() as interrupt:
        feed.begin(state, total)
        agreement = distributed.Agreement()
        if step == 0:
            run.picture_of_the_start(state)
        stopping = False
        while not (run.is_complete(step) or stopping):
            updates = experiment.counting.updates_from(step)
            given = feed.take(idle=run.flush)
            state, metrics = (call if updates == several else single_call)(state, *given)
            step += updates
            run.push(step, metrics, updates, feed.waited)
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
