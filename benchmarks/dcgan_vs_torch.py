"""One DCGAN update: jaxgan's against PyTorch's (channels_last, eager and compiled), the same networks.

    python benchmarks/dcgan_vs_torch.py [--variant=paper] [--batch=16] [--rounds=20] [--json=result.json]
    python benchmarks/dcgan_vs_torch.py --widths 128 64

Needs PyTorch (and for its compiled side g++) beside jaxgan's requirements; `--peer_python` may name another
interpreter that has it. Every side is a process of its own that works only when it is its turn, a few
updates a round, so that what else the machine does falls on all of them; still, measure on an idle machine.
Reported are the median times of an update and the ratio, PyTorch's faster side over ours: above 1, jaxgan is
the faster one.

Both sides: float32, all cores, the same parameter counts (asserted), one generator pass for the D and the G
step, the discriminator on real and fake pictures in two passes, Adam (fused in PyTorch), EMA of the
generator, and a batch drawn from uint8 pictures that lie in memory. jaxgan's side is the compiled call of the
training loop, metrics included.
"""

import argparse
import copy
import json
import pathlib
import statistics
import sys
from functools import partial

from common import ROOT, Side, cores, machine, milliseconds, serve

SIDES = ("jaxgan", "torch eager", "torch compiled")
SHAPES = {"default": (28, 28, 1), "paper": (64, 64, 3)}
EXAMPLES = 5000
LATENTS = 100


def make_jaxgan(variant: str, batch_size: int, widths: list[int] | None, mode: str | None):
    """The update that `launch.py --config=experiments/dcgan.py` runs."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    sys.path.insert(0, str(ROOT))
    from experiments import dcgan
    from jaxgan import build
    from jaxgan.parallel import Parallel

    config = dcgan.get_config("" if variant == "default" else variant)
    config.batch_size = batch_size
    if widths:
        dcgan.widths(config, *widths)
    shape = SHAPES[variant]
    experiment = build.make_experiment(config, shape, EXAMPLES)
    parallel = Parallel(mode or config.parallel)
    pictures = np.random.default_rng(0).integers(0, 256, (EXAMPLES, *shape), np.uint8)
    arrays = parallel.replicate({"real": pictures})
    index = parallel.split(jnp.arange(batch_size, dtype=jnp.int32))
    state = parallel.replicate(jax.jit(experiment.new_state)())

    call = parallel.compile(experiment.step, shared=1)
    counts = [sum(x.size for x in jax.tree.leaves(p)) for p in (state.params_g, state.params_d)]

    def updates(n):
        nonlocal state
        for _ in range(n):
            state, _ = call(state, index, arrays)
        jax.block_until_ready(state)

    return updates, counts, f"jax {jax.__version__}, {parallel.describe()}"


def make_torch(variant: str, batch_size: int, widths: list[int] | None, is_compiled: bool):
    """The same networks and update in PyTorch."""
    import torch
    from torch.nn.functional import softplus

    torch.set_num_threads(cores())
    torch.manual_seed(0)
    generator, discriminator = _torch_networks(variant, widths)
    average = copy.deepcopy(generator)
    adam = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": True}
    optimizer_g = torch.optim.Adam(generator.parameters(), **adam)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), **adam)
    counts = [sum(p.numel() for p in network.parameters()) for network in (generator, discriminator)]
    params = [p.data for p in generator.parameters()]
    params_average = [p.data for p in average.parameters()]
    generate, classify = generator, discriminator
    if is_compiled:
        generate, classify = torch.compile(generator), torch.compile(discriminator)
    height, width, channels = SHAPES[variant]
    pictures = torch.randint(0, 256, (EXAMPLES, channels, height, width), dtype=torch.uint8)
    pictures = pictures.contiguous(memory_format=torch.channels_last)

    def update():
        real = pictures[torch.randint(0, EXAMPLES, (batch_size,))].float() / 127.5 - 1
        fake = generate(torch.randn(batch_size, LATENTS))
        loss_d = softplus(-classify(real)).mean() + softplus(classify(fake.detach())).mean()
        optimizer_d.zero_grad(set_to_none=True)
        loss_d.backward()
        optimizer_d.step()
        discriminator.requires_grad_(False)  # its gradients are not needed for the generator's step
        loss_g = softplus(-classify(fake)).mean()
        optimizer_g.zero_grad(set_to_none=True)
        loss_g.backward()
        optimizer_g.step()
        discriminator.requires_grad_(True)
        torch._foreach_lerp_(params_average, params, 1e-3)

    def updates(n):
        for _ in range(n):
            update()

    return updates, counts, f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def _torch_networks(variant: str, widths: list[int] | None):
    import torch
    from torch import nn

    height, width, channels = SHAPES[variant]
    usual, k = {"default": ((64, 32), 4), "paper": ((1024, 512, 256, 128), 5)}[variant]
    widths = tuple(widths or usual)
    base = height >> len(widths), width >> len(widths)
    padding, extra = (k - 1) // 2, k % 2

    layers = [
        nn.Linear(LATENTS, base[0] * base[1] * widths[0], bias=False),
        nn.Unflatten(1, (widths[0], *base)),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
    ]
    for i, (inputs, outputs) in enumerate(zip(widths, (*widths[1:], channels), strict=True)):
        is_last = i == len(widths) - 1
        layers.append(nn.ConvTranspose2d(inputs, outputs, k, 2, padding, output_padding=extra, bias=is_last))
        layers += [nn.Tanh()] if is_last else [nn.BatchNorm2d(outputs), nn.ReLU()]
    generator = nn.Sequential(*layers)

    layers, inputs = [], channels
    for i, outputs in enumerate(widths[::-1]):
        layers.append(nn.Conv2d(inputs, outputs, k, 2, padding, bias=i == 0))
        layers += [nn.LeakyReLU(0.2)] if i == 0 else [nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
        inputs = outputs
    layers += [nn.Flatten(), nn.Linear(base[0] * base[1] * inputs, 1), nn.Flatten(0)]
    discriminator = nn.Sequential(*layers)
    for network in (generator, discriminator):
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
    layout = torch.channels_last
    return generator.to(memory_format=layout), discriminator.to(memory_format=layout)


def make(side: str, args: argparse.Namespace, batch_size: int):
    """A side's facts, and the function that runs so many updates and tells their time."""
    if side == "jaxgan":
        updates, counts, versions = make_jaxgan(args.variant, batch_size, args.widths, args.parallel)
    else:
        updates, counts, versions = make_torch(args.variant, batch_size, args.widths, side == "torch compiled")
    updates(3)
    return {"counts": counts, "versions": versions}, partial(milliseconds, updates)


def command(side: str, python: str, args: argparse.Namespace, batch_size: int) -> list[str]:
    """That starts a side's process."""
    command = [python, __file__, f"--work={side}", f"--variant={args.variant}", f"--batch={batch_size}"]
    command += [f"--parallel={args.parallel}"] if args.parallel else []
    return command + (["--widths", *map(str, args.widths)] if args.widths else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=SHAPES, default="default")
    parser.add_argument("--batch", type=int, help="pictures in a batch; 64, or 16 for paper, if not given")
    parser.add_argument("--widths", type=int, nargs="+", help="the generator's, if not the experiment's")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--updates", type=int, default=0, help="of each side in a round; 5, or 1 for paper")
    parser.add_argument("--peer_python", default=sys.executable, help="the interpreter that has PyTorch")
    parser.add_argument("--parallel", choices=("pmap", "jit"), help="jaxgan's side, if not as configured")
    parser.add_argument("--json", help="a file for the result")
    parser.add_argument("--work", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    batch_size = args.batch or {"default": 64, "paper": 16}[args.variant]
    if args.work:
        serve(partial(make, args.work, args, batch_size))
        return

    widths = f", widths {args.widths}" if args.widths else ""
    print(f"{machine()}\nDCGAN {args.variant}, {SHAPES[args.variant]}, batch {batch_size}{widths}, float32")
    sides = []
    for name in SIDES:  # one after another, so that no compilation disturbs another's first updates
        python = sys.executable if name == "jaxgan" else args.peer_python
        side = Side(name, command(name, python, args, batch_size))
        if "error" in side.facts:
            print(f"{name}: does not run: {side.facts['error']}")
            side.close()
        else:
            sides.append(side)
    if len({tuple(side.facts["counts"]) for side in sides}) > 1:
        sys.exit(f"parameter counts differ: { {side.name: side.facts['counts'] for side in sides} }")
    times = {side.name: [] for side in sides}
    for _ in range(args.rounds):
        for side in sides:
            times[side.name].append(side.ask(args.updates or {"default": 5, "paper": 1}[args.variant]))
    for side in sides:
        side.close()
    report(args, batch_size, sides, times)


def report(args: argparse.Namespace, batch_size: int, sides: list[Side], times: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(values) for name, values in times.items()}
    for side in sides:
        print(
            f"{side.name:15s} median {medians[side.name]:8.2f} ms   lowest {min(times[side.name]):8.2f} ms   "
            f"set up {side.facts['setup']:5.1f} s   {side.facts['versions']}"
        )
    result = {"machine": machine(), "variant": args.variant, "batch": batch_size, "widths": args.widths}
    result["median_ms"] = medians
    peers = {name: median for name, median in medians.items() if name != "jaxgan"}
    if "jaxgan" in medians and peers:
        ours = next(side for side in sides if side.name == "jaxgan")
        best = min(peers, key=peers.get)
        result["ratio"] = statistics.median(b / a for a, b in zip(times["jaxgan"], times[best], strict=True))
        result["parameters"] = ours.facts["counts"]
        print(f"{best} / jaxgan, median of the rounds' ratios: {result['ratio']:.3f}")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
