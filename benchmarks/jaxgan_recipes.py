"""jaxgan's side of updates_vs_torch.py: the call that the training loop makes, compiled for the first devices."""

import importlib
import pathlib
import sys
import time
import traceback
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from common import ROOT, rates
from recipes import CLASSES, EXAMPLES, Recipe

sys.path.insert(0, str(ROOT))
from jaxgan import build, processor
from jaxgan.aot import hlo
from jaxgan.data.sampler import in_rows
from jaxgan.feed import compile_call
from jaxgan.parallel import Parallel

TRACED_CALLS = 3
processor.set_flags()


def make(r: Recipe, name: str, args):
    """(what runs so many updates, facts, what it measures) of what `launch.py --config=experiments/...` runs.

    Args:
        r: the recipe.
        name: of the files that `args.hlo` and `args.trace` ask for.
        args: of updates_vs_torch.py.
    """
    if jax.default_backend() != args.device:
        raise RuntimeError(f"JAX computes on {jax.default_backend()}, not on {args.device}")
    config = configuration(r, args.steps_per_call)
    counts = (EXAMPLES // CLASSES,) * CLASSES if r.conditional else ()
    experiment = build.make_experiment(config, r.shape, EXAMPLES, counts)
    parallel, several = Parallel(args.parallel or config.parallel), experiment.counting.steps_per_call
    given = make_data(r, experiment, parallel)
    state = parallel.create(experiment.new_state)
    begun = time.perf_counter()
    call = compile_call(experiment, parallel, several).lower(state, *given).compile()
    facts = {"compile_s": time.perf_counter() - begun, "versions": f"jax {jax.__version__}, {parallel.describe()}"}
    if args.hlo:
        pathlib.Path(args.hlo).mkdir(parents=True, exist_ok=True)
        pathlib.Path(args.hlo, f"{name}.hlo.txt").write_text(call.as_text())
    facts |= {"updates_per_call": several, **program_of(call, several)}
    facts["counts"] = [sum(x.size for x in jax.tree.leaves(p)) for p in (state.params_g, state.params_d)]

    def updates(n):
        """Whole calls, one at the least."""
        nonlocal state
        for _ in range(max(1, n // several)):
            state, _ = call(state, *given)
        jax.block_until_ready(state)

    def trace():
        folder = pathlib.Path(args.trace, name)
        with jax.profiler.trace(str(folder), create_perfetto_trace=True):
            updates(TRACED_CALLS * several)
        return str(folder)

    return updates, facts, {"peak": partial(peak, args), "trace": trace, "device_mib": device_mib}


def configuration(r: Recipe, steps_per_call: int):
    experiment, _, variant = r.experiment.partition(":")
    config = importlib.import_module(f"experiments.{experiment}").get_config(variant)
    changes = {"batch_size": r.batch_size, "precision": r.precision, "steps_per_call": steps_per_call, **r.changes}
    config.update_from_flattened_dict(changes)
    return config


def make_data(r: Recipe, experiment: build.Experiment, parallel: Parallel):
    """What a call is given beside the state, as `jaxgan.feed.Resident` gives it."""
    draws = np.random.default_rng(0)
    arrays = {"real": draws.integers(0, 256, (EXAMPLES, *r.shape), np.uint8)}
    if r.conditional:
        arrays["label"] = draws.integers(0, CLASSES, EXAMPLES, np.int32)
    index = jnp.arange(experiment.counting.images_per_step, dtype=jnp.int32)
    return parallel.split(index), parallel.replicate(in_rows(arrays))


def program_of(call: jax.stages.Compiled, several: int) -> dict:
    """What the program moves in an update, and the memory that it takes."""
    try:
        gbytes = hlo.count(call.as_text()).bytes / several / 1e9
    except (KeyError, IndexError, ValueError, TypeError, StopIteration):
        traceback.print_exc()  # the counter was made for the programs of CPUs and TPUs; the times are wanted still
        gbytes = float("nan")
    memory = call.memory_analysis()
    outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    total = memory.argument_size_in_bytes + outputs + memory.temp_size_in_bytes
    temporaries = memory.temp_size_in_bytes / 2**20
    return {"gbytes": gbytes, "mib_of_temporaries": temporaries, "mib_of_program": total / 2**20}


def device_mib() -> float:
    """The most that was in use so far, what XLA takes while it compares algorithms included."""
    return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20


def peak(args) -> list[float]:
    def run(product_size, conv_size):
        batch, side, width = conv_size
        dtype = jnp.dtype(args.precision)
        a = jnp.ones((product_size, product_size), dtype)
        x, kernel = jnp.ones((batch, side, side, width), dtype), jnp.ones((3, 3, width, width), dtype)
        product = jax.jit(jnp.matmul)
        form = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        conv = jax.jit(partial(jax.lax.conv_general_dilated, **form))
        return lambda: product(a, a).block_until_ready(), lambda: conv(x, kernel).block_until_ready()

    return rates(run, args.device)
