"""Everything that is to be said of a compiled update, as plain values."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
from absl import logging
from ml_collections import ConfigDict

from jaxgan.aot import hlo
from jaxgan.aot.chips import Pod, find_pod
from jaxgan.aot.hlo import Collective
from jaxgan.aot.model import speed
from jaxgan.aot.program import Program, compile_update, nearest_batch, nearest_widths
from jaxgan.aot.shapes import find_data_shape
from jaxgan.overrides import with_values
from jaxgan.state import TrainState, count_parameters

GOAL = 0.95  # of weak scaling


def examine(config: ConfigDict, topology: str | None = None, data_shape: str = "") -> dict[str, Any]:
    """Compiles the experiment's update for a pod and says what it takes; nothing runs.

    Args:
        config: see experiments/common.py.
        topology: such as "v5e:16x16"; the local devices if empty.
        data_shape: of data that is neither known nor there, see `find_data_shape`.

    Returns:
        What --json prints; sizes are bytes and times seconds, of one device and one update.

    Raises:
        JaxganError: the pod, the data or the configuration is not as it should be.
    """
    pod = find_pod(topology)
    data = find_data_shape(config, data_shape)
    available = pod.chip.memory if pod.chip else None

    def compile_with(changed: Mapping[str, Any]) -> Program:
        how = ", ".join(f"config.{name}={value}" for name, value in changed.items())
        logging.info("compiling for %s with %s", pod.name, how)
        return compile_update(with_values(config, changed), pod.devices, data, available)

    program = compile_with({"batch_size": config.batch_size})
    memory, counting = program.memory, program.experiment.counting
    state = jax.eval_shape(program.experiment.new_state)
    devices = len(program.parallel.devices)
    report = {
        "experiment": config.experiment,
        "topology": pod.name,
        "devices": devices,
        "layout": program.parallel.describe(),
        "batch_size": config.batch_size,
        "batch_per_device": config.batch_size // devices,
        "images_per_update": counting.images_per_step,
        "updates_per_call": counting.steps_per_call,
        "data": {"name": config.data.name, "examples": data.examples, "shape": list(data.shape)},
        "parameters": {
            "generator": count_parameters(state.params_g),
            "discriminator": count_parameters(state.params_d),
        },
        "memory": {**memory._asdict(), "total": memory.total},
        "fits": memory.fits,
    }
    if memory.fits is False:
        suggestion = nearest_batch(program, lambda batch: compile_with({"batch_size": batch}))
        report["suggestion"] = suggestion._asdict() if suggestion else None
        if suggestion is None:
            narrower = nearest_widths(program, data, compile_with)
            report["narrower"] = narrower._asdict() if narrower else None
    if program.compiled is not None:
        report |= _work(program, pod, state)
    return report


def _work(program: Program, pod: Pod, state: TrainState) -> dict[str, Any]:
    """What a compiled program does in one update."""
    counting, config = program.experiment.counting, program.config
    cost = hlo.count(program.compiled.as_text()).repeated(1 / counting.steps_per_call)
    devices = len(program.parallel.devices)
    images = counting.images_per_step
    said = program.compiled.cost_analysis() or {}
    kinds = Counter()
    sizes = Counter()
    for c in cost.collectives:
        kinds[c.kind] += c.times
        sizes[c.kind] += c.times * c.bytes
    work = {
        "flops": cost.flops,
        "bytes": cost.bytes,
        "flops_per_image": cost.flops * devices / images,
        "bytes_per_image": cost.bytes * devices / images,
        "unknown_loops": cost.unknown_loops,
        # XLA's own count of the whole call; it takes the body of a loop once.
        "cost_analysis": {name: said[name] for name in ("flops", "bytes accessed") if name in said},
        "collectives": {kind: {"count": kinds[kind], "bytes": sizes[kind]} for kind in sorted(kinds)},
        "gradients": gradients(cost.collectives, state, config.d_steps)._asdict(),
    }
    grid = pod.grid if devices > 1 else (1,)
    if pod.chip and grid:
        s = speed(pod.chip, grid, cost, images)
        busy = max(s.compute, s.memory)
        goal = GOAL / (1 - GOAL) * s.wire / busy * config.batch_size / devices
        work["speed"] = {**s._asdict(), "batch_per_device_for_goal": goal}
    return work


class Gradients(NamedTuple):
    """How the gradients of one update travel between the devices."""

    expected: int  # parameters whose gradients have to: the discriminator's at each of its steps, the generator's once
    reduced: int  # those that do, each once
    gathered: int  # parameters that come back from the devices that moved them, where the state is cut
    collectives: float  # that carry gradients or parameters; XLA splits and joins as it sees fit
    others: float  # the other collectives: statistics, logits, metrics
    largest_other: int  # bytes of the largest array that travels and is neither a gradient nor a parameter gathered
    parameter_sized_others: int  # arrays, of a kernel's size or larger than all kernels, that travel beside those


def gradients(collectives: Iterable[Collective], state: TrainState, d_steps: int) -> Gradients:
    """Finds the gradients among what an update reduces, by their sizes: XLA joins arrays, but keeps each as it is."""
    leaves = {side: [leaf.size for leaf in jax.tree.leaves(getattr(state, side))] for side in ("params_g", "params_d")}
    waiting = Counter(leaves["params_g"])
    for size in leaves["params_d"]:
        waiting[size] += d_steps
    expected = sum(size * times for size, times in waiting.items())
    kernels = {size for sizes in leaves.values() for size in sizes if 100 * size >= sum(sizes)}
    longest = max(max(sizes) for sizes in leaves.values())
    to_gather = Counter()  # what was scattered comes back
    waiting = {"all-gather": to_gather, **dict.fromkeys(hlo.REDUCTIONS, waiting)}
    travelled, carriers, others, largest, again = Counter(), 0.0, 0.0, 0, 0
    # Reductions before gathers. First what runs in each of D's steps, where one array has to be found as often; and
    # from the largest, so that a bias that happens to be as long as a statistic is found among the gradients.
    for c in sorted(collectives, key=lambda c: (c.kind in hlo.REDUCTIONS, c.times, c.bytes), reverse=True):
        found, own, times = 0, waiting.get(c.kind, {}), round(c.times)
        for size in c.sizes:
            if own.get(size, 0) >= times:
                own[size] -= times
                found += size * times
                to_gather[size] += times * (c.kind == "reduce-scatter")
            else:
                largest = max(largest, 4 * size)
                again += size in kernels or size >= longest
        travelled[c.kind] += found
        # A collective is the gradients' if they are most of it: a statistic alone may be as long as a bias.
        is_carrier = 4 * found >= c.bytes * c.times / 2 > 0
        carriers, others = carriers + c.times * is_carrier, others + c.times * (not is_carrier)
    reduced = sum(travelled[kind] for kind in hlo.REDUCTIONS)
    return Gradients(expected, reduced, travelled["all-gather"], carriers, others, largest, again)
