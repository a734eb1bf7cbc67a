"""A discriminator's step under each penalty: jaxgan's against PyTorch's (eager), the same critic and numbers.

    python benchmarks/penalties_vs_torch.py [--batch=64] [--widths 64 128] [--rounds=20] [--json=result.json]
    python benchmarks/penalties_vs_torch.py --rows r1 wgan_gp
    python benchmarks/penalties_vs_torch.py --memory

A step is the non-saturating loss plus the weighted penalty and its gradient with respect to the parameters, no
optimizer. PyTorch's side is given in two forms: `autograd.grad` with `create_graph=True`, and, where the penalty is of
a gradient, `torch.func`; the faster one counts. `path_length` is the generator's step, `spectral` the discriminator's
with one power iteration of each kernel. Every side is a process of its own that works only when it is its turn; still,
measure on an idle machine. The ratio is the median of the rounds' ratios, PyTorch's time over ours: above 1, jaxgan is
the faster one.

All sides start from the same parameters and pictures (float32, all cores, channels_last in PyTorch), and their
losses and gradients are compared before anything is timed: closely where nothing is drawn at random, else
roughly. PyTorch's side shares a forward pass between loss and penalty wherever it can.

`--memory` measures what a step with R1 and R2 on larger pictures takes above what the process held before it, each
side in a fresh process and after one step to warm up (elsewhere than on Linux, from before that step).

All sides work on the CPU, also where there is a GPU. Needs PyTorch beside jaxgan's requirements; `--peer_python` may
name another interpreter that has it.
"""

import argparse
import ctypes
import gc
import json
import math
import pathlib
import resource
import statistics
import sys
from functools import partial

import numpy as np
from common import ROOT, Side, cores, machine, milliseconds, serve

SIDES = ("jaxgan", "torch autograd", "torch func")
LATENTS, GENERATOR_WIDTHS = 100, (128, 64)
KERNEL, SLOPE = 4, 0.2
SHIFT = 2  # pixels, after the mirror, is the augmentation
TARGET = 0.1  # slope at which the critic's first gradients are neither all above nor all below
WEIGHTS = {
    "none": 0.0,
    "r1": 5.0,
    "r2": 5.0,
    "r1+r2": 5.0,
    "wgan_gp": 10.0,
    "wgan_lp": 10.0,
    "dragan": 10.0,
    "zero_centered_gp": 10.0,
    "lecam": 0.3,
    "cr": 10.0,
    "bcr": 10.0,
    "path_length": 2.0,
    "orthogonal": 1e-4,
    "l2": 1e-4,
    "spectral": 0.0,
}
OF_A_GRADIENT = ("none", "r1", "r2", "r1+r2", "wgan_gp", "wgan_lp", "dragan", "zero_centered_gp", "path_length")
DRAWN = ("wgan_gp", "wgan_lp", "dragan", "zero_centered_gp", "path_length", "spectral")
MEMORY = {"row": "r1+r2", "shape": (64, 64, 3), "widths": (64, 128, 256), "batch": 128}


def make_data(shape: tuple[int, ...], widths: tuple[int, ...], batch_size: int) -> dict:
    """The numbers that all sides start from, in JAX's layouts."""
    rng = np.random.default_rng(0)

    def normal(*shape, std=1.0):
        return (std * rng.standard_normal(shape)).astype(np.float32)

    base = [side >> len(widths) for side in shape[:2]]
    channels = (shape[-1], *widths)
    critic = []
    for inputs, outputs in zip(channels, widths, strict=False):
        kernel = normal(KERNEL, KERNEL, inputs, outputs, std=(KERNEL * KERNEL * inputs) ** -0.5)
        critic.append((kernel, normal(outputs)))
    features = math.prod(base) * widths[-1]
    critic.append((normal(features, 1, std=features**-0.5), normal(1)))

    base = [side >> len(GENERATOR_WIDTHS) for side in shape[:2]]
    generator = [normal(LATENTS, math.prod(base) * GENERATOR_WIDTHS[0], std=LATENTS**-0.5)]
    for features, inputs in zip((*GENERATOR_WIDTHS[1:], shape[-1]), GENERATOR_WIDTHS, strict=True):
        generator.append(normal(KERNEL, KERNEL, features, inputs, std=(KERNEL * KERNEL * inputs) ** -0.5))
    return {
        "real": np.tanh(normal(batch_size, *shape)),
        "fake": np.tanh(normal(batch_size, *shape)),
        "z": normal(batch_size, LATENTS),
        "critic": critic,
        "generator": generator,
    }


# jaxgan


def make_jaxgan(shape, widths, batch_size):
    """`{row: step}`: a step takes its number and gives (loss, squared norm of the gradient), and the counts."""
    import jax
    import jax.numpy as jnp

    sys.path.insert(0, str(ROOT))
    from jaxgan import losses
    from jaxgan.models import dcgan

    data = make_data(shape, widths, batch_size)
    real, fake, z = (jnp.asarray(data[name]) for name in ("real", "fake", "z"))
    discriminator = dcgan.Discriminator(widths=widths, kernel=KERNEL, batch_norm=False)
    generator = dcgan.Generator(shape=shape, widths=GENERATOR_WIDTHS, kernel=KERNEL)
    params_d = _filled(
        jax.eval_shape(partial(discriminator.init, train=False), jax.random.key(0), real)["params"],
        {
            f"{'Dense_0' if kernel.ndim == 2 else f'Conv_{i}'}.{name}": array
            for i, (kernel, bias) in enumerate(data["critic"])
            for name, array in (("kernel", kernel), ("bias", bias))
        },
    )
    variables = jax.eval_shape(partial(generator.init, train=False), jax.random.key(0), z)
    names = ["Dense_0.kernel", *(f"ConvTranspose_{i}.kernel" for i in range(len(GENERATOR_WIDTHS)))]
    params_g = _filled(variables["params"], dict(zip(names, data["generator"], strict=True)))
    statistics_g = _filled(variables["batch_stats"], {})

    def critic_of(params):
        return lambda x: discriminator.apply({"params": params}, x, train=True)

    def generator_of(params):
        return lambda z: generator.apply({"params": params, "batch_stats": statistics_g}, z, train=False)

    def augment(x):
        return jnp.roll(jnp.flip(x, 2), SHIFT, (1, 2))

    penalties = {
        "none": lambda critic, *_: jnp.zeros(1),
        "r1": lambda critic, *_: losses.r1_penalty(critic, real),
        "r2": lambda critic, *_: losses.r2_penalty(critic, fake),
        "r1+r2": lambda critic, *_: losses.r1_penalty(critic, real) + losses.r2_penalty(critic, fake),
        "wgan_gp": lambda critic, key, *_: losses.wgan_gp_penalty(critic, real, fake, key, TARGET),
        "wgan_lp": lambda critic, key, *_: losses.wgan_lp_penalty(critic, real, fake, key, TARGET),
        "dragan": lambda critic, key, *_: losses.dragan_penalty(critic, real, key, target=TARGET),
        "zero_centered_gp": lambda critic, key, *_: losses.zero_centered_gp_penalty(critic, real, fake, key),
        "orthogonal": lambda critic, key, params: losses.orthogonal_penalty(params),
        "l2": lambda critic, key, params: losses.l2_penalty(params),
    }

    def discriminator_loss(row, params, key, state):
        """(loss, the state after it)"""
        if row == "spectral":
            state = losses.spectral_iterate(params, state)
            params = losses.spectral_normalize(params, state)
        critic = critic_of(params)
        real_logits, fake_logits = critic(real), critic(fake)
        if row == "lecam":
            penalty, state = losses.lecam_penalty(real_logits, fake_logits, state)
        elif row == "cr":
            penalty = losses.cr_penalty(critic, real, augment, real_logits=real_logits)
        elif row == "bcr":
            logits = {"real_logits": real_logits, "fake_logits": fake_logits}
            penalty = losses.bcr_penalty(critic, real, fake, augment, **logits)
        elif row == "spectral":
            penalty = jnp.zeros(1)
        else:
            penalty = penalties[row](critic, key, params)
        loss = losses.non_saturating_discriminator_loss(real_logits, fake_logits).mean()
        return loss + WEIGHTS[row] * penalty.mean(), state

    def generator_loss(row, params, key, state):
        generate = generator_of(params)
        penalty, state = losses.path_length_penalty(generate, z, key, state)
        loss = losses.non_saturating_generator_loss(critic_of(params_d)(generate(z))).mean()
        return loss + WEIGHTS[row] * penalty.mean(), state

    def step_of(row):
        params, loss = (params_g, generator_loss) if row == "path_length" else (params_d, discriminator_loss)
        state = {
            "lecam": losses.lecam_init,
            "spectral": lambda: losses.spectral_init(jax.random.key(1), params_d),
            "path_length": lambda: jnp.float32(0.0),
        }.get(row, lambda: None)()
        key = jax.random.key(2)

        def full(params, state, i):
            gradient = jax.value_and_grad(partial(loss, row), has_aux=True)
            (value, state), grads = gradient(params, jax.random.fold_in(key, i), state)
            return value, grads, state

        compiled = jax.jit(full).lower(params, state, 0).compile()

        def step(i):
            nonlocal state
            value, grads, state = jax.block_until_ready(compiled(params, state, i))
            return value, grads

        def summary(value, grads):
            return float(value), float(sum(jnp.vdot(g, g) for g in jax.tree.leaves(grads)))

        return step, summary, compiled

    counts = [sum(x.size for x in jax.tree.leaves(p)) for p in (params_g, params_d)]
    return step_of, counts, f"jax {jax.__version__}, {jax.default_backend()}"


def _filled(tree, given: dict):
    """The tree with the given arrays, by path; those not given are ones for scales and variances, else zeros."""
    import jax
    import jax.numpy as jnp

    left = dict(given)

    def one(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        default = np.ones if name.endswith(("scale", "var")) else np.zeros
        array = left.pop(name, None)
        array = default(leaf.shape, np.float32) if array is None else array
        if array.shape != leaf.shape:
            raise ValueError(f"{name}: {array.shape} given for {leaf.shape}")
        return jnp.asarray(array)

    filled = jax.tree_util.tree_map_with_path(one, tree)
    if left:
        raise ValueError(f"no parameters named {sorted(left)}")
    return filled


# PyTorch


def make_torch(shape, widths, batch_size, is_func: bool):
    """The same in PyTorch, by `autograd.grad` or by `torch.func`."""
    import torch

    torch.set_num_threads(cores())
    torch.manual_seed(0)
    data = make_data(shape, widths, batch_size)
    critic, generator = _torch_networks(shape, widths, data)
    counts = [sum(p.numel() for p in network.parameters()) for network in (generator, critic)]
    losses = TorchLosses(data, critic, generator)

    def step_of(row):
        network = generator if row == "path_length" else critic
        critic.requires_grad_(network is critic)
        if row == "spectral":
            for layer in critic:
                if hasattr(layer, "weight"):
                    torch.nn.utils.parametrizations.spectral_norm(layer)
        loss_of = losses.generator_loss if row == "path_length" else losses.discriminator_loss
        state = None

        def by_autograd(i):
            nonlocal state
            loss, state = loss_of(row, None, state)
            return loss.detach(), torch.autograd.grad(loss, list(network.parameters()))

        def by_func(i):
            nonlocal state

            def with_extras(params):
                loss, new = loss_of(row, params, state)
                return loss, (loss.detach(), torch.zeros(()) if new is None else new)

            params = {name: p.detach() for name, p in network.named_parameters()}
            grads, (loss, state) = torch.func.grad(with_extras, has_aux=True)(params)
            return loss, list(grads.values())

        def summary(loss, grads):
            return float(loss), float(sum(g.square().sum() for g in grads))

        return (by_func if is_func else by_autograd), summary, None

    return step_of, counts, f"torch {torch.__version__}, {torch.get_num_threads()} threads"


class TorchLosses:
    """The rows' losses, `(row, params, state) -> (loss, state after it)`.

    With parameters given the networks are called with them (`torch.func`), else as they are (`autograd`).
    """

    def __init__(self, data: dict, critic, generator):
        import torch

        def pictures(x):
            return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

        self.critic, self.generator = critic, generator
        self.real, self.fake, self.z = pictures(data["real"]), pictures(data["fake"]), torch.from_numpy(data["z"])

    def discriminator_loss(self, row, params, state):
        import torch
        from torch.nn.functional import softplus

        if row == "spectral":
            # One power iteration for both passes, as on jaxgan's side.
            with torch.nn.utils.parametrize.cached():
                real_logits, fake_logits = self.critic(self.real), self.critic(self.fake)
                return softplus(-real_logits).mean() + softplus(fake_logits).mean(), state
        penalty = 0.0
        if row in ("r1", "r1+r2"):
            real_logits, squares = self._logits_and_squares(params, self.real)
            penalty = 0.5 * squares
        else:
            real_logits = self._call(self.critic, params, self.real)
        if row in ("r2", "r1+r2"):
            fake_logits, squares = self._logits_and_squares(params, self.fake)
            penalty = penalty + 0.5 * squares
        else:
            fake_logits = self._call(self.critic, params, self.fake)
        loss = softplus(-real_logits).mean() + softplus(fake_logits).mean()
        if row in ("wgan_gp", "wgan_lp", "dragan", "zero_centered_gp"):
            penalty = self._elsewhere(row, params)
        elif row == "lecam":
            penalty, state = self._lecam(real_logits, fake_logits, state)
        elif row in ("cr", "bcr"):
            penalty = (real_logits - self.critic(self._augmented(self.real))).square()
            if row == "bcr":
                penalty = penalty + (fake_logits - self.critic(self._augmented(self.fake))).square()
        elif row in ("orthogonal", "l2"):
            function = self._orthogonal if row == "orthogonal" else lambda p: 0.5 * p.square().sum()
            penalty = sum(function(p) for p in self.critic.parameters() if p.ndim > 1)
        return (loss if row == "none" else loss + WEIGHTS[row] * penalty.mean()), state

    def generator_loss(self, row, params, state, decay=0.01):
        import torch
        from torch.nn.functional import softplus

        noise = torch.randn_like(self.real) / math.sqrt(math.prod(self.real.shape[2:]))
        if params is None:
            z = self.z.detach().requires_grad_()
            picture = self.generator(z)
            (gradient,) = torch.autograd.grad((picture * noise).sum(), z, create_graph=True)
        else:
            picture, pullback = torch.func.vjp(lambda z: self._call(self.generator, params, z), self.z)
            (gradient,) = pullback(noise)
        length = gradient.square().sum(-1).sqrt()
        mean = torch.zeros(()) if state is None else state
        mean = mean + decay * (length.detach().mean() - mean)
        penalty = (length - mean).square()
        return softplus(-self.critic(picture)).mean() + WEIGHTS[row] * penalty.mean(), mean

    def _call(self, network, params, x):
        import torch

        return network(x) if params is None else torch.func.functional_call(network, params, (x,))

    def _logits_and_squares(self, params, x):
        """The logits, and the squared norm of each one's gradient, differentiable."""
        import torch

        def total(x):
            logits = self._call(self.critic, params, x)
            return logits.sum(), logits

        if params is None:
            x = x.detach().requires_grad_()
            sum_of_logits, logits = total(x)
            (gradient,) = torch.autograd.grad(sum_of_logits, x, create_graph=True)
        else:
            gradient, logits = torch.func.grad(total, has_aux=True)(x)
        return logits, gradient.flatten(1).square().sum(1)

    def _elsewhere(self, row, params):
        """The penalties on the gradient between the pictures, or near them."""
        import torch
        from torch.nn.functional import relu

        along = torch.rand(len(self.real), 1, 1, 1)
        if row == "dragan":
            x = self.real + along * 0.5 * self.real.std(correction=0) * torch.rand_like(self.real)
        else:
            x = self.real + along * (self.fake - self.real)
        squares = self._logits_and_squares(params, x)[1]
        if row == "zero_centered_gp":
            return squares
        excess = squares.sqrt() - TARGET
        return (relu(excess) if row == "wgan_lp" else excess).square()

    def _lecam(self, real_logits, fake_logits, state, decay=0.99):
        from torch.nn.functional import relu

        new = [logits.detach().mean() for logits in (real_logits, fake_logits)]
        if state is not None:
            new = [decay * old + (1 - decay) * mean for old, mean in zip(state, new, strict=True)]
        return relu(real_logits - new[1]).square() + relu(new[0] - fake_logits).square(), new

    def _augmented(self, x):
        return x.flip(3).roll((SHIFT, SHIFT), (2, 3))

    def _orthogonal(self, p):
        import torch

        w = p.flatten(1)
        return (w @ w.T * (1 - torch.eye(len(w)))).square().sum()


def _torch_networks(shape, widths, data):
    """(critic, generator) with the given parameters; the generator's batch norm by its running statistics."""
    import torch
    from torch import nn

    def fill(parameter, array, axes):
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(array.transpose(axes))))

    base = [side >> len(widths) for side in shape[:2]]
    layers, inputs = [], shape[-1]
    for (kernel, bias), outputs in zip(data["critic"], widths, strict=False):
        layer = nn.Conv2d(inputs, outputs, KERNEL, 2, 1)
        fill(layer.weight, kernel, (3, 2, 0, 1))
        fill(layer.bias, bias, (0,))
        layers += [layer, nn.LeakyReLU(SLOPE)]
        inputs = outputs
    kernel, bias = data["critic"][-1]
    layer = nn.Linear(len(kernel), 1)
    fill(layer.weight, kernel.reshape(*base, inputs).transpose(2, 0, 1).reshape(1, -1), (0, 1))
    fill(layer.bias, bias, (0,))
    critic = nn.Sequential(*layers, nn.Flatten(), layer, nn.Flatten(0))

    base = [side >> len(GENERATOR_WIDTHS) for side in shape[:2]]
    inputs = GENERATOR_WIDTHS[0]
    layer = nn.Linear(LATENTS, math.prod(base) * inputs, bias=False)
    kernel = data["generator"][0].reshape(LATENTS, *base, inputs).transpose(0, 3, 1, 2).reshape(LATENTS, -1)
    fill(layer.weight, kernel, (1, 0))
    layers = [layer, nn.Unflatten(1, (inputs, *base)), nn.BatchNorm2d(inputs), nn.ReLU()]
    outputs_of = (*GENERATOR_WIDTHS[1:], shape[-1])
    for i, (kernel, outputs) in enumerate(zip(data["generator"][1:], outputs_of, strict=True)):
        is_last = i == len(outputs_of) - 1
        layer = nn.ConvTranspose2d(inputs, outputs, KERNEL, 2, 1, bias=is_last)
        fill(layer.weight, kernel, (3, 2, 0, 1))
        if is_last:
            nn.init.zeros_(layer.bias)
        layers += [layer, nn.Tanh()] if is_last else [layer, nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    generator = nn.Sequential(*layers).eval()
    return critic.to(memory_format=torch.channels_last), generator.to(memory_format=torch.channels_last)


# A side's process


def make(args: argparse.Namespace):
    """A side's facts, and the function that answers [row, number of steps] with their time."""
    shape, widths = tuple(args.shape), tuple(args.widths)

    def fresh():
        if args.work == "jaxgan":
            return make_jaxgan(shape, widths, args.batch)
        return make_torch(shape, widths, args.batch, args.work == "torch func")

    step_of, counts, versions = fresh()
    if args.memory:
        return {"counts": counts, "versions": versions}, lambda _: _memory(step_of, args)
    rows = [row for row in args.rows if args.work != "torch func" or row in OF_A_GRADIENT]
    steps, first = {}, {}
    for row in rows:
        step, summary, _ = fresh()[0](row) if args.work != "jaxgan" else step_of(row)
        first[row] = summary(*step(0))
        step(1)
        steps[row] = step

    def answer(request):
        row, n = request
        return milliseconds(lambda n: [steps[row](i) for i in range(2, n + 2)], n)

    return {"counts": counts, "versions": versions, "first": first}, answer


def _memory(step_of, args) -> dict:
    """MiB that a step takes above what the process held before it."""
    step, _, compiled = step_of(MEMORY["row"])
    result = {}
    if compiled is not None:
        result["temporary"] = compiled.memory_analysis().temp_size_in_bytes / 2**20
    held, highest = _highest(), 0.0
    if sys.platform == "linux":
        step(0)  # the libraries prepare themselves; what they freed is then given back
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        highest, held = _highest(), _status("VmRSS")
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    for i in range(1, 4):
        step(i)
    peak = _highest()
    return {**result, "growth": peak - held, "highest": max(highest, peak)}


def _highest() -> float:
    """The process's peak so far, in MiB."""
    if sys.platform == "linux":
        return _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _status(name: str) -> float:
    """A size in /proc/self/status, in MiB."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**10


# The parent


def command(side: str, args: argparse.Namespace) -> list[str]:
    python = sys.executable if side == "jaxgan" else args.peer_python
    command = [python, __file__, f"--work={side}", f"--batch={args.batch}", *(["--memory"] if args.memory else [])]
    return [*command, "--shape", *map(str, args.shape), "--widths", *map(str, args.widths), "--rows", *args.rows]


def start(args: argparse.Namespace) -> list[Side]:
    """The sides that run, one after another, so that no compilation disturbs another's first steps."""
    sides = []
    for name in SIDES:
        side = Side(name, command(name, args), {"JAX_PLATFORMS": "cpu"})
        if "error" in side.facts:
            print(f"{name}: does not run: {side.facts['error']}")
            side.close()
        else:
            print(f"{name}: {side.facts['versions']}, set up in {side.facts['setup']:.1f} s", flush=True)
            sides.append(side)
    if len({tuple(side.facts["counts"]) for side in sides}) > 1:
        sys.exit(f"parameter counts differ: { {side.name: side.facts['counts'] for side in sides} }")
    return sides


def compare(rows: list[str], sides: list[Side]) -> None:
    """Ends the program where the sides do not compute the same."""
    for row in rows:
        firsts = {side.name: side.facts["first"][row] for side in sides if row in side.facts["first"]}
        tolerance = 0.2 if row in DRAWN else 1e-3
        values = np.array(list(firsts.values()))
        if not np.allclose(values, values[0], rtol=tolerance, atol=0.0):
            sys.exit(f"{row}: loss and squared gradient differ: {firsts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=WEIGHTS, default=list(WEIGHTS), help="which penalties")
    parser.add_argument("--batch", type=int, help=f"pictures in a batch; 64, or {MEMORY['batch']} with --memory")
    parser.add_argument("--shape", type=int, nargs=3, help=f"28 28 1, or {MEMORY['shape']} with --memory")
    parser.add_argument("--widths", type=int, nargs="+", help=f"the critic's; 64 128, or {MEMORY['widths']}")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5, help="of each side and row in a round")
    parser.add_argument("--memory", action="store_true", help="the peak memory of R1 and R2 in place of times")
    parser.add_argument("--peer_python", default=sys.executable, help="the interpreter that has PyTorch")
    parser.add_argument("--json", help="a file for the result")
    parser.add_argument("--work", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.batch = args.batch or (MEMORY["batch"] if args.memory else 64)
    args.shape = tuple(args.shape or (MEMORY["shape"] if args.memory else (28, 28, 1)))
    args.widths = tuple(args.widths or (MEMORY["widths"] if args.memory else (64, 128)))
    if args.work:
        serve(partial(make, args))
        return

    print(f"{machine()}\ncritic {args.widths} on {args.shape}, batch {args.batch}, float32")
    sides = start(args)
    result = {"machine": machine(), "shape": args.shape, "widths": args.widths, "batch": args.batch}
    result["parameters"] = dict(zip(("generator", "critic"), sides[0].facts["counts"], strict=True)) if sides else {}
    result |= report_memory(sides) if args.memory else time_rows(args, sides)
    for side in sides:
        side.close()
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


def report_memory(sides: list[Side]) -> dict:
    result = {side.name: side.ask(None) for side in sides}
    print(f"\n| {MEMORY['row']} | peak of a step | XLA's temporary buffers | peak of the process |\n|---|---|---|---|")
    for name, sizes in result.items():
        temporary = f"{sizes['temporary']:.0f} MiB" if "temporary" in sizes else ""
        print(f"| {name} | {sizes['growth']:.0f} MiB | {temporary} | {sizes['highest']:.0f} MiB |")
    return {"memory_mib": result}


def time_rows(args: argparse.Namespace, sides: list[Side]) -> dict:
    compare(args.rows, sides)
    times = {row: {side.name: [] for side in sides if row in side.facts["first"]} for row in args.rows}
    for _ in range(args.rounds):
        for row in args.rows:
            for side in sides:
                if side.name in times[row]:
                    times[row][side.name].append(side.ask([row, args.steps]))

    result = {}
    print(f"\n| penalty | {' | '.join(SIDES)} | ratio |\n|---|{'---|' * len(SIDES)}---|")
    for row in args.rows:
        medians = {name: statistics.median(values) for name, values in times[row].items()}
        result[row] = {"median_ms": medians}
        peers = {name: median for name, median in medians.items() if name != "jaxgan"}
        ratio = ""
        if "jaxgan" in medians and peers:
            best = times[row][min(peers, key=peers.get)]
            result[row]["ratio"] = statistics.median(b / a for a, b in zip(times[row]["jaxgan"], best, strict=True))
            ratio = f"{result[row]['ratio']:.2f}"
        cells = [f"{medians[name]:.1f} ms" if name in medians else "" for name in SIDES]
        print(f"| {row} | {' | '.join(cells)} | {ratio} |")
    return {"rows": result}


if __name__ == "__main__":
    main()
