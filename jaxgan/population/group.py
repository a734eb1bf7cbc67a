"""The loop over a group: members that one program trains, with everything that a single run's loop does for each."""

import contextlib
import zlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
from absl import logging

from jaxgan.build import Experiment
from jaxgan.data.sampler import in_rows
from jaxgan.errors import DivergedError
from jaxgan.parallel import Parallel
from jaxgan.population.exploit import Exploit, Range, decide
from jaxgan.population.knobs import Values, column, leaf_of
from jaxgan.population.member import Member, Report
from jaxgan.population.program import Program
from jaxgan.state import TrainState
from jaxgan.writers import ProgressLine

Metrics = dict[str, jax.Array]


class _MeanLine(ProgressLine):
    """The progress line of members: the means of their rows, and the rate of all of them."""

    def __init__(self, total: int):
        super().__init__(total)
        self._is_shown = jax.process_index() == 0
        self._gathered: dict[int, list[tuple[dict, float]]] = {}

    def show(self, row: dict, seconds_left: float) -> None:
        """Keeps a member's row until `tell`."""
        self._gathered.setdefault(row["step"], []).append((row, seconds_left))

    def tell(self) -> None:
        """Shows the rows of each step as one; of several processes the first one does, for its own members."""
        for step, rows in sorted(self._gathered.items()) if self._is_shown else ():
            names = [name for name in rows[0][0] if all(name in row for row, _ in rows)]
            mean = {name: float(np.mean([row[name] for row, _ in rows])) for name in names}
            mean |= {"step": step, "images": rows[0][0]["images"]}
            if "images_per_second" in mean:
                mean["images_per_second"] *= len(rows)
            super().show(mean, max(left for _, left in rows))
        self._gathered = {}


class Together:
    """Members of one group, with their states in the slots of one program.

    Members that a kill has left at different steps are trained from the one that is farthest behind, while the others
    sleep in their slots, until all stand at the same step.

    Args:
        members: all of the group.
        states: that they begin with; None at step 0.
        experiment: of any of them.
        program: of the group.
        columns: the numbers in which they differ, [members].
        report: see `jaxgan.population.train_population`.
        exploit: how worse members go on from better ones; None where they do not.
        ranges: of the numbers that are explored then.
    """

    def __init__(
        self,
        members: Sequence[Member],
        states: Sequence[TrainState | None],
        experiment: Experiment,
        program: Program,
        columns: Values,
        report: Report,
        exploit: Exploit | None,
        ranges: dict[str, Range],
    ):
        self._members, self._program, self._report = members, program, report
        self._columns, self._exploit, self._ranges = dict(columns), exploit, ranges
        self._steps = [member.run.began_at for member in members]
        self._states = _stack(program, states)
        self._several = experiment.counting.steps_per_call
        self._index = program.divide(np.arange(experiment.counting.images_per_step, dtype=np.int32))
        self._is_shared = all(member.dataset is members[0].dataset for member in members)
        self._arrays = self._lay_out_data()
        self._run = members[0].run  # any: what is due when is the same for all of them
        self._progress = _MeanLine(self._run.total)

    def train(self, is_asked_to_stop: Callable[[], bool]) -> None:
        """The loop; see `jaxgan.train.train`, which it follows line by line."""
        single_call = self._program.compile(1, self._is_shared)
        call = self._program.compile(self._several, self._is_shared) if self._several > 1 else single_call
        with contextlib.ExitStack() as stack:
            for place, member in enumerate(self._members):
                stack.callback(member.close)
                if not member.is_over:
                    member.begin(self._progress)
                    if self._steps[place] == 0:
                        member.run.picture_of_the_start(self._program.member(self._states, place))
            stopping, in_flight = False, None
            while (places := self._behind()) and not stopping:
                step, until = self._steps[places[0]], self._next_stop(places)
                updates = self._several if step % self._several == 0 and step + self._several <= until else 1
                awake = self._program.awake([place in places for place in range(len(self._members))])
                given = (self._states, awake, self._program.values, self._index, self._arrays)
                self._states, metrics = (call if updates == self._several else single_call)(*given)
                step += updates
                for place in places:
                    self._steps[place] = step
                if in_flight:
                    self._take(*in_flight)
                in_flight = (places, step, metrics, updates)
                stopping = is_asked_to_stop()
                if self._run.is_due(step, stopping) or step == until:
                    self._take(*in_flight)
                    in_flight = None
                    self._settle([place for place in places if not self._members[place].is_over], step, stopping)
                else:
                    for place in places:
                        self._members[place].run.write()
                self._progress.tell()
            self._wait()

    def _behind(self) -> list[int]:
        """Who is to be trained next: those of the fewest updates."""
        open_ = [place for place, member in enumerate(self._members) if not member.is_over]
        fewest = min((self._steps[place] for place in open_), default=0)
        return [place for place in open_ if self._steps[place] == fewest]

    def _next_stop(self, places: Sequence[int]) -> int:
        """The step at which these members meet the next others; the end where there are none."""
        ahead = [s for s, member in zip(self._steps, self._members, strict=True) if not member.is_over]
        return min((s for s in ahead if s > self._steps[places[0]]), default=self._run.total)

    def _take(self, places: Sequence[int], step: int, metrics: Metrics, updates: int) -> None:
        """Hands each member the metrics of a call, which ends when it does."""
        host = jax.device_get(metrics)
        for place in places:
            member = self._members[place]
            if member.is_over:
                continue
            try:
                member.run.push(step, {name: value[place] for name, value in host.items()}, updates)
                member.run.flush()
            except DivergedError as error:
                member.diverge(error)

    def _settle(self, places: Sequence[int], step: int, stopping: bool) -> None:
        """What is due at this step, for those that have come to it just now."""
        members = [self._members[place] for place in places]
        with contextlib.ExitStack() as stack:
            for member in members:  # what one member has to wait for another's pictures is not its pace
                stack.enter_context(member.run.recorder.pause())
            is_exchange = self._exploit is not None and self._run.is_exchange(step, self._exploit.every)
            for place, member in zip(places, members, strict=True):
                state = self._program.member(self._states, place)
                member.look(state, step)
                if not is_exchange:
                    member.keep(state, step, stopping, self._report)
            if is_exchange:
                self._keep_exchange(self._exchange(places, step), places, step, stopping)
            for member in members:  # not before all are being saved: they share the wait for the disk
                if member.is_over:
                    member.seal()

    def _keep_exchange(self, revived: Sequence[int], places: Sequence[int], step: int, stopping: bool) -> None:
        """Saves what an exchange has made.

        It is on disk before anybody goes on: who has to make it again needs the others as they are now. It is made
        again by those who come to this step again, so who has not come to it is saved before them.
        """
        for some in (revived, places):
            for place in some:
                self._members[place].keep(self._program.member(self._states, place), step, stopping, self._report)
            self._wait()

    def _exchange(self, places: Sequence[int], step: int) -> list[int]:
        """Lets the worst go on from the best that stand at this step.

        A kill may have left some with the exchange behind them, which then is made again for the others alone: the best
        are still what they were, and so are everybody's numbers of the evaluation.

        Returns:
            Which of them had diverged.
        """
        if any(ahead > step and not m.is_over for ahead, m in zip(self._steps, self._members, strict=True)):
            logging.warning("update %d: the others are further; those behind them go on from their own states", step)
            return []
        present = [
            place
            for place, member in enumerate(self._members)
            if member.is_diverged or (self._steps[place] == step and member.outcome.status != "stopped")
        ]
        scores = {place: self._members[place].badness_at(step) for place in present}
        first = self._members[0]
        rng = np.random.default_rng(zlib.crc32(f"{first.run.config.seed}/{first.place}/{step}".encode()))
        revived, is_changed = [], False
        for copy in decide(self._exploit, scores, self._columns, self._ranges, rng):
            target = self._members[copy.target]
            if target.run.is_satisfied or not (target.is_diverged or copy.target in places):
                continue
            if target.is_diverged:
                revived.append(copy.target)
            self._steps[copy.target], is_changed = step, True
            target.take_over(step, copy, self._members[copy.source], self._progress)
            self._states = self._program.copy(self._states, copy.target, copy.source)
            for name, value in copy.values.items():
                self._columns[name][copy.target] = value
        if is_changed:
            self._states = self._program.change(self._states, self._columns)
        return revived

    def _wait(self) -> None:
        """Until all checkpoints are on disk."""
        for member in self._members:
            if member.is_open:
                member.run.checkpoints.wait()

    def _lay_out_data(self):
        first = self._members[0].dataset
        if self._is_shared:
            return self._program.share(in_rows(first.arrays))
        each = [in_rows(member.dataset.arrays) for member in self._members]
        return self._program.split({name: np.stack([arrays[name] for arrays in each]) for name in first.arrays})


def _stack(program: Program, states: Sequence[TrainState | None]) -> TrainState:
    """What members begin with, stacked: new states for those that have none."""
    if all(state is not None for state in states):
        return program.stack(states)
    new = program.new_states()
    if all(state is None for state in states):
        return new
    return program.stack([program.member(new, i) if state is None else state for i, state in enumerate(states)])


def train_group(
    members: Sequence[Member],
    experiment: Experiment,
    facts: tuple,
    names: Sequence[str],
    ranges: dict[str, Range],
    devices: Sequence[jax.Device],
    is_asked_to_stop: Callable[[], bool],
    report: Report,
    exploit: Exploit | None,
) -> None:
    """Trains a group to its end, or until a signal.

    Args:
        members: of the group.
        experiment: of the first of them.
        facts: see `Program`.
        names: of the numbers in which they differ.
        ranges: see `Together`.
        devices: see `jaxgan.population.train_population`, as `report` and `exploit`.
        is_asked_to_stop: tells of a signal.
    """
    like = Parallel("jit", devices).abstract(jax.eval_shape(experiment.new_state))
    states = [member.restore(like) for member in members]
    for member in members:
        if member.is_over:
            logging.info("%s: %s at update %d", member.run.folder.path, member.outcome.status, member.outcome.step)
            member.run.checkpoints.close()
    waiting = [member.run.began_at for member in members if not member.is_over]
    if not waiting:
        return
    columns = _columns(members, {*names, *ranges})
    program = Program(members[0].run.config, facts, columns, len(members), devices)
    logging.info("%d members (%s), from update %d", len(waiting), program.describe(), min(waiting))
    Together(members, states, experiment, program, columns, report, exploit, ranges).train(is_asked_to_stop)


def _columns(members: Sequence[Member], names: set[str]) -> Values:
    """The numbers in which members differ, or have come to differ by what they took over from others."""
    changed = [member.run.folder.values_at(member.run.began_at) for member in members]
    pairs = [(member.run.config, own) for member, own in zip(members, changed, strict=True)]
    every = sorted(names.union(*changed))
    return {name: column(name, [own.get(name, leaf_of(config, name)) for config, own in pairs]) for name in every}
