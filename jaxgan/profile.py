"""Where the time of an update goes: `launch.py --mode=profile`.

    python launch.py --config=experiments/r3gan.py --mode=profile --workdir=runs/r3gan-profile

The run's own call is compiled, timed on the run's own data, and traced. Nothing is trained: the folder gets the trace
alone, for https://ui.perfetto.dev (perfetto_trace.json.gz) and for `xprof --logdir` (TensorBoard's profile plugin).
"""

import collections
import contextlib
import gzip
import json
import pathlib
import re
import statistics
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
from absl import logging
from ml_collections import ConfigDict

from jaxgan import build
from jaxgan.aot import hlo
from jaxgan.aot.program import compile_update
from jaxgan.aot.shapes import data_shape_of
from jaxgan.aot.words import size_in_words
from jaxgan.errors import ConfigError
from jaxgan.feed import make_feed

_OUTERMOST = re.compile(r"^((jit|pmap|shard_map)(\([^()]*\))?/|while/|body/|closed_call/)*")
TRACED_CALLS = 3
SHOWN = 15


class Operation(NamedTuple):
    """What a device spends its time on: all runs of one instruction of the compiled program."""

    name: str  # of the instruction
    source: str  # the JAX operation that it comes from, if the program says
    seconds: float  # in one update, added up over the threads that work on it
    share: float  # of all instructions' time
    times: float  # in one update


def profile(config: ConfigDict, workdir: str, seconds: float = 10.0, as_json: bool = False) -> str:
    """Compiles, times and traces an experiment's update on the local devices.

    Args:
        config: see experiments/common.py.
        workdir: gets the folder `profile` with the trace.
        seconds: how long to time it for, about; at least five calls.
        as_json: the report as JSON and not as a text.

    Raises:
        JaxganError: whatever a run would refuse.
    """
    report = examine(config, pathlib.Path(workdir), seconds)
    return json.dumps(report, indent=2) if as_json else in_words(report)


def examine(config: ConfigDict, workdir: pathlib.Path, seconds: float) -> dict[str, Any]:
    """What `profile` reports; times in seconds, sizes in bytes, of one update and one device."""
    dataset = build.load_data(config)
    begun = time.perf_counter()
    program = compile_update(config, jax.devices(), data_shape_of(dataset), None)
    compiled_in = time.perf_counter() - begun
    parallel, counting, call = program.parallel, program.experiment.counting, program.compiled
    if call is None:
        raise ConfigError(
            f"a batch of {config.batch_size} does not fit into the devices' memory; take a smaller --config.batch_size "
            "or take it in parts with --config.accumulate"
        )
    state = parallel.create(program.experiment.new_state)
    feed = make_feed(dataset, program.experiment, parallel, config.data.get("workers", 0))
    with contextlib.closing(feed):  # of a streamed set the same batch is used again and again
        feed.begin(state, counting.steps_per_call)
        given = feed.take(idle=lambda: None)
    state, took = _time(call, state, given, seconds)
    folder = workdir / "profile"
    trace = _trace(call, state, given, folder)
    updates = counting.steps_per_call
    cost = hlo.count(call.as_text()).repeated(1 / updates)
    update = statistics.median(took) / updates
    return {
        "experiment": config.experiment,
        "devices": parallel.describe(),
        "compile_seconds": compiled_in,
        "updates_per_call": updates,
        "calls_timed": len(took),
        "update_seconds": update,
        "images_per_second": counting.images_per_step / update,
        "flops": cost.flops,
        "flops_per_second": cost.flops / update,
        "bytes": cost.bytes,
        "bytes_per_second": cost.bytes / update,
        "memory": program.memory._asdict(),
        "temporaries_per_image": program.memory.temporaries * len(parallel.devices) / config.batch_size,
        "operations": [op._asdict() for op in _operations(trace, sources(call.as_text()), TRACED_CALLS * updates)],
        "trace": str(trace),
    }


def _time(call, state, given, seconds: float):
    """The state after as many calls as fit, five at least, and the seconds of each; two more go before."""
    for _ in range(2):
        state, metrics = call(state, *given)
    jax.block_until_ready(metrics)
    took = []
    while len(took) < 5 or sum(took) < seconds:
        begun = time.perf_counter()
        state, metrics = call(state, *given)
        jax.block_until_ready((state, metrics))
        took.append(time.perf_counter() - begun)
    logging.info("%d calls timed", len(took))
    return state, took


def _trace(call, state, given, folder: pathlib.Path) -> pathlib.Path:
    """Traces some calls; where the trace is, in Perfetto's form."""
    with jax.profiler.trace(str(folder), create_perfetto_trace=True):
        for _ in range(TRACED_CALLS):
            state, _ = call(state, *given)
        jax.block_until_ready(state)
    return max(folder.rglob("perfetto_trace.json.gz"), key=lambda file: file.stat().st_mtime)


def sources(text: str) -> dict[str, str]:
    """By instruction of a program's text, what JAX calls the operation that it comes from."""
    found = re.findall(r"^\s+(?:ROOT )?%?([\w.\-]+) = .*metadata=\{[^}]*op_name=\"([^\"]*)\"", text, re.MULTILINE)
    return {name: _OUTERMOST.sub("", source) for name, source in found}


def _operations(trace: pathlib.Path, named: dict[str, str], updates: int) -> list[Operation]:
    with gzip.open(trace, "rt") as file:
        events = json.load(file)
    return operations(events["traceEvents"] if isinstance(events, dict) else events, named, updates)


def operations(events: Iterable[dict], named: dict[str, str], updates: int) -> list[Operation]:
    """The instructions that a trace shows, the costliest first.

    Args:
        events: of a trace in Chrome's form: those with an "hlo_op" among their arguments are the program's.
        named: by instruction, where it comes from.
        updates: that were traced.
    """
    seconds, times = collections.Counter(), collections.Counter()
    for event in events:
        name = event.get("args", {}).get("hlo_op")
        if event.get("ph") == "X" and name:
            seconds[name] += event["dur"] / 1e6
            times[name] += 1
    total = sum(seconds.values())
    return [
        Operation(name, named.get(name, ""), spent / updates, spent / total, times[name] / updates)
        for name, spent in seconds.most_common()
    ]


def in_words(report: dict[str, Any]) -> str:
    """A report of `examine` as lines to read."""
    r, memory = report, report["memory"]
    lines = {
        "experiment": r["experiment"],
        "devices": r["devices"],
        "compilation": f"{r['compile_seconds']:.1f} s (little, where the program was in the cache)",
        "update": f"{1e3 * r['update_seconds']:.4g} ms, the median of {r['calls_timed']} calls of "
        f"{r['updates_per_call']}; {r['images_per_second']:,.0f} images/s",
        "work": f"{r['flops']:.4g} FLOP in products, {r['flops_per_second'] / 1e9:,.1f} GFLOP/s; {r['bytes']:.4g} "
        f"bytes, {r['bytes_per_second'] / 1e9:,.1f} GB/s; a device's",
        "memory": f"{size_in_words(memory['arguments'])} state and data, {size_in_words(memory['temporaries'])} "
        f"temporaries, {size_in_words(r['temporaries_per_image'])} an image of the batch",
        "trace": f"{r['trace']}: open it in https://ui.perfetto.dev, or its folder with xprof",
    }
    table = [f"{'share':>7} {'ms':>9} {'times':>7}  operation"]
    for op in r["operations"][:SHOWN]:
        table.append(
            f"{op['share']:7.1%} {1e3 * op['seconds']:9.3f} {op['times']:7.4g}  {op['name']}  {op['source']}"
        )
    text = "\n".join(f"{name:<15} {text}" for name, text in lines.items())
    return text + "\n\nof one update, the costliest first:\n" + "\n".join(table)
