"""R3GAN's residual blocks, the part that decides its update: jaxgan's against the same in PyTorch (eager and compiled).

    python benchmarks/r3gan_blocks.py [--of energy penalty] [--rounds=10] [--rows "cifar10, 8x8"] [--device=gpu]

The value and the gradient, in parameters and pictures, of the energy, the sum of squares of what two blocks give, and
of the penalty, the sum of squares of the energy's gradient in the pictures: a generator's blocks have the first, those
of a discriminator with R1 and R2 both. The sizes are those of the paper's preset for CIFAR-10 (768 channels, 96 groups;
small batches, for a CPU's sake) and of the embedded digits'. Both sides start from the same numbers, float32 (TF32
products on a GPU), and have to agree on value and gradient before they are timed; channels_last in PyTorch. Each is a
process of its own that works when it is its turn. The ratio is the median of the rounds' ratios, the faster of
PyTorch's times over ours: above 1, jaxgan is the faster one.
"""

import argparse
import statistics
import sys
from functools import partial

import numpy as np
from common import ROOT, Side, compare, environment, gpus, machine, milliseconds, serve, take_turns

BLOCKS, GROUP = 2, 16
ROWS = {  # pictures, pixels of a side, channels
    "cifar10, 4x4": (16, 4, 768),
    "cifar10, 8x8": (16, 8, 768),
    "cifar10, 16x16": (8, 16, 768),
    "cifar10, 32x32": (2, 32, 768),
    "digits, 7x7": (64, 7, 64),
    "digits, 14x14": (64, 14, 32),
    "digits, 28x28": (64, 28, 16),
}
OF = ("energy", "penalty")
SIDES = ("jaxgan", "torch eager", "torch compiled")
CLOSE = {"cpu": 1e-4, "gpu": 1e-2}
ROUND = 500  # milliseconds that a side works for at a time


def make_data(row: str) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """Pictures [B, H, H, C], and the blocks' parameters in jaxgan's layouts."""
    batch, side, channels = ROWS[row]
    wide, rng = 2 * channels, np.random.default_rng(0)

    def normal(*shape, fan_in=1):
        return (rng.standard_normal(shape) / fan_in**0.5).astype(np.float32)

    def block():
        return {
            "widen": normal(channels, wide, fan_in=channels),
            "bias_0": normal(wide),
            "grouped": normal(3, 3, GROUP, wide, fan_in=9 * GROUP),
            "bias_1": normal(wide),
            "narrow": normal(wide, channels, fan_in=wide),
        }

    return normal(batch, side, side, channels), [block() for _ in range(BLOCKS)]


def make_jaxgan(row: str, of: str, device: str):
    import jax
    import jax.numpy as jnp

    sys.path.insert(0, str(ROOT))
    from jaxgan import processor
    from jaxgan.models.r3gan import Block

    processor.set_flags()
    if jax.default_backend() != device:
        raise RuntimeError(f"JAX computes on {jax.default_backend()}, not on {device}")
    x, blocks = make_data(row)
    dense = ("widen", "narrow")
    params = [{k: {"kernel": jnp.asarray(v)} if k in dense else jnp.asarray(v) for k, v in b.items()} for b in blocks]

    def energy(params, x):
        for p in params:
            x = Block(BLOCKS, group_size=GROUP).apply({"params": p}, x)
        return jnp.sum(jnp.square(x))

    def penalty(params, x):
        return jnp.sum(jnp.square(jax.grad(energy, 1)(params, x)))

    step = jax.jit(jax.value_and_grad({"energy": energy, "penalty": penalty}[of], (0, 1)))
    given = params, jnp.asarray(x)

    def found():
        value, grads = step(*given)
        return [float(value), sum(float(jnp.sum(jnp.square(g))) for g in jax.tree.leaves(grads)) ** 0.5]

    def run(n):
        for _ in range(n):
            out = step(*given)
        jax.block_until_ready(out)

    return found, run


def make_torch(row: str, of: str, device: str, compiled: bool):
    import torch
    from torch_networks import R3Block

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    x, blocks = make_data(row)
    where, last = torch.device("cuda" if device == "gpu" else "cpu"), {"memory_format": torch.channels_last}
    network = torch.nn.Sequential(*(R3Block(x.shape[-1], GROUP) for _ in blocks))
    for module, p in zip(network, blocks, strict=True):
        weights = {
            "widen.weight": p["widen"].T[:, :, None, None],
            "widen.bias": p["bias_0"],
            "grouped.weight": p["grouped"].transpose(3, 2, 0, 1),
            "grouped.bias": p["bias_1"],
            "narrow.weight": p["narrow"].T[:, :, None, None],
        }
        module.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(w)) for name, w in weights.items()})
    network = network.to(where, **last)
    pictures = torch.from_numpy(x).permute(0, 3, 1, 2).to(where, **last).requires_grad_()
    wanted = [pictures, *network.parameters()]
    if compiled:
        network = torch.compile(network)

    def step():
        value = network(pictures).square().sum()
        if of == "penalty":
            (grad,) = torch.autograd.grad(value, pictures, create_graph=True)
            value = grad.square().sum()
        return value, torch.autograd.grad(value, wanted)

    def found():
        value, grads = step()
        return [value.item(), sum(g.square().sum().item() for g in grads) ** 0.5]

    def run(n):
        for _ in range(n):
            step()
        if device == "gpu":
            torch.cuda.synchronize()

    return found, run


def make(side: str, row: str, of: str, device: str):
    """What `serve` wants: facts, and the answer to a number of steps."""
    if side == "jaxgan":
        found, run = make_jaxgan(row, of, device)
    else:
        found, run = make_torch(row, of, device, side == "torch compiled")
    facts = {"found": found()}
    run(2)
    return facts, partial(milliseconds, run)


def measure(row: str, of: str, args: argparse.Namespace) -> str:
    """A line of the table."""
    command = [sys.executable, __file__, f"--device={args.device}", "--rows", row, "--of", of]
    # PyTorch's compiler has no second derivatives.
    sides = [
        Side(side, [*command, f"--work={side}"], environment(args.device))
        for side in SIDES
        if of == "energy" or side != "torch compiled"
    ]
    running = [side for side in sides if "error" not in side.facts]
    for side in running[1:]:
        np.testing.assert_allclose(side.facts["found"], running[0].facts["found"], rtol=CLOSE[args.device])
    times = take_turns({side: max(1, round(ROUND / side.ask(2))) for side in running}, args.rounds)
    for side in sides:
        side.close()
    medians = {name: statistics.median(values) for name, values in times.items()}
    cells = " | ".join(f"{medians[side]:.4g} ms" if side in medians else "" for side in SIDES)
    ratio = compare(times).get("ratio", float("nan"))
    return f"| {row} | {' x '.join(map(str, ROWS[row]))} | {of} | {cells} | {ratio:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--of", nargs="+", choices=OF, default=list(OF))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", choices=CLOSE, default="gpu" if gpus() else "cpu")
    parser.add_argument("--work", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        serve(partial(make, args.work, args.rows[0], args.of[0], args.device))
        return
    columns = "blocks of", "pictures, side, channels", "gradient of", *SIDES, "ratio"
    print(f"{machine()}\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for of in args.of:
        for row in args.rows:
            print(measure(row, of, args), flush=True)


if __name__ == "__main__":
    main()
