"""Recipes of experiments/ as a PyTorch user would train them fast: the peers of updates_vs_torch.py.

float32, channels_last, fused Adam, averages by one `_foreach_lerp_`, pictures drawn from uint8 in memory, no gradient
computed that is not used. The networks (torch_networks.py) have the parameters of ours, asserted by the benchmark, and
each update does what jaxgan's does.

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
from types import SimpleNamespace

import torch
from common import cores, rates
from recipes import CLASSES, EXAMPLES
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import softplus
from torch.utils._python_dispatch import TorchDispatchMode
from torch_networks import NETWORKS

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
