"""Populations: many runs trained by one compiled program.

    train_population(configs, workdirs)   # a configuration and a work folder for each member

Members are full configurations. Those that differ in traced values alone (`jaxgan.population.knobs`: seeds, the
optimizers' numbers, weights of penalties and heads, label smoothing, the average's half-life, augmentation) form a
group, found by itself, which is compiled once: the update is a single run's, made inside the program from a
configuration in which those numbers are traced, so a member's run is the run that it would have had alone, to float
rounding. Every other difference (widths, losses, batch sizes, durations) makes another group; groups are trained one
after another. `jaxgan.population.program` says how members are laid out: mapped one after another on a CPU, vectorised
on GPU and TPU (`config.population` chooses otherwise), divided over the devices of this process. A member has one
device, whatever `config.parallel` says, or `config.population_devices` of them, over which its batch is split.

A member's folder is that of a single run: `--mode=eval` and `--mode=sample` take it, and `jaxgan.train.train` goes on
with it. Beside it lies outcome.json. A member whose numbers are no longer finite, or that the caller stops, is frozen:
it costs nothing more on a CPU, and the others do not notice.

Killed and started again, each member goes on from its newest checkpoint, and ends with the same numbers as if nothing
had happened. Of those whom a kill has left at different steps the ones behind are trained first, in the same program,
where the others sleep, until all stand at the same step: nobody loses or repeats an update. Frozen members stay frozen.

In a run of several processes (`jaxgan.distributed`) each trains its share of the members on its own devices, and writes
their folders; nothing is sent between them until the end, when all are told of all outcomes. Another number of
processes goes on with the members just so. A signal to one process stops all of them; where one is lost the others end.

With `exploit` a population is trained as one (population-based training, `jaxgan.population.exploit`): at an evaluation
the worst members of each group, those that have diverged before all others, go on from the whole states of the best,
with numbers near theirs. A member keeps its seed: its data and draws are never another's. What it took over, and from
whom, lies in its lineage.json, and it goes on with that whoever trains it next; config.json is what it began with. Of
several processes each exchanges among its own members.
"""

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from absl import logging
from ml_collections import ConfigDict

from jaxgan import build, data, distributed
from jaxgan.album import plane_of
from jaxgan.build import Experiment
from jaxgan.data import Dataset
from jaxgan.errors import ConfigError
from jaxgan.interrupt import Interrupt
from jaxgan.judge import evaluator_of
from jaxgan.population.exploit import Exploit, Range, check, ranges_of
from jaxgan.population.group import train_group
from jaxgan.population.knobs import Group, divide
from jaxgan.population.member import Member, Outcome, Report
from jaxgan.population.program import check_data, check_layout
from jaxgan.run import Run
from jaxgan.sampling import Generator
from jaxgan.workdir import plain

__all__ = ["Exploit", "Outcome", "find_refused", "train_population"]


def train_population(
    configs: Sequence[ConfigDict],
    workdirs: Sequence[str],
    overrides: Sequence[Mapping[str, Any]] | None = None,
    report: Report | None = None,
    devices: Sequence[jax.Device] | None = None,
    exploit: Exploit | None = None,
) -> list[Outcome]:
    """Trains members, or goes on with them, until each has reached its `duration`, diverged or been stopped.

    Args:
        configs: of the members, see experiments/common.py.
        workdirs: their folders, all different.
        overrides: how each member differs from its experiment, for the record.
        report: `(member, step, values) -> bool`, called after each evaluation of a member with its numbers by name, in
            the process that trains it; True stops that member.
        devices: of this process, over which its members are divided; all local ones by default.
        exploit: lets the worst members go on from the best ones' states at evaluations.

    Returns:
        What became of each member, in their order. SIGTERM or SIGINT saves all members and ends early, with the status
        "interrupted"; the same call goes on.

    Raises:
        JaxganError: whatever the person who started it can mend. What is wrong with a configuration is found before
            anything is written.
    """
    overrides = overrides or [{} for _ in configs]
    if not configs:
        raise ConfigError("a population has at least one member")
    if not len(configs) == len(workdirs) == len(overrides) == len(set(map(str, workdirs))):
        raise ConfigError("every member of a population needs a configuration and a work folder of its own")
    devices = list(devices or jax.local_devices())
    prepared = _prepare_all(configs, workdirs, devices, exploit)
    _check_same(configs, workdirs, prepared)
    logging.info("a population of %d members in %d group(s)%s", len(configs), len(prepared), _divided(exploit))
    groups = [own for group in _shares(prepared) if (own := group[distributed.index()]).members]
    members = {member.place: member for group in groups for member in group.members}
    with distributed.alone():
        for place, member in members.items():
            member.run.claim(dict(overrides[place]))
    distributed.barrier("claimed")
    notice = distributed.Notice()
    with Interrupt() as interrupt, distributed.alone():

        def is_asked_to_stop() -> bool:
            return notice.any(interrupt.signal_name is not None)

        for group in groups:
            if not is_asked_to_stop():
                train_group(*group, devices, is_asked_to_stop, report or (lambda *_: False), exploit)
    own = {place: member.outcome for place, member in members.items()}
    told = {place: outcome for part in distributed.gather(list(own.items()), math.inf) for place, outcome in part}
    return [Outcome(*told[place]) for place in range(len(configs))]


def find_refused(
    configs: Sequence[ConfigDict], workdirs: Sequence[str], devices: Sequence[jax.Device] | None = None
) -> dict[int, ConfigError]:
    """Why members could be in no population, by their places; writes nothing."""
    refused = {}
    for place, (config, workdir) in enumerate(zip(configs, workdirs, strict=True)):
        try:
            _prepare_all([config], [workdir], list(devices or jax.local_devices()))
        except ConfigError as error:
            refused[place] = error
    return refused


class _Prepared(NamedTuple):
    """A group whose members are ready to be trained; see `jaxgan.population.group.train_group`."""

    members: list[Member]
    experiment: Experiment
    facts: tuple
    names: Sequence[str]
    ranges: dict[str, Range]


def _check_same(configs: Sequence[ConfigDict], workdirs: Sequence[str], prepared: Sequence[_Prepared]) -> None:
    """Raises DistributedError where processes are to train other members, or on other data."""
    if distributed.count() == 1:
        return
    settings = json.dumps([[plain(config), str(path)] for config, path in zip(configs, workdirs, strict=True)])
    distributed.check_same("configuration", zlib.crc32(settings.encode()))
    datasets = {id(member.dataset): member.dataset for group in prepared for member in group.members}
    distributed.check_same("data", [dataset.checksum() for dataset in datasets.values()])


def _divided(exploit: Exploit | None) -> str:
    """How several processes go about it, in words."""
    if distributed.count() == 1:
        return ""
    among = "; worse members go on from better ones of their own process" if exploit is not None else ""
    return f", divided over {distributed.count()} processes{among}"


def _shares(prepared: Sequence[_Prepared]) -> Iterator[list[_Prepared]]:
    """Of each group the part of each process: members are dealt out in turn, over all groups."""
    dealt, processes = 0, distributed.count()
    for group in prepared:
        turns = [(dealt + i) % processes for i in range(len(group.members))]
        dealt += len(group.members)
        pairs = list(zip(turns, group.members, strict=True))
        yield [group._replace(members=[m for turn, m in pairs if turn == process]) for process in range(processes)]


def _prepare_all(
    configs: Sequence[ConfigDict],
    workdirs: Sequence[str],
    devices: Sequence[jax.Device],
    exploit: Exploit | None = None,
) -> list[_Prepared]:
    """The groups of a population; finds what is wrong with any member."""
    if exploit is not None:
        check(exploit)
    for config in configs:
        check_layout(config, devices)
    datasets = _datasets(configs)
    # A conditional game is told how frequent the classes are, which may be other numbers for another seed.
    told = [build.label_counts(data) if c.game.conditional else () for c, data in zip(configs, datasets, strict=True)]
    return [_prepare(group, configs, workdirs, datasets, exploit) for group in divide(configs, told)]


def _datasets(configs: Sequence[ConfigDict]) -> list[Dataset]:
    """The members' data sets; the same object where they are the same."""
    loaded: dict[str, Dataset] = {}
    keys = [json.dumps([plain(c.data), c.seed if c.data.name in data.SEEDED else None]) for c in configs]
    for key, config in zip(keys, configs, strict=True):
        if key not in loaded:
            loaded[key] = build.load_data(config)
            check_data(config.data.name, loaded[key].is_streamed)
    return [loaded[key] for key in keys]


def _prepare(
    group: Group,
    configs: Sequence[ConfigDict],
    workdirs: Sequence[str],
    datasets: Sequence[Dataset],
    exploit: Exploit | None,
) -> _Prepared:
    """A group, with what its members can share made once; finds what is wrong with any of them."""
    first = group.members[0]
    facts = _facts(datasets[first])
    experiment = build.make_experiment(configs[first], *facts)
    generator, shared, members = Generator(experiment.game, jax.local_devices()), {}, []
    for place in group.members:
        config, dataset = configs[place], datasets[place]
        build.assemble(config, *facts)
        if id(dataset) not in shared:
            is_measured = experiment.counting.steps(config.eval.every)
            shared[id(dataset)] = (evaluator_of(config, dataset) if is_measured else None, plane_of(dataset))
        run = Run(config, workdirs[place], dataset, experiment, generator, *shared[id(dataset)])
        members.append(Member(place, run, dataset))
    ranges = {}
    if exploit is not None:
        if not experiment.counting.steps(configs[first].eval.every):
            raise ConfigError("config.eval.every is 0, so that no member is known to be better than another")
        ranges = ranges_of(exploit, [configs[place] for place in group.members], tuple(group.values), facts)
    return _Prepared(members, experiment, facts, tuple(group.values), ranges)


def _facts(dataset: Dataset) -> tuple:
    """What `build.make_experiment` wants to know of a data set."""
    real = dataset.arrays["real"]
    return real.shape[1:], len(real), build.label_counts(dataset)
