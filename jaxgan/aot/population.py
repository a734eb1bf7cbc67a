"""A population's program compiled ahead of time: what it takes, and what is sent between its members."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from jaxgan import build, data
from jaxgan.aot import hlo
from jaxgan.aot.chips import Pod, find_pod
from jaxgan.aot.hlo import Collective
from jaxgan.aot.program import finish, size_of
from jaxgan.aot.shapes import DataShape, find_data_shape, is_streamed
from jaxgan.data.sampler import in_rows
from jaxgan.overrides import apply_overrides
from jaxgan.population.knobs import Group, divide
from jaxgan.population.program import Program, check_data
from jaxgan.state import count_parameters


def examine_population(
    config: ConfigDict, points: Sequence[Mapping[str, Any]], topology: str | None = None, data_shape: str = ""
) -> list[dict[str, Any]]:
    """Compiles the programs of a population for a pod and says what they take; nothing runs.

    Args:
        config: what the members have in common, see experiments/common.py.
        points: how each of them differs, by dotted name.
        topology: such as "v5e:16x16"; the local devices if empty.
        data_shape: see `find_data_shape`.

    Returns:
        What --json prints, for each group of members that share a program; sizes are bytes, of one device and one
        update.

    Raises:
        JaxganError: the pod, the data or a configuration is not as it should be.
    """
    pod, shape = find_pod(topology), find_data_shape(config, data_shape)
    configs = [apply_overrides(config, point) for point in points]
    for own in configs:
        own.steps_per_call = own.steps_per_call or build.steps_per_call(pod.devices[0].platform)
        check_data(own.data.name, is_streamed(own, shape))
    groups = divide(configs, [shape.label_counts] * len(configs))
    return [_examine(group, configs[group.members[0]], pod, shape) for group in groups]


def _examine(group: Group, config: ConfigDict, pod: Pod, shape: DataShape) -> dict[str, Any]:
    """The report on the program of a group; `config` is that of any member."""
    facts = (shape.shape, shape.examples, shape.label_counts)
    experiment = build.make_experiment(config, *facts)
    counting, state = experiment.counting, jax.eval_shape(experiment.new_state)
    program = Program(config, facts, group.values, len(group.members), pod.devices)
    on_each = program.slots * program.devices_per_member // len(program.devices)
    is_shared = config.data.name not in data.SEEDED or "seed" not in group.values
    logging.info("compiling for %s: %d members, %s", pod.name, len(group.members), program.describe())
    given = program.abstract(jax.eval_shape(in_rows, shape.arrays), is_shared)
    lowered = program.compile(counting.steps_per_call, is_shared).lower(*given)
    arguments = on_each * size_of(state) + (1 if is_shared else on_each) * size_of(shape.arrays)
    memory, compiled = finish(lowered, arguments, pod.chip.memory if pod.chip else None, program.describe())
    report = {
        "experiment": config.experiment,
        "topology": pod.name,
        "devices": len(program.devices),
        "layout": program.describe(),
        "members": len(group.members),
        "members_per_device": on_each,
        "devices_per_member": program.devices_per_member,
        "differ_in": sorted(group.values),
        "batch_size": config.batch_size,
        "images_per_update": counting.images_per_step * len(group.members),
        "updates_per_call": counting.steps_per_call,
        "data": {"name": config.data.name, "examples": shape.examples, "shape": list(shape.shape)},
        "data_is_shared": is_shared,
        "parameters": {
            "generator": count_parameters(state.params_g),
            "discriminator": count_parameters(state.params_d),
        },
        "memory": {**memory._asdict(), "total": memory.total},
        "fits": memory.fits,
    }
    if compiled is not None:
        cost = hlo.count(compiled.as_text()).repeated(1 / counting.steps_per_call)
        between = [c for c in cost.collectives if not c.is_within(program.devices_per_member)]
        report |= {"flops": cost.flops, "bytes": cost.bytes, "unknown_loops": cost.unknown_loops}
        report |= {"collectives": _traffic(cost.collectives), "between_members": _traffic(between)}
    return report


def _traffic(collectives: Sequence[Collective]) -> dict[str, dict[str, float]]:
    """By kind: how many in an update, the bytes of all of them, and the numbers in the largest array of any."""
    kinds: dict[str, dict[str, float]] = {}
    for c in collectives:
        of_kind = kinds.setdefault(c.kind, {"count": 0.0, "bytes": 0.0, "largest": 0})
        of_kind["count"] += c.times
        of_kind["bytes"] += c.times * c.bytes
        of_kind["largest"] = max(of_kind["largest"], *c.sizes)
    return kinds
