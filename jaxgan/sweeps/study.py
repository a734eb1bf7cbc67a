"""A sweep's trials in a storage that several workers may share: each run is taken, and finished, exactly once.

Every run of the sweep is a slot: an Optuna trial that waits from the beginning. A worker takes a slot, which Optuna
does atomically, and finishes it. A slot whose worker is stopped or dies is put back: a new trial of the same run, one
attempt later, waits, and only then the old one counts as failed, so that a crash in between loses nothing. Two workers
may put the same slot back, or fill the same study; of two trials with the same run and attempt the lower number counts.
"""

import math
import os
from collections.abc import Sequence

import optuna
from absl import logging
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from jaxgan.errors import CheckpointError, ConfigError
from jaxgan.sweeps.objective import Objective
from jaxgan.sweeps.runner import Outcome
from jaxgan.sweeps.samplers import make_sampler
from jaxgan.sweeps.space import Overrides, Suggest
from jaxgan.sweeps.worker import Heart, Watch, is_gone, owner_of
from jaxgan.workdir import differences, plain

MOST_DEATHS = 3  # of workers on one run, after which the run is to blame
_OF_A_WORKER = ("owner", "beat")


class Study:
    """See above.

    Args:
        storage: see `jaxgan.sweeps.storage`.
        name: of the study in it.
        objectives: what trials are judged by.
        sampler, seed: see `make_sampler`.
        pruner: gives up trials with one objective.
        record: what the sweep is of, in plain JSON; a study of something else is refused.
        heartbeat: seconds between a worker's signs of life.

    Raises:
        CheckpointError: the storage holds another sweep under this name.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        objectives: Sequence[Objective],
        sampler: str,
        seed: int,
        pruner: BasePruner,
        record: dict,
        heartbeat: float,
    ):
        self.objectives = tuple(objectives)
        self._sampler, self._seed, self._heartbeat = sampler, seed, heartbeat
        self._watch = Watch(heartbeat)
        self.optuna = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["minimize" if objective.lower_is_better else "maximize" for objective in objectives],
            pruner=pruner,
            load_if_exists=True,
        )
        # The study's directions are not compared by Optuna, and decide nothing where they differ from the record's.
        record = {**plain(record), "objectives": plain(self.objectives)}
        old = self.optuna.user_attrs.get("record")
        if old is None:
            self.optuna.set_user_attr("record", record)
        elif old != record:
            lines = [f"  {name}: {a!r} there, {b!r} here" for name, a, b in differences(old, record)]
            raise CheckpointError(
                "the sweep's study was begun with something else:\n" + "\n".join(lines) + "\nNothing was changed. "
                "Choose another --workdir, or start with the same configuration to go on."
            )

    def fill(self, runs: int, parameters: Sequence[tuple[dict, dict]] = (), points: Sequence[Overrides] = ()) -> None:
        """Lets runs 0 to `runs` - 1 wait, but for those that do so already or are further.

        Args:
            parameters: of each run, with their distributions, where they are given beforehand.
            points: the overrides of each run then.
        """
        there = {trial.user_attrs.get("run") for trial in self.trials()}
        for run in range(runs):
            if run not in there:
                attributes = {"run": run, "attempt": 0, "deaths": 0}
                if points:
                    attributes["overrides"] = plain(points[run])
                values, distributions = parameters[run] if parameters else ({}, {})
                self._add(values, distributions, attributes)

    def trials(self) -> list[FrozenTrial]:
        """All of Optuna's trials, superseded ones too."""
        return self.optuna.get_trials(deepcopy=False)

    def runs(self) -> dict[int, FrozenTrial]:
        """The trial that counts of each run, by the run's number."""
        counting: dict[int, FrozenTrial] = {}
        for trial in self.trials():  # in the order of their numbers
            run, attempt = trial.user_attrs.get("run"), trial.user_attrs.get("attempt")
            if run is not None and (run not in counting or attempt > counting[run].user_attrs["attempt"]):
                counting[run] = trial
        return dict(sorted(counting.items()))

    def is_finished(self) -> bool:
        """Whether nothing waits or runs."""
        return all(trial.state.is_finished() for trial in self.runs().values())

    def take(self, most: int) -> list[Trial]:
        """So many trials at most, taken from the waiting ones; [] where none waits."""
        self._bury_the_dead()
        taken: list[Trial] = []
        while len(taken) < most and any(trial.state == TrialState.WAITING for trial in self.trials()):
            trial = self.optuna.ask()
            run = trial.user_attrs.get("run")
            if run is None or self.runs()[run].number != trial.number:  # another worker was quicker, or filled too
                self._fail(trial.number)
                continue
            trial.set_user_attr("owner", owner_of(os.getpid()))
            taken.append(trial)
        return taken

    def trial(self, number: int) -> Trial:
        """A trial that this process or one beside it has taken, to report on and to finish."""
        return Trial(self.optuna, self.trials()[number]._trial_id)  # Optuna asks for no other name of it

    def overrides(self, trial: Trial, suggest: Suggest | None) -> Overrides:
        """What the trial tries: what it has tried before, or is given, or what the sampler suggests.

        Raises:
            ConfigError: what is suggested contradicts itself, or what was suggested before.
        """
        if "overrides" not in trial.user_attrs:
            self.optuna.sampler = make_sampler(self._sampler, self._seed, trial.user_attrs["run"])
            try:
                suggested = suggest(trial)
            except ValueError as error:  # Optuna's, of choices that are not those of the trials before
                raise ConfigError(f"search_space(trial): {error} Where the space was changed, take another --workdir.")
            trial.set_user_attr("overrides", plain(suggested))
        return trial.user_attrs["overrides"]

    def heart(self, trials: Sequence[Trial]) -> Heart:
        """Lets other workers see that this one is alive."""

        def beat_of(trial):
            def beat(count):
                try:
                    trial.set_user_attr("beat", count)
                except optuna.exceptions.UpdateFinishedTrialError:
                    return False
                return True

            return beat

        return Heart([beat_of(trial) for trial in trials], self._heartbeat)

    def report(self, trial: Trial, step: int, values: dict[str, float]) -> bool:
        """Notes an evaluation; whether the trial shall be given up, or is another worker's by now."""
        if len(self.objectives) > 1:
            return False
        try:
            if step not in self._of(trial).intermediate_values:  # a run that goes on may come by a step again
                trial.report(self.objectives[0].of(values), step)
        except optuna.exceptions.UpdateFinishedTrialError:
            return True
        return bool(trial.should_prune())

    def finish(self, trial: Trial, outcome: Outcome, is_pruned: bool = False) -> None:
        """Tells how a trial ended; a stopped one that is not pruned waits again."""
        numbers = [objective.of(outcome.values) for objective in self.objectives]
        try:
            if self.runs()[trial.user_attrs["run"]].number != trial.number:
                raise optuna.exceptions.UpdateFinishedTrialError
            trial.set_user_attr("values", outcome.values)
            if outcome.status == "complete" and all(map(math.isfinite, numbers)):
                self.optuna.tell(trial, numbers)
            elif outcome.status == "stopped" and is_pruned:
                self.optuna.tell(trial, state=TrialState.PRUNED)
            elif outcome.status == "stopped":
                self.put_back(trial)
            else:
                missing = f"the objectives are {numbers}"
                trial.set_user_attr("reason", missing if outcome.status == "complete" else outcome.reason)
                self.optuna.tell(trial, state=TrialState.FAIL)
        except optuna.exceptions.UpdateFinishedTrialError:
            logging.warning("another worker has taken run %d over; it keeps it", trial.user_attrs["run"])

    def put_back(self, trial: Trial) -> None:
        """Lets a trial of this worker wait again, with all that it has reached."""
        self._put_back(self._of(trial), deaths=0)

    def _bury_the_dead(self) -> None:
        for run, trial in self.runs().items():
            if trial.state != TrialState.RUNNING:
                continue
            owner, beat = trial.user_attrs.get("owner"), trial.user_attrs.get("beat", 0)
            if is_gone(owner) or self._watch.is_silent(trial.number, beat):
                logging.warning("run %d: its worker has died (%s); it is tried again", run, owner)
                self._put_back(trial, deaths=1)

    def _put_back(self, trial: FrozenTrial, deaths: int) -> None:
        attributes = {name: value for name, value in trial.user_attrs.items() if name not in _OF_A_WORKER}
        attributes |= {"attempt": attributes["attempt"] + 1, "deaths": attributes["deaths"] + deaths}
        if attributes["deaths"] < MOST_DEATHS and self.runs()[attributes["run"]].number == trial.number:
            self._add(trial.params, trial.distributions, attributes, trial.system_attrs, trial.intermediate_values)
        self._fail(trial.number)

    def _add(self, params, distributions, attributes, system_attributes=None, intermediate_values=None) -> None:
        trial = optuna.create_trial(
            state=TrialState.WAITING,
            params=params,
            distributions=distributions,
            user_attrs=attributes,
            system_attrs=system_attributes,
            intermediate_values=intermediate_values,
        )
        self.optuna.add_trial(trial)

    def _fail(self, number: int) -> None:
        try:
            self.optuna.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        except optuna.exceptions.UpdateFinishedTrialError:
            logging.debug("trial %d was finished by another worker at the same moment", number)

    def _of(self, trial: Trial) -> FrozenTrial:
        return self.trials()[trial.number]
