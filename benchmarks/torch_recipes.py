"""Recipes of experiments/ as a PyTorch user would train them fast: the peers of updates_vs_torch.py.

float32, channels_last, fused Adam, averages by one `_foreach_lerp_`, pictures drawn from uint8 in memory, no gradient
computed that is not used. The networks have the parameters of ours (asserted by the benchmark), and each update does
what jaxgan's does.
"""

import copy
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import softplus
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils._python_dispatch import TorchDispatchMode

EXAMPLES = 5000
CLASSES = 10
DECAY = 0.999  # of the average; its value costs nothing


class Game:
    """The two networks, their optimizers, the average and the data."""

    def __init__(self, generator, discriminator, recipe: SimpleNamespace, is_compiled: bool):
        self.generator, self.discriminator = generator, discriminator
        for network in (generator, discriminator):
            network.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(generator)
        self.pairs = [p.data for p in self.average.parameters()], [p.data for p in generator.parameters()]
        adam = {"lr": recipe.learning_rate, "betas": recipe.betas, "fused": True}
        self.adam_g, self.adam_d = (torch.optim.Adam(n.parameters(), **adam) for n in (generator, discriminator))
        self.batch_size, self.latents, self.d_steps = recipe.batch_size, recipe.latents, recipe.d_steps
        height, width, channels = recipe.shape
        pictures = torch.randint(0, 256, (EXAMPLES, channels, height, width), dtype=torch.uint8)
        self.pictures = pictures.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(0, CLASSES, (EXAMPLES,)) if recipe.conditional else None
        self.generate, self.judge = generator, discriminator
        if is_compiled:
            self.generate, self.judge = torch.compile(generator), torch.compile(discriminator)

    def counts(self) -> list[int]:
        return [sum(p.numel() for p in n.parameters()) for n in (self.generator, self.discriminator)]

    def real(self):
        """A batch of pictures in [-1, 1], and what both networks are told: the labels, or nothing."""
        index = torch.randint(0, EXAMPLES, (self.batch_size,))
        return self.pictures[index].float() / 127.5 - 1, () if self.labels is None else (self.labels[index],)

    def latent(self):
        return torch.randn(self.batch_size, self.latents)

    def step_d(self, loss) -> None:
        self.adam_d.zero_grad(set_to_none=True)
        loss.backward()
        self.adam_d.step()

    def step_g(self, loss: Callable) -> None:
        """`loss()` is computed and stepped on while the discriminator's weights need no gradient."""
        self.discriminator.requires_grad_(False)
        self.adam_g.zero_grad(set_to_none=True)
        loss().backward()
        self.adam_g.step()
        self.discriminator.requires_grad_(True)
        torch._foreach_lerp_(*self.pairs, 1 - DECAY)


def shared_pass(game: Game) -> None:
    """Non-saturating; one pass of the generator for both steps."""
    real, told = game.real()
    fake = game.generate(game.latent(), *told)
    game.step_d(softplus(-game.judge(real)).mean() + softplus(game.judge(fake.detach())).mean())
    game.step_g(lambda: softplus(-game.judge(fake)).mean())


def wgan_gp(game: Game) -> None:
    for _ in range(game.d_steps):
        real, _ = game.real()
        with torch.no_grad():
            fake = game.generate(game.latent())
        share = torch.rand(len(real), 1, 1, 1)
        between = torch.lerp(fake, real, share).requires_grad_()
        (gradient,) = torch.autograd.grad(game.judge(between).sum(), between, create_graph=True)
        penalty = (gradient.square().sum((1, 2, 3)).sqrt() - 1).square().mean()
        game.step_d(game.judge(fake).mean() - game.judge(real).mean() + 10 * penalty)
    game.step_g(lambda: -game.judge(game.generate(game.latent())).mean())


def sngan(game: Game) -> None:
    for _ in range(game.d_steps):
        real, _ = game.real()
        with torch.no_grad():
            fake = game.generate(game.latent())
        game.step_d(F.relu(1 - game.judge(real)).mean() + F.relu(1 + game.judge(fake)).mean())
    game.step_g(lambda: -game.judge(game.generate(game.latent())).mean())


def r3gan(game: Game) -> None:
    real, told = game.real()
    with torch.no_grad():
        fake = game.generate(game.latent(), *told)
    x, y = real.requires_grad_(), fake.requires_grad_()
    r, f = game.judge(x, *told), game.judge(y, *told)
    penalty = 0
    for logits, pictures in ((r, x), (f, y)):
        (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
        penalty = penalty + gradient.square().sum((1, 2, 3)).mean() / 2
    game.step_d(softplus(f - r).mean() + penalty)
    real = real.detach()

    def loss_g():
        return softplus(game.judge(real, *told) - game.judge(game.generate(game.latent(), *told), *told)).mean()

    game.step_g(loss_g)


class Flops(TorchDispatchMode):
    """Counts products and sums: of matrix products and convolutions, and their derivatives of any order, as they run.

    PyTorch's own counter stops at gradients of leaves, and takes a grouped convolution's derivative for a full one's.
    """

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out, name = func(*args, **(kwargs or {})), func._overloadpacket.__name__
        if name in ("mm", "addmm", "bmm"):
            self.total += 2 * out.numel() * args[-1 if name != "addmm" else 2].shape[-2]
        elif name in ("convolution", "convolution_overrideable"):
            x, weight, transposed = args[0], args[1], args[6]
            self.total += 2 * (x if transposed else out).numel() * weight[0].numel()
        elif name == "convolution_backward":
            cotangent, x, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
            self.total += sum(wanted[:2]) * 2 * (x if transposed else cotangent).numel() * weight[0].numel()
        return out


# Networks.


def mlp(recipe):
    def layers(sizes, dropout):
        for inputs, outputs in pairwise(sizes):
            yield nn.Linear(inputs, outputs)
            yield nn.LeakyReLU(0.2)
            if dropout:
                yield nn.Dropout(dropout)

    height, width, channels = recipe.shape
    pixels = height * width * channels
    generator = nn.Sequential(
        *layers((recipe.latents, 256, 512, 1024), 0),
        nn.Linear(1024, pixels),
        nn.Tanh(),
        nn.Unflatten(1, (channels, height, width)),
    )
    discriminator = nn.Sequential(
        nn.Flatten(), *layers((pixels, 1024, 512, 256), 0.3), nn.Linear(256, 1), nn.Flatten(0)
    )
    return generator, discriminator


def dcgan(recipe):
    widths, k = recipe.widths, recipe.kernel
    height, width, channels = recipe.shape
    base = height >> len(widths), width >> len(widths)
    padding, extra = (k - 1) // 2, k % 2
    layers = [
        nn.Linear(recipe.latents, base[0] * base[1] * widths[0], bias=False),
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
    return generator, discriminator


class UpBlock(nn.Module):
    """SNGAN's and WGAN-GP's; the shortcut's 1x1 convolution before the upsampling, which it commutes with."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1, self.conv2 = (nn.Conv2d(n, outputs, 3, padding=1) for n in (inputs, outputs))
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        h = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2))
        return self.conv2(F.relu(self.norm2(h))) + F.interpolate(self.shortcut(x), scale_factor=2)


class DownBlock(nn.Module):
    def __init__(self, inputs, outputs, down, first, norm):
        super().__init__()
        self.down, self.first = down, first
        hidden = outputs if first else inputs
        self.conv1 = norm(nn.Conv2d(inputs, hidden, 3, padding=1))
        self.conv2 = norm(nn.Conv2d(hidden, outputs, 3, padding=1))
        self.shortcut = norm(nn.Conv2d(inputs, outputs, 1)) if down or inputs != outputs else nn.Identity()

    def forward(self, x):
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if not self.down:
            return h + self.shortcut(x)
        return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))


class ResidualGenerator(nn.Module):
    def __init__(self, recipe):
        super().__init__()
        width, channels = recipe.widths[0], recipe.shape[-1]
        self.dense = nn.Linear(recipe.latents, 16 * width)
        self.blocks = nn.Sequential(*(UpBlock(width, width) for _ in range(3)))
        self.norm, self.conv = nn.BatchNorm2d(width), nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, z):
        x = self.dense(z).view(len(z), -1, 4, 4).contiguous(memory_format=torch.channels_last)
        return torch.tanh(self.conv(F.relu(self.norm(self.blocks(x)))))


class ResidualDiscriminator(nn.Module):
    def __init__(self, recipe, norm, pool, bias):
        super().__init__()
        width, channels = recipe.widths[1], recipe.shape[-1]
        blocks = [DownBlock(width if i else channels, width, i < 2, i == 0, norm) for i in range(4)]
        self.blocks, self.pool, self.dense = nn.Sequential(*blocks), pool, norm(nn.Linear(width, 1, bias=bias))

    def forward(self, x):
        return self.dense(self.pool(F.relu(self.blocks(x)), dim=(2, 3)))[:, 0]


def residual(recipe, norm=lambda layer: layer, pool=torch.mean, bias=True):
    return ResidualGenerator(recipe), ResidualDiscriminator(recipe, norm, pool, bias)


class R3Block(nn.Module):
    def __init__(self, channels, group_size=16):
        super().__init__()
        wide = 2 * channels
        self.widen, self.narrow = nn.Conv2d(channels, wide, 1), nn.Conv2d(wide, channels, 1, bias=False)
        self.grouped = nn.Conv2d(wide, wide, 3, padding=1, groups=wide // group_size)

    def forward(self, x):
        return x + self.narrow(F.leaky_relu(self.grouped(F.leaky_relu(self.widen(x), 0.2)), 0.2))


class Resample(nn.Module):
    """The filter [1, 3, 3, 1] and every second pixel, or the transpose of it."""

    def __init__(self, channels, up):
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        kernel = torch.outer(taps, taps) * (4 if up else 1)
        self.register_buffer("kernel", kernel.expand(channels, 1, 4, 4).contiguous())
        self.convolve = F.conv_transpose2d if up else F.conv2d

    def forward(self, x):
        return self.convolve(x, self.kernel, stride=2, padding=1, groups=len(self.kernel))


def r3_stages(widths, up):
    """One block a resolution; a 1x1 convolution where the width changes, on the smaller picture."""
    layers = [R3Block(widths[0])]
    for inputs, outputs in pairwise(widths):
        change = nn.Conv2d(inputs, outputs, 1, bias=False)
        layers += [change, Resample(outputs, True)] if up else [Resample(inputs, False), change]
        layers.append(R3Block(outputs))
    return nn.Sequential(*layers)


class R3Generator(nn.Module):
    def __init__(self, recipe):
        super().__init__()
        widths, (height, width, channels) = recipe.widths, recipe.shape
        base = height >> len(widths) - 1, width >> len(widths) - 1
        self.label = nn.Embedding(CLASSES, 64)
        self.basis = nn.Parameter(torch.randn(widths[0], *base))
        self.amounts = nn.Linear(recipe.latents + 64, widths[0], bias=False)
        self.stages, self.to_rgb = r3_stages(widths, up=True), nn.Conv2d(widths[-1], channels, 1, bias=False)

    def forward(self, z, label):
        amounts = self.amounts(torch.cat([z, self.label(label)], 1))
        x = (amounts[:, :, None, None] * self.basis).contiguous(memory_format=torch.channels_last)
        return self.to_rgb(self.stages(x))


class R3Discriminator(nn.Module):
    def __init__(self, recipe):
        super().__init__()
        widths, (height, width, channels) = recipe.widths[::-1], recipe.shape
        base = height >> len(widths) - 1, width >> len(widths) - 1
        self.from_rgb, self.stages = nn.Conv2d(channels, widths[0], 1, bias=False), r3_stages(widths, up=False)
        self.pool = nn.Parameter(torch.randn(widths[-1], *base) / (base[0] * base[1]) ** 0.5)
        self.dense, self.label = nn.Linear(widths[-1], widths[-1], bias=False), nn.Embedding(CLASSES, widths[-1])

    def forward(self, x, label):
        pooled = (self.stages(self.from_rgb(x)) * self.pool).sum((2, 3))
        return (self.dense(pooled) * self.label(label)).sum(1)


def r3_networks(recipe):
    return R3Generator(recipe), R3Discriminator(recipe)


NETWORKS = {
    "mlp": mlp,
    "dcgan": dcgan,
    "wgan_gp": residual,
    "sngan": partial(residual, norm=spectral_norm, pool=torch.sum, bias=False),
    "r3gan": r3_networks,
}
UPDATES = {"mlp": shared_pass, "dcgan": shared_pass, "wgan_gp": wgan_gp, "sngan": sngan, "r3gan": r3gan}


def make(recipe: SimpleNamespace, is_compiled: bool) -> tuple[list[int], Callable[[int], None], Callable[[], int]]:
    """(parameter counts, what runs so many updates, what counts the products and sums of one)."""
    torch.manual_seed(0)
    game = Game(*NETWORKS[recipe.family](recipe), recipe, is_compiled)
    update = partial(UPDATES[recipe.family], game)

    def updates(n):
        for _ in range(n):
            update()

    def flops():
        with Flops() as counter:
            update()
        return counter.total

    return game.counts(), updates, flops


def make_mimicry(recipe: SimpleNamespace) -> tuple[list[int], Callable[[int], None]]:
    """torch-mimicry's own networks and training steps, for SNGAN and WGAN-GP at 32x32."""
    import importlib
    import importlib.util
    import sys
    import types

    found = importlib.util.find_spec("torch_mimicry")
    if found is None:
        raise ImportError("torch-mimicry is not installed")
    # Its package imports TensorBoard, TensorFlow and more for training loops and metrics, which its steps do not need.
    package = types.ModuleType("torch_mimicry")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["torch_mimicry"] = package
    family = recipe.family
    nets = types.ModuleType("torch_mimicry.nets")
    nets.__path__ = [f"{package.__path__[0]}/nets"]
    sys.modules["torch_mimicry.nets"] = nets
    module = importlib.import_module(f"torch_mimicry.nets.{family}.{family}_32")
    prefix = {"sngan": "SNGAN", "wgan_gp": "WGANGP"}[family]
    torch.manual_seed(0)
    generator, discriminator = (
        getattr(module, f"{prefix}{side}32")(**{width: n})
        for side, width, n in zip(("Generator", "Discriminator"), ("ngf", "ndf"), recipe.widths, strict=True)
    )
    data = Game(nn.Linear(1, 1), nn.Linear(1, 1), recipe, False)
    adams = [torch.optim.Adam(n.parameters(), recipe.learning_rate, recipe.betas) for n in (generator, discriminator)]
    log = types.SimpleNamespace(add_metric=lambda *args, **keywords: None)

    def updates(n):
        for _ in range(n):
            for _ in range(recipe.d_steps):
                batch = data.real()[0], None
                discriminator.train_step(batch, generator, adams[1], log, device="cpu")
            generator.train_step(batch, discriminator, adams[0], log, device="cpu")

    return [sum(p.numel() for p in n.parameters()) for n in (generator, discriminator)], updates
