"""Recipes of experiments/ as a PyTorch user would train them fast: the peers of updates_vs_torch.py.

float32, channels_last, fused Adam, averages by one `_foreach_lerp_`, pictures drawn from uint8 in memory, no gradient
computed that is not used. The networks have the parameters of ours (asserted by the benchmark), and each update does
what jaxgan's does.

On a GPU everything is drawn there, cuDNN compares its algorithms (`cudnn.benchmark`), and float32 products and
convolutions are taken in TF32, as JAX takes them by default. In bfloat16 the networks run under `torch.autocast`.

The compiled side compiles both networks, on a GPU in the mode that puts each network's kernels into CUDA graphs
("reduce-overhead") where that works. Where the discriminator's gradient is penalised the generator alone is compiled:
`torch.compile` has no second derivatives. The sides called graphs capture a whole update, both networks' forward and
backward passes, Adam and the average, in one CUDA graph, of eager networks or of compiled ones.
"""

import copy
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import torch
from common import cores, rates
from recipes import CLASSES, EXAMPLES
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import softplus
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils._python_dispatch import TorchDispatchMode

DECAY = 0.999  # of the average; its value costs nothing
PENALISED = ("wgan_gp", "r3gan")  # the discriminator's gradient is, and has to be differentiated itself
WARM_UP = 3  # updates, in which compilers and cuDNN choose what they run


class Game:
    """The two networks, their optimizers, the average and the data."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        recipe: SimpleNamespace,
        device: str = "cpu",
        compiler: Callable | None = None,
        capturable: bool = False,
    ):
        self.device, self.generator, self.discriminator = device, generator, discriminator
        for network in (generator, discriminator):
            network.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(generator)
        self.pairs = [p.data for p in self.average.parameters()], [p.data for p in generator.parameters()]
        adam = {"lr": recipe.learning_rate, "betas": recipe.betas, "fused": True, "capturable": capturable}
        self.adam_g, self.adam_d = (torch.optim.Adam(n.parameters(), **adam) for n in (generator, discriminator))
        self.batch_size, self.latents, self.d_steps = recipe.batch_size, recipe.latents, recipe.d_steps
        height, width, channels = recipe.shape
        pictures = torch.randint(0, 256, (EXAMPLES, channels, height, width), dtype=torch.uint8, device=device)
        self.pictures = pictures.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(0, CLASSES, (EXAMPLES,), device=device) if recipe.conditional else None
        self.generate, self.judge = generator, discriminator
        if compiler is not None:
            self.generate = compiler(generator)
            self.judge = discriminator if recipe.family in PENALISED else compiler(discriminator)
        if recipe.precision == "bfloat16":
            self.generate, self.judge = (in_bfloat16(network, device) for network in (self.generate, self.judge))

    def counts(self) -> list[int]:
        return [sum(p.numel() for p in n.parameters()) for n in (self.generator, self.discriminator)]

    def real(self):
        """A batch of pictures in [-1, 1], and what both networks are told: the labels, or nothing."""
        index = torch.randint(0, EXAMPLES, (self.batch_size,), device=self.device)
        return self.pictures[index].float() / 127.5 - 1, () if self.labels is None else (self.labels[index],)

    def latent(self):
        return torch.randn(self.batch_size, self.latents, device=self.device)

    def step_d(self, *losses: Callable) -> None:
        """A step on the sum of `loss()`, one after another.

        A compiled pass keeps the vectors of spectral norm for its derivative, and the next pass moves them on.
        """
        self.adam_d.zero_grad(set_to_none=True)
        for loss in losses:
            loss().backward()
        self.adam_d.step()

    def step_g(self, loss: Callable) -> None:
        """`loss()` is computed and stepped on while the discriminator's weights need no gradient."""
        self.discriminator.requires_grad_(False)
        self.adam_g.zero_grad(set_to_none=True)
        loss().backward()
        self.adam_g.step()
        self.discriminator.requires_grad_(True)
        torch._foreach_lerp_(*self.pairs, 1 - DECAY)


def in_bfloat16(network: Callable, device: str) -> Callable:
    """Computes in bfloat16 with the network's float32 parameters; the result is float32."""

    def call(*args):
        # Without its cache, which a captured graph must not have and a single pass has no use for.
        with torch.autocast(device, torch.bfloat16, cache_enabled=False):
            x = network(*args)
        return x.float()

    return call


def shared_pass(game: Game) -> None:
    """Non-saturating; one pass of the generator for both steps."""
    real, told = game.real()
    fake = game.generate(game.latent(), *told)
    game.step_d(lambda: softplus(-game.judge(real)).mean() + softplus(game.judge(fake.detach())).mean())
    game.step_g(lambda: softplus(-game.judge(fake)).mean())


def wgan_gp(game: Game) -> None:
    for _ in range(game.d_steps):
        real, _ = game.real()
        with torch.no_grad():
            fake = game.generate(game.latent())
        game.step_d(partial(wgan_gp_loss, game, real, fake))
    game.step_g(lambda: -game.judge(game.generate(game.latent())).mean())


def wgan_gp_loss(game: Game, real, fake):
    share = torch.rand(len(real), 1, 1, 1, device=game.device)
    between = torch.lerp(fake, real, share).requires_grad_()
    (gradient,) = torch.autograd.grad(game.judge(between).sum(), between, create_graph=True)
    penalty = (gradient.square().sum((1, 2, 3)).sqrt() - 1).square().mean()
    return game.judge(fake).mean() - game.judge(real).mean() + 10 * penalty


def sngan(game: Game) -> None:
    for _ in range(game.d_steps):
        real, _ = game.real()
        with torch.no_grad():
            fake = game.generate(game.latent())
        game.step_d(*(partial(hinge, game, pictures, sign) for pictures, sign in ((real, -1), (fake, 1))))
    game.step_g(lambda: -game.judge(game.generate(game.latent())).mean())


def hinge(game: Game, pictures, sign: int):
    return F.relu(1 + sign * game.judge(pictures)).mean()


def r3gan(game: Game) -> None:
    real, told = game.real()
    with torch.no_grad():
        fake = game.generate(game.latent(), *told)
    game.step_d(partial(r3gan_loss, game, real.requires_grad_(), fake.requires_grad_(), told))
    real = real.detach()

    def loss_g():
        return softplus(game.judge(real, *told) - game.judge(game.generate(game.latent(), *told), *told)).mean()

    game.step_g(loss_g)


def r3gan_loss(game: Game, real, fake, told):
    r, f = game.judge(real, *told), game.judge(fake, *told)
    penalty = 0
    for logits, pictures in ((r, real), (f, fake)):
        (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
        penalty = penalty + gradient.square().sum((1, 2, 3)).mean() / 2
    return softplus(f - r).mean() + penalty


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


def make(recipe: SimpleNamespace, side: str, args):
    """(what runs so many updates, facts, what it measures) of a side, by the arguments of updates_vs_torch.py."""
    is_on_gpu = args.device == "gpu"
    prepare(is_on_gpu)
    facts = {"versions": f"torch {torch.__version__}, {torch.get_num_threads()} threads"}
    wait = torch.cuda.synchronize if is_on_gpu else lambda: None
    if side == "torch-mimicry":
        counts, update = make_mimicry(recipe)
        facts["mimicry"] = counts
    else:
        game, update, facts["mode"] = start(recipe, side, "cuda" if is_on_gpu else "cpu")
        facts["counts"] = game.counts()

    def updates(n):
        for _ in range(n):
            update()
        wait()

    def flops():
        with Flops() as counter:
            update()
        return counter.total

    peak = partial(rates, partial(peaks, recipe.precision, "cuda" if is_on_gpu else "cpu", wait), args.device)
    return updates, facts, {"flops": flops, "peak": peak, "device_mib": device_mib}


def prepare(is_on_gpu: bool) -> None:
    torch.set_num_threads(cores())
    torch.manual_seed(0)
    if is_on_gpu:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True


def start(recipe: SimpleNamespace, side: str, device: str) -> tuple[Game, Callable[[], None], str]:
    """The game, its update, warmed up, and how it was compiled: in the first of the modes that works."""
    is_captured = "graphs" in side
    modes = [""]
    if "compiled" in side:
        modes = ["default"] if is_captured or device == "cpu" else ["reduce-overhead", "default"]
    for mode in modes:
        compiler = partial(torch.compile, mode=mode) if mode else None
        game = Game(*NETWORKS[recipe.family](recipe), recipe, device, compiler, is_captured)
        update = partial(UPDATES[recipe.family], game)
        if mode == "reduce-overhead":
            update = partial(in_new_step, update)
        try:
            return game, captured(game, update) if is_captured else warmed_up(update, device), mode
        except Exception as error:
            if mode == modes[-1]:
                raise
            print(f"{side}: mode {mode} fails: {error}")
            torch._dynamo.reset()


def in_new_step(update: Callable[[], None]) -> None:
    """What compiled networks returned before may be overwritten from here on, and only from here on."""
    torch.compiler.cudagraph_mark_step_begin()
    update()


def warmed_up(update: Callable[[], None], device: str) -> Callable[[], None]:
    for _ in range(WARM_UP):
        update()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    return update


def captured(game: Game, update: Callable[[], None]) -> Callable[[], None]:
    """An update as one CUDA graph, by the recipe for whole networks in PyTorch's notes on CUDA graphs.

    Everything runs on one side stream from the beginning: the nodes that collect gradients stay on the stream of
    their first use. Random numbers move on from replay to replay.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        warmed_up(update, "cuda")
    torch.cuda.current_stream().wait_stream(stream)
    for adam in (game.adam_g, game.adam_d):
        adam.zero_grad(set_to_none=True)  # so that gradients are made in the graph's own memory
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        update()

    def replay(_alive=(game, update)):  # the graph reads and writes their tensors, and does not keep them itself
        graph.replay()

    return replay


def device_mib() -> float:
    """The most that was allocated since the first updates, or what is held at the end: a graph's replay allocates
    nothing, but its memory stays."""
    highest = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    return max(highest, torch.cuda.memory_reserved()) / 2**20


def peaks(precision: str, device: str, wait: Callable[[], None], size: int, conv_size: tuple[int, int, int]):
    """A product and a convolution for `common.rates`."""
    batch, side, width = conv_size
    like = {"dtype": getattr(torch, precision), "device": device}
    a = torch.ones(size, size, **like)
    x = torch.ones(batch, width, side, side, **like).to(memory_format=torch.channels_last)
    kernel = torch.ones(width, width, 3, 3, **like).to(memory_format=torch.channels_last)

    def waited(f):
        def call():
            with torch.inference_mode():
                f()
            wait()

        return call

    return waited(lambda: a @ a), waited(lambda: F.conv2d(x, kernel, padding=1))


def make_mimicry(recipe: SimpleNamespace) -> tuple[list[int], Callable[[], None]]:
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
    generator, discriminator = (
        getattr(module, f"{prefix}{side}32")(**{width: n})
        for side, width, n in zip(("Generator", "Discriminator"), ("ngf", "ndf"), recipe.widths, strict=True)
    )
    data = Game(nn.Linear(1, 1), nn.Linear(1, 1), recipe)
    adams = [torch.optim.Adam(n.parameters(), recipe.learning_rate, recipe.betas) for n in (generator, discriminator)]
    log = types.SimpleNamespace(add_metric=lambda *args, **keywords: None)

    def update():
        for _ in range(recipe.d_steps):
            batch = data.real()[0], None
            discriminator.train_step(batch, generator, adams[1], log, device="cpu")
        generator.train_step(batch, discriminator, adams[0], log, device="cpu")

    return [sum(p.numel() for p in n.parameters()) for n in (generator, discriminator)], update
