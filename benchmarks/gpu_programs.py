"""What XLA makes of each recipe's update for a GPU, where there is none: the kernels, and the memory of an image.

    python benchmarks/gpu_programs.py                                       every recipe in float32, one table
    python benchmarks/gpu_programs.py --recipes sngan-32 --precision float32 bfloat16 --changes joint_pass=True
    python benchmarks/gpu_programs.py --recipes dcgan-64 --hlo=hlo --json=result.json

The call that the training loop would make, 20 updates of the recipe at a GPU's batch size, is compiled ahead of time
for an H100 that the script describes to the compiler. The table shows what becomes of the layers: which convolutions
cuDNN gets, which sums and transposes stand alone, what a change to a layer or a game adds or spares, and the memory
that a larger batch would take. It needs no GPU and no driver, only XLA's compiler for them, in an environment of its
own, since its JAX is not the processor's:

    pip install -r requirements.txt "jax[cuda13]"

What it cannot say: XLA chooses algorithms of cuDNN, tiles of products and their split along the sum by timing them on
the GPU, and here it takes its defaults. So nothing here is a time, a workspace of cuDNN is not in the memory, and a
few kernels may be others on the GPU itself. Kernels count as often as they run in an update, a call of cuDNN as one,
and are of the kind that XLA names them for; what runs once a call, such as turning the parameters of convolutions
around for cuDNN and back, stands apart.
"""

import argparse
import ast
import json
import os
import pathlib
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # what is computed is computed there, whatever this machine has

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jaxgan_recipes import configuration, program_of
from recipes import CLASSES, EXAMPLES, RECIPES, Recipe, choose

from jaxgan import build
from jaxgan.aot.hlo import branches_of, turns_of
from jaxgan.aot.instructions import Computation, Instruction, parse
from jaxgan.errors import ConfigError
from jaxgan.feed import abstract_given, compile_call
from jaxgan.overrides import apply_overrides
from jaxgan.parallel import Parallel

# What XLA asks of an H100 SXM. Per multiprocessor, block and thread: NVIDIA's CUDA C++ Programming Guide, technical
# specifications of compute capability 9.0. Counts, clock, memory and its bandwidth: NVIDIA's H100 data sheet and
# architecture white paper (132 multiprocessors of 128 FP32 cores, 1.98 GHz at most, 50 MB L2, 80 GB at 3.35 TB/s).
# The versions of CUDA and cuDNN are those that come with jax 0.11.
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  threads_per_warp: 32  threads_per_block_limit: 1024  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024  thread_dim_limit_y: 1024  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  shared_memory_per_block: 49152  shared_memory_per_block_optin: 232448  shared_memory_per_core: 233472
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  l2_cache_size: 52428800  device_memory_size: 85899345920  memory_bandwidth: 3350000000000
  driver_version: "13.0.0"  runtime_version: "13.0.0"  compile_time_toolkit_version: "13.0.0"  dnn_version: "9.12.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 }
runtime_version { major: 13 }
device_description_str: "NVIDIA H100"
"""
# By the function of cuDNN that is called: the transpose of a generator's layer is one in x, and its derivative forward.
CONVOLUTIONS = {"Forward": "convolutions", "BackwardInput": "derivatives in x", "BackwardFilter": "in the kernel"}
NAMES = {"gemm|dot|cublas": "products", "reduce": "reductions", "transpose|copy": "transposes, copies", "": "others"}
KINDS = (*CONVOLUTIONS.values(), *NAMES.values())
NO_KERNEL = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "copy-done", "async-done")


def describe_gpu() -> list[jax.Device]:
    try:
        return topologies.get_topology_desc("h100", "cuda", target_config=H100, topology="1x1x1").devices
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise SystemExit(f'XLA\'s compiler for GPUs is not there; pip install "jax[cuda13]" brings it: {error}')


def measure(name: str, r: Recipe, changes: dict[str, Any], devices: list[jax.Device], folder: str) -> dict[str, Any]:
    """A recipe's row; its text goes to a file in the folder, if one is named."""
    config = apply_overrides(configuration(r, 0), changes)
    config.steps_per_call = config.steps_per_call or build.steps_per_call("gpu")
    counts = (EXAMPLES // CLASSES,) * CLASSES if r.conditional else ()
    experiment, parallel = build.make_experiment(config, r.shape, EXAMPLES, counts), Parallel("jit", devices)
    arrays = {"real": jax.ShapeDtypeStruct((EXAMPLES, *r.shape), jnp.uint8)}
    if r.conditional:
        arrays["label"] = jax.ShapeDtypeStruct((EXAMPLES,), jnp.int32)
    several = experiment.counting.steps_per_call
    state = parallel.abstract_state(jax.eval_shape(experiment.new_state))
    given = abstract_given(experiment, parallel, several, arrays)
    begun = time.perf_counter()
    traced = compile_call(experiment, parallel, several).trace(state, *given)
    call = traced.lower(lowering_platforms=("cuda",)).compile()
    row = {"batch_size": config.batch_size, "precision": config.precision, "compile_s": time.perf_counter() - begun}
    if folder:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        pathlib.Path(folder, f"{name}-{config.precision}.hlo.txt").write_text(call.as_text())
    return row | program_of(call, several) | {"kernels": kernels_of(call.as_text(), several)}


def kernels_of(text: str, several: int) -> dict[str, float]:
    """How many kernels of each kind run in one of several updates, and how many a call adds to them."""
    entry, computations = parse(text)
    found = Counter()
    for i, times in launches(entry, computations, 1):
        found[kind_of(i) if times >= several else "once a call"] += times
    return {kind: found[kind] / several for kind in KINDS} | {"once a call": found["once a call"]}


def launches(name: str, computations: dict[str, Computation], times: int) -> Iterator[tuple[Instruction, int]]:
    """What a computation launches, and how often; of a branch's alternatives the one that launches the most."""
    computation = computations[name]
    for i in computation.values():
        if i.opcode == "while":
            turns = turns_of(i, computation, computations) or 1
            yield from launches(i.called("body")[0], computations, times * turns)
        elif i.opcode == "conditional":
            alternatives = [list(launches(branch, computations, times)) for branch in branches_of(i)]
            yield from max(alternatives, key=lambda found: sum(n for _, n in found))
        elif i.opcode in ("call", "async-start"):
            for called in (*i.called("to_apply"), *i.called("calls")):
                yield from launches(called, computations, times)
        elif i.opcode not in NO_KERNEL:
            yield i, times


def kind_of(i: Instruction) -> str:
    if convolution := re.search(r"__cudnn\$conv\w*?(Forward|BackwardInput|BackwardFilter)", i.attributes):
        return CONVOLUTIONS[convolution[1]]
    return next(kind for names, kind in NAMES.items() if re.search(names, i.name))


def report(rows: list[dict[str, Any]]) -> str:
    head = ("recipe", "batch", "precision", "kernels", *KINDS, "once a call")
    head += ("read and written", "temporaries", "compilation")
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *map(line, rows)])


def line(row: dict[str, Any]) -> str:
    kernels, mib = row["kernels"], row["mib_of_temporaries"]
    cells = [row["recipe"], row["batch_size"], row["precision"], f"{sum(kernels[kind] for kind in KINDS):,.0f}"]
    cells += [f"{number:,.0f}" for number in kernels.values()]
    cells += [f"{row['gbytes']:.3g} GB", f"{mib:,.0f} MiB, {mib / row['batch_size']:.2f} an image"]
    return f"| {' | '.join(map(str, cells))} | {row['compile_s']:.0f} s |"


def read_change(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--precision", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--batch_size", type=int, default=0, help="in place of the recipes' own")
    parser.add_argument("--changes", nargs="+", default=[], type=read_change, metavar="NAME=VALUE", help="overrides")
    parser.add_argument("--hlo", metavar="DIR", help="gets the text of each program")
    parser.add_argument("--json", help="a file for the result, written after each program")
    return parser.parse_args()


def main() -> None:
    args = read_arguments()
    devices, changes, rows = describe_gpu(), dict(args.changes), []
    for name, precision in [(name, precision) for name in args.recipes for precision in args.precision]:
        recipe = choose(name, "gpu", args.batch_size, precision)
        try:
            rows.append({"recipe": name, **measure(name, recipe, changes, devices, args.hlo)})
        except ConfigError as error:
            raise SystemExit(f"{name}: {error}")
        print(f"{name}: {json.dumps(rows[-1])}", flush=True)
        if args.json:
            result = {"jax": jax.__version__, "changes": changes, "programs": rows}
            pathlib.Path(args.json).write_text(json.dumps(result, indent=2) + "\n")
    print(f"\n{report(rows)}")


if __name__ == "__main__":
    main()
