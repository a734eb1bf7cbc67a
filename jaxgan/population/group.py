"""The loop over a group: members that one program trains, with everything that a single run's loop does for each."""

import contextlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from jaxgan.build import Experiment
from jaxgan.errors import DivergedError
from jaxgan.interrupt import Interrupt
from jaxgan.parallel import Parallel
from jaxgan.population.knobs import Values
from jaxgan.population.member import Member, Report
from jaxgan.population.program import Program
from jaxgan.state import TrainState
from jaxgan.writers import ProgressLine

Metrics = dict[str, jax.Array]


class _MeanLine(ProgressLine):
    """The progress line of members: the means of their rows, and the rate of all of them."""

    def __init__(self, total: int):
        super().__init__(total)
        self._gathered: dict[int, list[tuple[dict, float]]] = {}

    def show(self, row: dict, seconds_left: float) -> None:
        """Keeps a member's row until `tell`."""
        self._gathered.setdefault(row["step"], []).append((row, seconds_left))

    def tell(self) -> None:
        """Shows the rows of each step as one."""
        for step, rows in sorted(self._gathered.items()):
            mean = {name: float(np.mean([row[name] for row, _ in rows])) for name in rows[0][0]}
            mean |= {"step": step, "images": rows[0][0]["images"]}
            if "images_per_second" in mean:
                mean["images_per_second"] *= len(rows)
            super().show(mean, max(left for _, left in rows))
        self._gathered = {}


class Together:
    """Members of one group that stand at the same step.

    Args:
        members: all of the group.
        places: which of them stand at this step; the others sleep in their slots, so that the program stays the same.
        states: to begin with, one for each member of the group, whatever it is for a sleeper; None at step 0.
        experiment: of any of them.
        program: of the group.
        report: see `jaxgan.population.train_population`.
    """

    def __init__(
        self,
        members: Sequence[Member],
        places: Sequence[int],
        states: Sequence[TrainState] | None,
        experiment: Experiment,
        program: Program,
        report: Report,
    ):
        self._members, self._places, self._program, self._report = members, places, program, report
        self._states = program.new_states() if states is None else program.stack(states)
        self._several = experiment.counting.steps_per_call
        self._index = program.share(jnp.arange(experiment.counting.images_per_step, dtype=jnp.int32))
        self._is_shared = all(member.dataset is members[0].dataset for member in members)
        self._arrays = self._lay_out_data()
        self._progress = _MeanLine(members[0].run.total)

    def train(self, interrupt: Interrupt) -> None:
        """The loop; see `jaxgan.train.train`, which it follows line by line."""
        first = self._members[self._places[0]].run
        step, several = first.began_at, self._several
        single_call = self._program.compile(1, self._is_shared)
        call = self._program.compile(several, self._is_shared) if several > 1 else single_call
        with contextlib.ExitStack() as stack:
            for place, member in self._awake:
                member.run.begin(self._progress)
                stack.callback(member.run.close)
                if step == 0:
                    member.run.picture_of_the_start(self._program.member(self._states, place))
            stopping, in_flight = False, None
            while self._awake and not stopping:
                updates = several if step % several == 0 else 1
                awake = [place for place, _ in self._awake]
                awake = self._program.awake([place in awake for place in range(len(self._members))])
                given = (self._states, awake, self._program.values, self._index, self._arrays)
                self._states, metrics = (call if updates == several else single_call)(*given)
                step += updates
                if in_flight:
                    self._take(*in_flight)
                in_flight = (step, metrics, updates)
                stopping = interrupt.signal_name is not None
                if first.is_due(step, stopping):
                    self._take(*in_flight)
                    self._settle(step, stopping)
                    in_flight = None
                else:
                    for _, member in self._awake:
                        member.run.write()
                self._progress.tell()
            for place in self._places:
                self._members[place].run.checkpoints.wait()

    @property
    def _awake(self) -> list[tuple[int, Member]]:
        return [(place, self._members[place]) for place in self._places if not self._members[place].is_over]

    def _take(self, step: int, metrics: Metrics, updates: int) -> None:
        """Hands each member the metrics of a call, which ends when it does."""
        host = jax.device_get(metrics)
        for place, member in self._awake:
            try:
                member.run.push(step, {name: value[place] for name, value in host.items()}, updates)
                member.run.flush()
            except DivergedError as error:
                member.diverge(error)

    def _settle(self, step: int, stopping: bool) -> None:
        awake = self._awake
        with contextlib.ExitStack() as stack:
            for _, member in awake:  # what one member has to wait for another's pictures is not its pace
                stack.enter_context(member.run.recorder.pause())
            for place, member in awake:
                member.settle(self._program.member(self._states, place), step, stopping, self._report)

    def _lay_out_data(self):
        first = self._members[0].dataset
        if self._is_shared:
            return self._program.share({name: np.asarray(array) for name, array in first.arrays.items()})
        each = [member.dataset.arrays for member in self._members]
        return self._program.split({name: np.stack([arrays[name] for arrays in each]) for name in first.arrays})


def train_group(
    members: Sequence[Member],
    experiment: Experiment,
    facts: tuple,
    values: Values,
    devices: Sequence[jax.Device],
    interrupt: Interrupt,
    report: Report,
) -> None:
    """Trains a group to its end, or until a signal.

    Args:
        members: of the group.
        experiment: of the first of them.
        facts: see `Program`.
        values: the numbers in which they differ.
        devices: see `jaxgan.population.train_population`, as `report`.
        interrupt: tells of a signal.
    """
    like = Parallel("jit", devices).abstract(jax.eval_shape(experiment.new_state))
    states = [member.restore(like) for member in members]
    at_step: dict[int, list[int]] = {}
    for place, member in enumerate(members):
        if member.is_over:
            logging.info("%s: %s at update %d", member.run.folder.path, member.outcome.status, member.outcome.step)
            member.run.checkpoints.close()
        else:
            at_step.setdefault(member.run.began_at, []).append(place)
    program = Program(members[0].run.config, facts, values, len(members), devices)
    for step, places in sorted(at_step.items()):
        if interrupt.signal_name is not None:
            break
        logging.info("%d members (%s), from update %d", len(places), program.describe(), step)
        given = [states[place if place in places else places[0]] for place in range(len(members))] if step else None
        Together(members, places, given, experiment, program, report).train(interrupt)
