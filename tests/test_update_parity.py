"""Whole updates of SNGAN, R3GAN and StyleGAN2 against training steps written in PyTorch, from the same weights,
batch and noise.

PyTorch computes in float64, so that what differs is the rounding of our float32 alone; its networks, losses, penalties
and averages are written here from the papers, its Adam is `torch.optim.Adam`. Everything that an update leaves behind
is compared: parameters, Adam's moments, running statistics, singular vectors, averages and metrics.

The tests against PyTorch skip themselves without it. `python -m tests.test_update_parity` writes what it found, two
numbers for each array, to update_parity.npz beside this file, and a test that needs no PyTorch compares with that.
"""

import importlib.util
import math
import pathlib
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from experiments import stylegan2_ada
from jaxgan.games import standard
from jaxgan.losses import ADVERSARIAL
from jaxgan.models import r3gan, sngan, stylegan2
from jaxgan.optim import Optimizer, Optimizers, Ramp, make_optimizer, make_schedule
from jaxgan.update import create_state, make_update
from tests.small import settings

PATH = pathlib.Path(__file__).parent / "update_parity.npz"
# Adam divides a gradient by its own size + eps. With a recipe's eps a gradient that is nothing but rounding errors, as
# that of a bias before batch norm, makes a full step in a random direction. Gradients are near 0.1 here and their
# errors near 1e-7, so that with the smooth eps an error moves a parameter by 1e-5 of a step.
SMOOTH, RECIPE = 1e-2, 1e-8
SHAPE, BATCH, CLASSES, LATENT, UPDATES = (8, 8, 3), 4, 3, 6, 3
LINEAR_OVER = 40.0  # images over which SNGAN's learning rate falls to 0
COSINE_OVER = 10.0  # images over which R3GAN's ramps run: they end between the third steps of D and of G
HALF_LIFE = 30.0  # images
LEARNING_RATE = 2e-4

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


class Case(NamedTuple):
    """One of our games, and the PyTorch training that it is compared with."""

    generator: nn.Module
    discriminator: nn.Module
    loss: str
    d_steps: int
    options: dict[str, Any]  # of `make_game`
    knobs: dict[str, dict[str, float | Ramp]]  # of each side's Adam, but eps
    half_life: float | Ramp
    schedule: str = "constant"
    rampup: float = 0.0  # of the half-life
    equalised: bool = False  # kernels are kept large, and made small where they are used

    @property
    def conditional(self) -> bool:
        return "label_shares" in self.options

    def highest(self, side: str, knob: str) -> float:
        """A knob of Adam's, "g" or "d", at the start of its ramp if it has one; rates fall from there."""
        value = self.knobs[side][knob]
        return value.start if isinstance(value, Ramp) else value


def half_cosine(start, end):
    return Ramp(start, end, COSINE_OVER, "cosine")


def sngan_case(classes: int) -> Case:
    knobs = {"learning_rate": LEARNING_RATE, "b1": 0.0, "b2": 0.9}
    return Case(
        sngan.Generator(SHAPE, widths=(8, 8), classes=classes),
        sngan.Discriminator(widths=(8, 12, 12), downsampled=2, classes=classes),
        "hinge",
        2,
        {"spectral_norm": ("discriminator",)} | ({"label_shares": (1 / classes,) * classes} if classes else {}),
        {"g": knobs, "d": knobs},
        HALF_LIFE,
        "linear_to_zero",
    )


def r3gan_case() -> Case:
    small = {"blocks": 1, "group_size": 4, "classes": CLASSES}
    knobs = {"learning_rate": half_cosine(LEARNING_RATE, LEARNING_RATE / 4), "b1": 0.0, "b2": half_cosine(0.9, 0.99)}
    return Case(
        r3gan.Generator(SHAPE, widths=(12, 8), embedding_size=5, **small),
        r3gan.Discriminator(widths=(8, 12), **small),
        "relativistic",
        1,
        {
            "penalties": {"r1": half_cosine(1.0, 0.1), "r2": half_cosine(1.0, 0.1)},
            "label_shares": (1 / CLASSES,) * CLASSES,
        },
        {"g": knobs, "d": knobs},
        half_cosine(0.0, HALF_LIFE),
    )


def stylegan2_case() -> Case:
    """Small networks, and the recipe's loss, penalty and Adam: the first update has R1, the next fifteen have none."""
    c = stylegan2_ada.get_config("cifar10")
    small = {"classes": CLASSES, "mapping_layers": 2}
    knobs = {side[0]: dict(c.optimizer[side]) for side in ("generator", "discriminator")}
    for of_side in knobs.values():
        assert of_side.pop("name") == "adam" and of_side.pop("eps") == RECIPE
    return Case(
        stylegan2.Generator(SHAPE, widths=(8, 6), w_size=5, **small),
        stylegan2.Discriminator(widths=(6, 8), group_size=2, **small),
        c.loss.name,
        1,
        {"penalties": c.loss.penalties.to_dict(), "label_shares": (1 / CLASSES,) * CLASSES},
        knobs,
        HALF_LIFE,
        rampup=2.0,
        equalised=True,
    )


CASES = {
    "sngan": sngan_case(0),
    "sngan_projection": sngan_case(CLASSES),
    "r3gan": r3gan_case(),
    "stylegan2": stylegan2_case(),
}


# Our side.


def names(tree) -> dict[str, Any]:
    """A pytree's leaves by path, such as "Judge_0.logit.kernel"."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def found_in(state, metrics) -> dict[str, np.ndarray]:
    """All that is compared, by name."""
    tree = {
        "params_g": state.params_g,
        "params_d": state.params_d,
        "ema_g": state.ema_g,
        "stats": running(state.variables["generator"]),
        "ema_stats": running(state.ema_variables),
        "spectral": state.variables["discriminator"].get("spectral", {}),
        "metrics": metrics,
    }
    for side, opt in (("g", state.opt_g), ("d", state.opt_d)):
        tree |= {f"{moment}_{side}": optax.tree_utils.tree_get(opt, moment) for moment in ("mu", "nu")}
    return {name: np.asarray(leaf, np.float64) for name, leaf in names(tree).items()}


def running(collections):
    """The generator's running statistics: batch norm's, or the mean of StyleGAN2's w."""
    return collections.get("batch_stats", collections.get("w_mean", {}))


@cache
def machinery(name: str):
    """(game, the compiled update, a new state for an eps); eps is a traced value, so there is one compilation."""
    case = CASES[name]
    game = standard.make_game(
        case.generator, case.discriminator, ADVERSARIAL[case.loss], latent_size=LATENT, **case.options
    )

    def optimizers(eps):
        def of_side(side):
            ramps = {knob: value for knob, value in case.knobs[side].items() if isinstance(value, Ramp)}
            adam = make_optimizer("adam", **{knob: case.highest(side, knob) for knob in case.knobs[side]}, eps=eps)
            return Optimizer(adam, make_schedule(case.schedule, LINEAR_OVER), ramps)

        return Optimizers(of_side("g"), of_side("d"))

    example = {"real": jnp.zeros((2, *SHAPE)), "index": jnp.arange(2), "label": jnp.zeros(2, jnp.int32)}
    shapes = jax.eval_shape(lambda: create_state(game, optimizers(RECIPE), jax.random.key(0), example))

    def new_state(eps):
        return fill(shapes, optimizers(eps), case.equalised)

    config = settings(d_steps=case.d_steps, half_life_images=case.half_life, rampup=case.rampup)
    return game, jax.jit(make_update(game, optimizers(RECIPE), config)), new_state


def fill(shapes, optimizers, equalised=False):
    """A state with numbers of NumPy's: nothing is zero, so that every parameter counts from the first step on.

    An initial scale of 1 (batch norm's) stays near 1; kernels are near the size at which a layer keeps variances, where
    the learning rate is `equalised` that of what is stored: 1, and 100 in a mapping network, which makes 0.01 of it.
    """
    draws = np.random.RandomState(0)

    def stored(path, leaf):
        noise, name = draws.normal(size=leaf.shape), jax.tree_util.keystr(path, simple=True, separator=".")
        value = noise if len(leaf.shape) > 1 else name.endswith("style.bias") + 0.2 * noise
        return jnp.asarray(100.0 * value if "layer_" in name else value, jnp.float32)

    def one(path, leaf):
        noise = draws.normal(size=leaf.shape)
        name = jax.tree_util.keystr(path)
        if "scale" in name:
            return jnp.asarray(1.0 + 0.2 * noise, jnp.float32)
        if len(leaf.shape) < 2:
            return jnp.asarray(0.2 * noise, jnp.float32)
        spread = 0.5 if "embedding" in name or "pool" in name else math.prod(leaf.shape[:-1]) ** -0.5
        return jnp.asarray(spread * noise, jnp.float32)

    def unit(leaf):
        noise = draws.normal(size=leaf.shape)
        return jnp.asarray(noise / np.linalg.norm(noise), jnp.float32)

    params_g, params_d = (
        jax.tree.map_with_path(stored if equalised else one, tree) for tree in (shapes.params_g, shapes.params_d)
    )
    variables = {side: dict(collections) for side, collections in shapes.variables.items()}
    for collections in variables.values():
        if "spectral" in collections:
            collections["spectral"] = jax.tree.map(unit, collections["spectral"])
        if "batch_stats" in collections:
            collections["batch_stats"] = jax.tree.map(
                lambda leaf: jnp.asarray(1.0 + draws.uniform(size=leaf.shape), jnp.float32), collections["batch_stats"]
            )
        for name in sorted({"w_mean", "noise"} & set(collections)):
            collections[name] = jax.tree.map(
                lambda leaf: jnp.asarray(draws.normal(size=leaf.shape), jnp.float32), collections[name]
            )
    return shapes.replace(
        step=jnp.int32(0),
        images=jnp.uint32(0),
        params_g=params_g,
        params_d=params_d,
        variables=variables,
        opt_g=optimizers.generator.init(params_g),
        opt_d=optimizers.discriminator.init(params_d),
        ema_g=jax.tree.map(lambda x: 0.9 * x, params_g),
        ema_variables=jax.tree.map(lambda x: 0.9 * x, variables["generator"]),
        adaptive=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes.adaptive),
        key=jax.random.key(0),
    )


def batches(case: Case) -> list[dict[str, np.ndarray]]:
    """A batch for each update; entry b * d_steps + k is example b of discriminator step k."""
    draws, n = np.random.RandomState(1), BATCH * case.d_steps
    found = []
    for i in range(UPDATES):
        real, label = draws.uniform(-1, 1, (n, *SHAPE)), draws.randint(0, CLASSES, n)
        index = np.arange(n) + i * n
        found.append({"real": real.astype(np.float32), "label": label.astype(np.int32), "index": index})
    return found


def latents(game, case: Case, key, step: int, index: np.ndarray) -> list[np.ndarray]:
    """What an update draws: z of each discriminator step, then of the generator's."""
    return [np.asarray(game.latents(key_z, index)) for (key_z, _), index in passes(case, key, step, index)]


def passes(case: Case, key, step: int, index: np.ndarray):
    """Of an update's passes of the generator: the keys of latents and of what layers draw, by those of
    jaxgan/update.py, and the examples' places."""
    key_d, key_g = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 0), step))
    keys = [jax.random.fold_in(key_d, k) for k in range(case.d_steps)] + [key_g]
    last = case.d_steps - 1
    for k, of_step in enumerate(keys):
        keys_of_pass = jax.random.split(jax.random.split(of_step, 3)[0])
        yield keys_of_pass, jnp.asarray(index[min(k, last) :: case.d_steps])


def noises(case: Case, state, step: int, index: np.ndarray) -> list[dict[str, np.ndarray]]:
    """What StyleGAN2's layers draw in each pass, [B, 1, h, w] by name: that of a generator whose convolutions give zero
    and whose noise has a strength of 1."""

    def blank(path, leaf):
        return jnp.full(leaf.shape, float("strength" in jax.tree_util.keystr(path)))

    variables = {"params": jax.tree.map_with_path(blank, state.params_g), **state.variables["generator"]}
    drawn = []
    for (_, key), of_pass in passes(case, state.key, step, index):
        given = jnp.ones((BATCH, LATENT)), jnp.zeros(BATCH, jnp.int32)
        _, found = case.generator.apply(
            variables, *given, train=True, index=of_pass, rngs={"dropout": key}, mutable=["w_mean", "intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, stylegan2.Noise),
        )  # fmt: skip
        layers = found["intermediates"]["synthesis_network"]
        seen = {name: np.asarray(layer["noise"]["__call__"][0]) for name, layer in layers.items()}
        drawn.append({name: np.moveaxis(x[..., :1], -1, 1) for name, x in seen.items()})
    return drawn


@cache
def ours(name: str, eps: float) -> list[dict[str, np.ndarray]]:
    """What there is before the first update, and after each."""
    _, update, new_state = machinery(name)
    state = new_state(eps)
    found = [found_in(state, {})]
    for batch in batches(CASES[name]):
        state, metrics = update(state, batch)
        found.append(found_in(state, metrics))
    return found


# PyTorch's side. Parameters keep our names and axes; pictures are NCHW.


@cache
def theirs(name: str, eps: float) -> list[dict[str, np.ndarray]]:
    """As `ours`."""
    import torch

    case, (game, _, new_state) = CASES[name], machinery(name)
    state = new_state(eps)
    start = {name: torch.tensor(value) for name, value in found_in(state, {}).items()}
    train = {"r3gan": R3GAN, "stylegan2": StyleGAN2}.get(name, SNGAN)(start, eps)
    found = [train.snapshot({})]
    for step, batch in enumerate(batches(case)):
        z = [torch.tensor(z, dtype=torch.float64) for z in latents(game, case, state.key, step, batch["index"])]
        real = torch.tensor(batch["real"], dtype=torch.float64).permute(0, 3, 1, 2)
        label = torch.tensor(batch["label"]).long() if case.conditional else None
        if name == "stylegan2":
            drawn = noises(case, state, step, batch["index"])
            drawn = [{layer: torch.tensor(x).double() for layer, x in of_pass.items()} for of_pass in drawn]
            z = list(zip(z, drawn, strict=True))
        found.append(train.snapshot(train.update(real, label, z)))
    return found


def norm(tensors):
    return math.sqrt(sum(t.square().sum().item() for t in tensors))


def spread(x):
    """The standard deviation over the batch of each number of a picture, as the root of the mean square."""
    return x.detach().var(0, unbiased=False).mean().sqrt().item()


class Training:
    """What they have in common: the arrays, two Adams, the averages."""

    def __init__(self, start, eps):
        import torch

        def part(prefix):
            return {key.removeprefix(prefix): t.clone() for key, t in start.items() if key.startswith(prefix)}

        self.g, self.d = part("params_g."), part("params_d.")
        self.stats, self.spectral = part("stats."), part("spectral.")
        self.ema_g, self.ema_stats = part("ema_g."), part("ema_stats.")
        self.adams = {}
        for side, params in (("g", self.g), ("d", self.d)):
            parameters = [t.requires_grad_() for t in params.values()]
            self.adams[side] = torch.optim.Adam(parameters, lr=0.0, betas=(0.0, 0.9), eps=eps)
        self.images = 0

    def step(self, side, loss, learning_rate, beta2):
        """One step of a side's Adam; gives the norm of the gradient."""
        adam = self.adams[side]
        (group,) = adam.param_groups
        group["lr"], group["betas"] = learning_rate, (0.0, beta2)
        adam.zero_grad()
        loss.backward(inputs=group["params"])
        adam.step()
        return norm(p.grad for p in group["params"])

    def average(self, half_life, images):
        decay = 0.5 ** (images / max(half_life, 1e-8))
        for ema, now in ((self.ema_g, self.g), (self.ema_stats, self.stats)):
            for key, value in now.items():
                ema[key] = decay * ema[key] + (1 - decay) * value.detach()

    def snapshot(self, metrics):
        parts = {
            "params_g": self.g,
            "params_d": self.d,
            "ema_g": self.ema_g,
            "stats": self.stats,
            "ema_stats": self.ema_stats,
            "spectral": self.spectral,
        }
        found = {f"{part}.{key}": t.detach().numpy().copy() for part, ts in parts.items() for key, t in ts.items()}
        for side, params in (("g", self.g), ("d", self.d)):
            for key, p in params.items():
                moments = self.adams[side].state.get(p)  # before the first step there are none
                for name, of_torch in (("mu", "exp_avg"), ("nu", "exp_avg_sq")):
                    value = moments[of_torch].numpy().copy() if moments else np.zeros(p.shape)
                    found[f"{name}_{side}.{key}"] = value
        return found | {f"metrics.{key}": np.float64(value) for key, value in metrics.items()}


def conv(x, kernel, bias=None, groups=1):
    from torch.nn import functional as F

    return F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=kernel.shape[0] // 2, groups=groups)


class SNGAN(Training):
    """Hinge loss, spectral normalisation of D, batch norm in G; two steps of D, then one of G."""

    def update(self, real, label, latents):
        import torch

        steps = len(latents) - 1
        for k in range(steps):
            x, y = real[k::steps], None if label is None else label[k::steps]
            fake = self.generate(latents[k], y).detach()
            self.power_iteration()
            r, f = self.judge(x, y), self.judge(fake, y)
            loss = torch.relu(1 - r).mean() + torch.relu(1 + f).mean()
            grad_norm = self.step("d", loss, self.learning_rate(), 0.9)
            self.images += len(x)
        metrics = {
            "loss_d": loss.item(),
            "logits_real": r.mean().item(),
            "logits_fake": f.mean().item(),
            "accuracy_d": (r > f).double().mean().item(),
            "std_real": spread(x),
            "grad_norm_d": grad_norm,
        }
        fake = self.generate(latents[-1], y)
        loss = -self.judge(fake, y).mean()
        metrics |= {"loss_g": loss.item(), "std_fake": spread(fake)}
        metrics["grad_norm_g"] = self.step("g", loss, self.learning_rate(), 0.9)
        self.average(HALF_LIFE, len(real))
        return metrics

    def learning_rate(self):
        return LEARNING_RATE * (1 - self.images / LINEAR_OVER)

    def batch_norm(self, name, x, label):
        import torch
        from torch.nn import functional as F

        with torch.no_grad():
            # By hand: Flax's running variance is the batch's own, PyTorch's is n / (n - 1) of that.
            for kind, value in (("mean", x.mean((0, 2, 3))), ("var", x.var((0, 2, 3), unbiased=False))):
                self.stats[f"{name}.norm.{kind}"].lerp_(value, 0.1)
        x = F.batch_norm(x, None, None, training=True, eps=1e-5)
        if label is None:
            scale, bias = (self.g[f"{name}.norm.{kind}"].expand(len(x), -1) for kind in ("scale", "bias"))
        else:
            scale, bias = (self.g[f"{name}.Modulation_0.{kind}.embedding"][label] for kind in ("scale", "bias"))
        return x * scale[:, :, None, None] + bias[:, :, None, None]

    def generate(self, z, label):
        import torch
        from torch.nn import functional as F

        p = self.g
        x = z @ p["Dense_0.kernel"] + p["Dense_0.bias"]
        x = x.reshape(len(z), SHAPE[0] // 2, SHAPE[1] // 2, -1).permute(0, 3, 1, 2)
        block = "GeneratorBlock_0"
        h = torch.relu(self.batch_norm(f"{block}.ConditionalBatchNorm_0", x, label))
        h = F.interpolate(h, scale_factor=2, mode="nearest")
        h = conv(h, p[f"{block}.conv1.kernel"], p[f"{block}.conv1.bias"])
        h = torch.relu(self.batch_norm(f"{block}.ConditionalBatchNorm_1", h, label))
        h = conv(h, p[f"{block}.conv2.kernel"], p[f"{block}.conv2.bias"])
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = h + conv(x, p[f"{block}.shortcut.kernel"], p[f"{block}.shortcut.bias"])
        x = torch.relu(self.batch_norm("ConditionalBatchNorm_0", x, None))
        return torch.tanh(conv(x, p["Conv_0.kernel"], p["Conv_0.bias"]))

    def normalised(self):
        """D's parameters: kernels and embeddings over their largest singular value, estimated."""
        p = dict(self.d)
        for key in [key.removesuffix(".u") for key in self.spectral if key.endswith(".u")]:
            matrix = p[key].reshape(-1, p[key].shape[-1])
            p[key] = p[key] / (self.spectral[f"{key}.v"] @ matrix @ self.spectral[f"{key}.u"])
        return p

    def power_iteration(self):
        import torch
        from torch.nn import functional as F

        with torch.no_grad():
            for key, weight in self.d.items():
                if weight.ndim > 1:
                    matrix = weight.reshape(-1, weight.shape[-1])
                    v = F.normalize(matrix @ self.spectral[f"{key}.u"], dim=0)
                    self.spectral[f"{key}.v"] = v
                    self.spectral[f"{key}.u"] = F.normalize(matrix.T @ v, dim=0)

    def judge(self, x, label):
        import torch
        from torch.nn import functional as F

        p = self.normalised()
        for i in range(3):
            block = f"DiscriminatorBlock_{i}"
            h = torch.relu(x) if i else x
            h = torch.relu(conv(h, p[f"{block}.conv1.kernel"], p[f"{block}.conv1.bias"]))
            h = conv(h, p[f"{block}.conv2.kernel"], p[f"{block}.conv2.bias"])
            if i < 2:  # these halve the picture, and have a convolution in the shortcut
                h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
                x = conv(x, p[f"{block}.shortcut.kernel"], p[f"{block}.shortcut.bias"])
            x = x + h
        h = torch.relu(x).sum((2, 3))
        logits = (h @ p["Judge_0.logit.kernel"])[:, 0]
        return logits if label is None else logits + (h * p["Judge_0.projection.embedding"][label]).sum(1)


class R3GAN(Training):
    """Paired relativistic loss, R1 and R2, ramps of half a cosine; a step of D, then one of G on latents of its own."""

    def update(self, real, label, latents):
        import torch
        from torch.nn import functional as F

        gamma = self.ramp(1.0, 0.1)
        x = real.clone().requires_grad_()
        fake = self.generate(latents[0], label).detach().requires_grad_()
        r, f = self.judge(x, label), self.judge(fake, label)
        adversarial = F.softplus(f - r).mean()
        r1, r2 = (
            torch.autograd.grad(logits.sum(), pictures, create_graph=True)[0].square().sum((1, 2, 3)).mean() / 2
            for logits, pictures in ((r, x), (f, fake))
        )
        metrics = {
            "loss_d": adversarial.item(),
            "penalty_r1": r1.item(),
            "penalty_r2": r2.item(),
            "logits_real": r.mean().item(),
            "logits_fake": f.mean().item(),
            "accuracy_d": (r > f).double().mean().item(),
            "std_real": spread(real),
            "grad_norm_d": self.step("d", adversarial + gamma * (r1 + r2), *self.adam_now()),
        }
        self.images += len(real)
        fake = self.generate(latents[1], label)
        loss = F.softplus(self.judge(real, label) - self.judge(fake, label)).mean()
        metrics |= {"loss_g": loss.item(), "std_fake": spread(fake)}
        metrics["grad_norm_g"] = self.step("g", loss, *self.adam_now())
        self.average(self.ramp(0.0, HALF_LIFE), len(real))
        return metrics

    def ramp(self, start, end):
        share = min(self.images / COSINE_OVER, 1.0)
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    def adam_now(self):
        return self.ramp(LEARNING_RATE, LEARNING_RATE / 4), self.ramp(0.9, 0.99)

    @staticmethod
    def pointwise(x, kernel):
        return conv(x, kernel[None, None])

    @staticmethod
    def resample(x, up):
        """upfirdn with the filter [1, 3, 3, 1]."""
        import torch
        from torch.nn import functional as F

        taps = torch.tensor([1, 3, 3, 1], dtype=x.dtype) / 8
        kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
        if up:
            return F.conv_transpose2d(x, 4 * kernel, stride=2, padding=1, groups=x.shape[1])
        return F.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1])

    def block(self, p, name, x):
        from torch.nn import functional as F

        h = self.pointwise(x, p[f"{name}.widen.kernel"]) + p[f"{name}.bias_0"][:, None, None]
        h = F.leaky_relu(h, 0.2)
        h = conv(h, p[f"{name}.grouped"], p[f"{name}.bias_1"], groups=h.shape[1] // 4)
        return x + self.pointwise(F.leaky_relu(h, 0.2), p[f"{name}.narrow.kernel"])

    def generate(self, z, label):
        import torch

        p = self.g
        z = torch.cat([z, p["label.embedding"][label]], 1)
        x = (z @ p["basis.amounts.kernel"])[:, :, None, None] * p["basis.basis"].permute(2, 0, 1)
        x = self.block(p, "stage_0_block_0", x)
        x = self.resample(self.pointwise(x, p["up_1.kernel"]), up=True)
        x = self.block(p, "stage_1_block_0", x)
        return self.pointwise(x, p["to_rgb.kernel"])

    def judge(self, x, label):
        p = self.d
        x = self.block(p, "stage_0_block_0", self.pointwise(x, p["from_rgb.kernel"]))
        x = self.pointwise(self.resample(x, up=False), p["down_1.kernel"])
        x = self.block(p, "stage_1_block_0", x)
        h = (x * p["pool"].permute(2, 0, 1)).sum((2, 3)) @ p["judge.kernel"]
        return (h * p["label.embedding"][label]).sum(1)


class StyleGAN2(Training):
    """The loss of the logits, R1 at each 16th step; noise of each pass's own; the published Adams, of which that of D
    makes up for the steps that R1 had of its own there. Once R1 has come, at the first step, it does not come again."""

    def update(self, real, label, drawn):
        import torch
        from torch.nn import functional as F

        from tests import stylegan2_torch

        fake, _ = self.generate(*drawn[0], label)
        x = real.clone().requires_grad_()
        r, f = (stylegan2_torch.judge(self.d, pictures, label, group_size=2) for pictures in (x, fake.detach()))
        adversarial = F.softplus(-r).mean() + F.softplus(f).mean()
        (slope,) = torch.autograd.grad(r.sum(), x, create_graph=True)
        is_first = self.images == 0
        r1 = slope.square().sum((1, 2, 3)).mean() / 2 * (16 if is_first else 0)
        share = 16 / 17
        metrics = {
            "loss_d": adversarial.item(),
            "penalty_r1": r1.item(),
            "logits_real": r.mean().item(),
            "logits_fake": f.mean().item(),
            "accuracy_d": (r > f).double().mean().item(),
            "std_real": spread(real),
            "grad_norm_d": self.step("d", adversarial + 0.01 * r1, 0.0025 * share, 0.99**share),
        }
        self.images += len(real)
        fake, _ = self.generate(*drawn[1], label)
        loss = F.softplus(-stylegan2_torch.judge(self.d, fake, label, group_size=2)).mean()
        metrics |= {"loss_g": loss.item(), "std_fake": spread(fake)}
        metrics["grad_norm_g"] = self.step("g", loss, 0.0025, 0.99)
        self.average(min(HALF_LIFE, 2.0 * self.images), len(real))
        return metrics

    def generate(self, z, noise, label):
        """A training pass, which moves the mean of w."""
        from tests import stylegan2_torch

        fake, w = stylegan2_torch.generate(self.g, z, label, noise)
        self.stats["mean"] = 0.998 * self.stats["mean"] + 0.002 * w.detach().mean(0)
        return fake, w


# Both.


def largest(found: dict[str, np.ndarray], part: str) -> float:
    return max(np.max(np.abs(value)) for name, value in found.items() if name.startswith(f"{part}."))


def tolerance(
    case: Case, after: int, name: str, arrays: list[dict[str, np.ndarray]], eps: float
) -> np.ndarray | float:
    """How far an array may be from PyTorch's after so many updates; `arrays` are one side's, as of `ours`.

    1e-5 of the array's largest number; of parameters, which hardly move, 1e-5 of the steps they may have made. What
    comes on top is float32's: a parameter is rounded at each step, and a gradient that cancels (to exactly 0 for a bias
    before batch norm) keeps the rounding errors of what cancels in it, up to 1e-6 of the network's largest gradient.
    """
    found = arrays[after]
    part, size = name.split(".", 1)[0], np.max(np.abs(found[name]))
    if part in ("mu_g", "mu_d"):
        return 1e-5 * size + 1e-6 * largest(found, part)
    if part in ("nu_g", "nu_d"):  # of squares (g + error)^2, what is more than g^2
        error = 1e-6 * math.sqrt(largest(found, part))
        return 1e-5 * size + 2 * math.sqrt(size) * error + error**2
    if part in ("params_g", "params_d", "ema_g"):
        side = part[-1]
        steps, rate = after * (case.d_steps if side == "d" else 1), case.highest(side, "learning_rate")
        allowed = steps * (1e-5 * rate + 2**-24 * size)
        if eps == SMOOTH:
            return allowed
        # A step is learning rate * gradient / root(nu): the gradient's error over root(nu), at most a step and a turn.
        of_adam, b2 = name.replace(part, f"nu_{side}", 1), case.highest(side, "b2")
        nus = [arrays[k][of_adam] / (1 - b2 ** (k * steps / after)) for k in range(1, after + 1)]
        error = 1e-6 * largest(found, f"mu_{side}") / (np.sqrt(np.min(nus, axis=0)) + eps)
        return allowed + steps * rate * np.minimum(2.0, error)
    if eps != SMOOTH and part in ("stats", "ema_stats") and name.endswith(".norm.mean"):
        # The mean before a batch norm holds two biases of which nothing behind it depends: together they are adrift by
        # up to two steps more after each update, and each of an update's three passes takes a tenth of that.
        return 1e-5 * size + 0.3 * 2 * LEARNING_RATE * sum(range(after))
    return 1e-5 * size


@needs_torch
@pytest.mark.slow  # what PyTorch once made is compared with below
@pytest.mark.parametrize("after", [1, UPDATES])
@pytest.mark.parametrize("eps", [SMOOTH, RECIPE], ids=["smooth", "recipe"])
@pytest.mark.parametrize("name", CASES)
def test_updates_are_those_of_pytorch(name, eps, after):
    arrays = theirs(name, eps)
    found, expected = ours(name, eps)[after], arrays[after]
    assert set(found) == set(expected)
    for array in sorted(expected):
        allowed = tolerance(CASES[name], after, array, arrays, eps)
        error = np.abs(found[array] - expected[array])
        assert np.all(error <= allowed), f"{array}: off by {np.max(error - allowed):.1e} more than rounding errors"


SLOW = {"stylegan2": pytest.mark.slow}  # the golden test compiles the same update, but in another process


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in CASES])
def test_updates_move_everything_by_far_more_than_the_tolerance(name):
    """So that an update that leaves something as it was is found out."""
    arrays = ours(name, SMOOTH)
    start, found = arrays[:2]
    # Batch norm takes away what these add, so they have no gradient; a unit vector of one number stays 1 or -1.
    block = "GeneratorBlock_0"
    fixed = [f"{block}.conv1.bias", f"{block}.conv2.bias", f"{block}.shortcut.bias", "Judge_0.logit.kernel.u"]
    for array, before in start.items():
        if array.split(".", 1)[1] in fixed and not array.startswith("ema"):
            continue
        # Kernels of hundreds have steps of a few units of float32's last place. Adam's moments tell of them.
        if CASES[name].equalised and "layer_" in array and array.startswith("params"):
            continue
        moved = np.max(np.abs(found[array] - before))
        assert moved > 100 * np.max(tolerance(CASES[name], 1, array, arrays, SMOOTH)), array


def checksums(value: np.ndarray) -> np.ndarray:
    """The norm, and the product with a vector of length 1 and unequal entries: both move by at most |error|."""
    flat = np.ravel(value)
    weights = np.cos(1.0 + np.arange(flat.size))
    return np.array([np.linalg.norm(flat), flat @ weights / np.linalg.norm(weights)])


def moved(arrays: list[dict[str, np.ndarray]], after: int, array: str) -> np.ndarray:
    """What changed since the start: parameters move too little to be checked by their own norm."""
    return arrays[after][array] - arrays[0].get(array, 0.0)


def inputs(name: str) -> np.ndarray:
    """Checksums of what both sides start from: weights, and latents."""
    game, _, new_state = machinery(name)
    state = new_state(SMOOTH)
    values = list(found_in(state, {}).values())
    for step, batch in enumerate(batches(CASES[name])):
        values += [batch["real"], batch["label"], *latents(game, CASES[name], state.key, step, batch["index"])]
    return np.stack([checksums(value) for value in values])


@pytest.mark.parametrize("name", CASES)
def test_updates_are_those_that_pytorch_once_made(name):
    with np.load(PATH) as golden:
        again = "write the file again: python -m tests.test_update_parity"
        start, arrays, expected = (golden[f"{name}/{part}"] for part in ("inputs", "arrays", "checksums"))
    np.testing.assert_allclose(inputs(name), start, rtol=1e-5, atol=1e-5, err_msg=f"not the update's fault; {again}")
    found = ours(name, SMOOTH)
    assert sorted(found[1]) == arrays.tolist()
    for after, of_update in zip((1, UPDATES), expected, strict=True):
        for array, sums in zip(arrays, of_update, strict=True):
            allowed = tolerance(CASES[name], after, array, found, SMOOTH) * math.sqrt(found[after][array].size)
            error = np.max(np.abs(checksums(moved(found, after, array)) - sums))
            assert error <= allowed, f"{array} after {after}: off by {error:.1e}, rounding errors are {allowed:.1e}"


def write() -> None:
    """The file of checksums, from PyTorch."""
    golden = {}
    for name in CASES:
        found = theirs(name, SMOOTH)
        arrays = sorted(found[1])
        sums = [[checksums(moved(found, after, array)) for array in arrays] for after in (1, UPDATES)]
        golden |= {f"{name}/inputs": inputs(name), f"{name}/arrays": np.array(arrays), f"{name}/checksums": sums}
    np.savez_compressed(PATH, **golden)


if __name__ == "__main__":
    write()
