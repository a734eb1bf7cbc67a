"""What PyTorch makes of the losses: values, and their gradients by its autograd, all in float64.

`python -m tests.losses.goldens` writes goldens.npz beside this file; PyTorch is in requirements-dev.txt. The formulas
are written here from the papers and in PyTorch's own terms (its losses, distributions, parametrizations, convolutions
over NCHW), so that an error would have to be made twice, in two ways. The JAX side of each case is in test_goldens.py.

In the file: `input/NAME`, what both sides start from; `value/CASE`; `grad/CASE INPUT INPUT ...`, the gradients of the
weighted mean of the value with respect to these inputs, end to end in one vector (the weights are unequal, so that
entries that change places show). A CASE is the name of a function of jaxgan.losses, or of one and "@variant".

Random numbers: PyTorch cannot draw as JAX does, so `inputs` draws with `jax.random`, by the scheme that
jaxgan/losses/penalties.py uses, and both sides are evaluated at the same places.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn.utils import parameters_to_vector, parametrizations

SEED = 0
PATH = pathlib.Path(__file__).with_suffix(".npz")
Inputs = dict[str, Tensor]

CRITIC = ("critic.w1", "critic.b1", "critic.w2", "critic.b2", "critic.w3")
PATCHES = ("patches.w1", "patches.b1", "patches.w2")
GENERATOR = ("generator.w1", "generator.b1", "generator.w2", "generator.b2")
LOGITS = ("real_logits", "fake_logits")
PAIR = ("real", "fake")


class Case(NamedTuple):
    """One entry of the table: what PyTorch computes, and the inputs by which its gradient is taken."""

    function: Callable[[Inputs], Tensor]
    by: tuple[str, ...]


CASES: dict[str, Case] = {}


def case(name: str, *by: str):
    """Enters a function of the inputs into the table."""

    def enter(function):
        assert name not in CASES, name
        CASES[name] = Case(function, by)
        return function

    return enter


def inputs(seed: int) -> dict[str, np.ndarray]:
    """What both sides start from; the numbers fit into float32, so that both precisions start from the same ones."""
    rng = np.random.default_rng(seed)

    def normal(*shape, scale=1.0):
        return (scale * rng.normal(size=shape)).astype(np.float32).astype(np.float64)

    # Slopes of the critics from far below 1 to far above: near it the square of the difference is mostly rounding.
    contrasts = np.array([0.25, 0.6, 1.2, 2.0]).reshape(4, 1, 1, 1)
    labels = np.array([0, 1, 0, 2, 1, 0])  # with one example that is alone in its class
    leads = 8.0 * np.eye(5)[labels] * np.array([1, 0, 1, 0, 0, 0])[:, None]  # some classes are safely right
    key = jax.random.key(seed)
    key_along, key_noise = jax.random.split(key)
    each = jax.vmap(lambda key: jax.random.uniform(key, (1, 1, 1)))(jax.random.split(key, 4))
    draws = {
        "draw/along": jax.random.uniform(key, (4, 1, 1, 1)),
        "draw/along_each": each,
        "draw/dragan_along": jax.random.uniform(key_along, (4, 1, 1, 1)),
        "draw/dragan_noise": jax.random.uniform(key_noise, (4, 6, 6, 2)),
        "draw/normal": jax.random.normal(key, (4, 6, 6, 2)),
    }
    return {
        "seed": np.asarray(seed, np.int32),
        "real": normal(4, 6, 6, 2, scale=contrasts),
        "fake": normal(4, 6, 6, 2, scale=contrasts),
        "oblong": normal(4, 5, 6, 2),  # total variation has to tell height from width
        "real_logits": normal(7, scale=1.5),
        "fake_logits": normal(7, scale=1.5),
        "real_patch_logits": normal(2, 3, 2, 1),
        "fake_patch_logits": normal(2, 3, 2, 1),
        "class_logits": normal(6, 5, scale=2.0) + leads,
        "fake_class_logits": normal(6, 5, scale=2.0),
        "patch_class_logits": normal(2, 3, 4),
        "labels": labels,
        "patch_labels": np.array([[0, 3, 1], [2, 2, 0]]),
        "embeddings": normal(6, 4),
        "class_proxies": normal(3, 4),
        "mean": normal(4, 3),
        "log_std": normal(4, 3, scale=0.5),
        "codes": normal(4, 3),
        "shares": rng.uniform(size=(4, 3)).astype(np.float32).astype(np.float64),  # between 0 and 1
        "z": normal(4, 5),
        "other_z": normal(4, 5),
        "styles": normal(4, 3, 5),
        "zero": np.zeros(()),
        "critic.w1": normal(72, 4, scale=0.2),
        "critic.b1": normal(4),
        "critic.w2": normal(4, 4, scale=0.8),
        "critic.b2": normal(4),
        "critic.w3": normal(4),
        "patches.w1": normal(2, 2, 2, 5, scale=0.5),  # height, width, inputs, outputs
        "patches.b1": normal(5),
        "patches.w2": normal(5, 1, scale=0.3),
        "generator.w1": normal(5, 6, scale=0.6),
        "generator.b1": normal(6),
        "generator.w2": normal(6, 72, scale=0.4),
        "generator.b2": normal(72, scale=0.4),
        "kernel": normal(6, 4),
        "conv_kernel": normal(3, 2, 2, 5),
        "bias": normal(4),
        "kernel.u": unit(normal(4)),
        "kernel.v": unit(normal(6)),
        "conv_kernel.u": unit(normal(5)),
        "conv_kernel.v": unit(normal(12)),
        "updates": normal(6, 4, scale=0.5),
        **{name: np.asarray(draw, np.float64) for name, draw in draws.items()},
    }


def unit(x: np.ndarray) -> np.ndarray:
    """Of length 1, to float32."""
    return (x / np.linalg.norm(x)).astype(np.float32).astype(np.float64)


def weights(shape: tuple[int, ...]) -> np.ndarray:
    """Those of the mean whose gradient is taken."""
    return (1.0 + 0.5 * np.cos(np.arange(np.prod(shape, dtype=int)))).reshape(shape)


def compute(seed: int) -> dict[str, np.ndarray]:
    """Inputs, values and gradients, under the names of the file."""
    arrays = inputs(seed)
    results = {f"input/{name}": array for name, array in arrays.items()}
    for name, (function, by) in CASES.items():
        tensors = {key: torch.tensor(array) for key, array in arrays.items()}
        for key in by:
            tensors[key].requires_grad_()
        value = function(tensors)
        assert value.dtype in (torch.float64, torch.int64), name
        results[f"value/{name}"] = value.detach().numpy()
        if by:
            mean = (value * torch.tensor(weights(value.shape))).mean()
            # An input that the value does not depend on (behind a `detach`) gets zeros.
            grads = torch.autograd.grad(mean, [tensors[key] for key in by], materialize_grads=True)
            results[f"grad/{' '.join([name, *by])}"] = np.concatenate([grad.numpy().ravel() for grad in grads])
    return results


def main() -> None:
    """Writes the file."""
    np.savez_compressed(PATH, torch_version=np.asarray(torch.__version__), **compute(SEED))
    print(f"{PATH.name}: {len(CASES)} cases, {PATH.stat().st_size // 1000} kB, PyTorch {torch.__version__}")


# Networks. All are smooth, so that second derivatives exist; pictures come as [B, H, W, C].


def critic(t: Inputs, x: Tensor) -> Tensor:
    """Dense: [B]."""
    h = F.linear(x.flatten(1), t["critic.w1"].T, t["critic.b1"]).tanh()
    h = F.softplus(F.linear(h, t["critic.w2"].T, t["critic.b2"]))
    return h.mv(t["critic.w3"])


def patch_features(t: Inputs, x: Tensor) -> Tensor:
    """[B, 5, 3, 3]."""
    return F.conv2d(x.permute(0, 3, 1, 2), oihw(t["patches.w1"]), t["patches.b1"], stride=2).tanh()


def patch_critic(t: Inputs, x: Tensor) -> Tensor:
    """Convolutional: [B, 3, 3, 1]."""
    return F.conv2d(patch_features(t, x), t["patches.w2"].T[:, :, None, None]).permute(0, 2, 3, 1)


def features(t: Inputs, x: Tensor) -> list[Tensor]:
    """Two layers, [B, 2, 6, 6] and [B, 5, 3, 3]."""
    return [F.softplus(x.permute(0, 3, 1, 2)), patch_features(t, x)]


def generator(t: Inputs, z: Tensor) -> Tensor:
    """[B, 5] -> [B, 6, 6, 2]."""
    h = F.linear(z, t["generator.w1"].T, t["generator.b1"]).tanh()
    return F.linear(h, t["generator.w2"].T, t["generator.b2"]).tanh().unflatten(1, (6, 6, 2))


def styled_generator(t: Inputs, w: Tensor) -> Tensor:
    """[B, 3, 5], a style for each of three layers -> [B, 6, 6, 2]."""
    h = F.linear(w[:, 0], t["generator.w1"].T, t["generator.b1"]).tanh()
    h = h * F.softplus(F.linear(w[:, 1], t["generator.w1"].T)) + F.linear(w[:, 2], t["generator.w1"].T).sin()
    return F.linear(h, t["generator.w2"].T, t["generator.b2"]).unflatten(1, (6, 6, 2))


def oihw(kernel: Tensor) -> Tensor:
    """PyTorch's layout of a convolution's kernel, from [height, width, inputs, outputs]."""
    return kernel.permute(3, 2, 0, 1)


# adversarial


def bce(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target), reduction="none")


def half_squares(logits: Tensor, target: float) -> Tensor:
    return F.mse_loss(logits, torch.full_like(logits, target), reduction="none") / 2


def against_the_mean(high: Tensor, low: Tensor) -> Tensor:
    return bce(high - low.mean(), 1.0) + bce(low - high.mean(), 0.0)


def dual_contrastive(r: Tensor, f: Tensor) -> Tensor:
    """Two classifications of n + 1 entries each, of which the first is the right one."""
    real, fake = r.flatten(), f.flatten()
    n = len(real)
    first = torch.zeros(n, dtype=torch.long)
    real_among_fakes = F.cross_entropy(torch.column_stack([real, fake.expand(n, n)]), first, reduction="none")
    fake_among_reals = F.cross_entropy(torch.column_stack([-fake, -real.expand(n, n)]), first, reduction="none")
    return (real_among_fakes + fake_among_reals).view_as(r)


# The discriminator's and the generator's loss, of the real and the fake logits.
ADVERSARIAL = {
    "minimax": (lambda r, f: bce(r, 1.0) + bce(f, 0.0), lambda r, f: -bce(f, 0.0)),
    "non_saturating": (lambda r, f: bce(r, 1.0) + bce(f, 0.0), lambda r, f: bce(f, 1.0)),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
    # The hinge of a label y in {-1, 1} on a distance: PyTorch's is x for y = 1 and relu(margin - x) for y = -1.
    "hinge": (
        lambda r, f: (
            F.hinge_embedding_loss(r, -torch.ones_like(r), margin=1.0, reduction="none")
            + F.hinge_embedding_loss(-f, -torch.ones_like(f), margin=1.0, reduction="none")
        ),
        lambda r, f: -f,
    ),
    "least_squares": (
        lambda r, f: half_squares(r, 1.0) + half_squares(f, 0.0),
        lambda r, f: half_squares(f, 1.0),
    ),
    "relativistic": (lambda r, f: bce(r - f, 1.0), lambda r, f: bce(f - r, 1.0)),
    "relativistic_average": (against_the_mean, lambda r, f: against_the_mean(f, r)),
    "dual_contrastive": (dual_contrastive, lambda r, f: -dual_contrastive(r, f)),
}
for _name, _pair in ADVERSARIAL.items():
    for _side, _loss in zip(("discriminator", "generator"), _pair, strict=True):
        case(f"{_name}_{_side}_loss", *LOGITS)(lambda t, loss=_loss: loss(t["real_logits"], t["fake_logits"]))
        if _name in ("relativistic_average", "dual_contrastive"):  # whose entries are not each by itself
            case(f"{_name}_{_side}_loss@patches", "real_patch_logits", "fake_patch_logits")(
                lambda t, loss=_loss: loss(t["real_patch_logits"], t["fake_patch_logits"])
            )
for _name in ("minimax", "non_saturating"):
    case(f"{_name}_discriminator_loss@smoothed", *LOGITS)(
        lambda t: bce(t["real_logits"], 0.9) + bce(t["fake_logits"], 0.0)
    )


@case("top_k_mask")
def top_k_mask(t):
    logits = t["fake_logits"]
    return torch.zeros_like(logits).scatter(0, logits.topk(3).indices, 1.0)


# divergences: the paper's tables of output activations g and conjugates f*, composed as they are.

F_GAN = {
    "kl": (lambda v: v, lambda t: (t - 1).exp()),
    "reverse_kl": (lambda v: -(-v).exp(), lambda t: -1 - (-t).log()),
    "pearson": (lambda v: v, lambda t: t.square() / 4 + t),
    "squared_hellinger": (lambda v: 1 - (-v).exp(), lambda t: t / (1 - t)),
    "jensen_shannon": (lambda v: np.log(2) - (1 + (-v).exp()).log(), lambda t: -(2 - t.exp()).log()),
}
for _name, (_g, _star) in F_GAN.items():
    case(f"f_gan_discriminator_loss@{_name}", *LOGITS)(
        lambda t, g=_g, star=_star: star(g(t["fake_logits"])) - g(t["real_logits"])
    )
    case(f"f_gan_generator_loss@{_name}", "fake_logits")(lambda t, g=_g, star=_star: -star(g(t["fake_logits"])))
    case(f"f_gan_generator_loss@{_name}_non_saturating", "fake_logits")(lambda t, g=_g: -g(t["fake_logits"]))


# classification


def crammer_singer(logits: Tensor, labels: Tensor) -> Tensor:
    """Example by example: the right class's lead over the best of the list without it."""

    def one(scores, label):
        others = torch.cat([scores[:label], scores[label + 1 :]])
        return (1 - scores[label] + others.max()).clamp(min=0)

    return torch.stack([one(scores, int(label)) for scores, label in zip(logits, labels, strict=True)])


def proxies(t: Inputs) -> Tensor:
    return F.embedding(t["labels"], t["class_proxies"])


def contrastive_terms(t: Inputs, exponent_to_proxy, exponent_between):
    """For each example: the exponent of its own proxy, and lists of those of its kin and of the others."""
    h, p, labels = t["embeddings"], proxies(t), t["labels"].tolist()
    for i, label in enumerate(labels):
        between = [(k, exponent_between(F.cosine_similarity(h[i], h[k], dim=0))) for k in range(len(h)) if k != i]
        kin = [s for k, s in between if labels[k] == label]
        others = [s for k, s in between if labels[k] != label]
        yield exponent_to_proxy(F.cosine_similarity(h[i], p[i], dim=0)), kin, others


def log_sum_exp(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).logsumexp(0)


def conditional_contrastive(t, temperature):
    terms = contrastive_terms(t, lambda s: s / temperature, lambda s: s / temperature)
    return torch.stack([log_sum_exp([own, *kin, *others]) - log_sum_exp([own, *kin]) for own, kin, others in terms])


def data_to_data(t, temperature, margin):
    terms = contrastive_terms(
        t, lambda s: (s - margin).clamp(max=0) / temperature, lambda s: (s - (1 - margin)).clamp(min=0) / temperature
    )
    return torch.stack([-F.log_softmax(torch.stack([own, *others]), 0)[0] for own, _, others in terms])


@case("ac_gan_loss", "class_logits")
def ac_gan_loss(t):
    return F.cross_entropy(t["class_logits"], t["labels"], reduction="none")


@case("ac_gan_loss@patches", "patch_class_logits")
def ac_gan_loss_of_patches(t):
    # PyTorch wants the classes on the second axis.
    return F.cross_entropy(t["patch_class_logits"].movedim(-1, 1), t["patch_labels"], reduction="none")


@case("rotation_loss", "patch_class_logits")
def rotation_loss(t):
    logits, labels = t["patch_class_logits"].flatten(0, 1), t["patch_labels"].flatten()
    return F.nll_loss(F.log_softmax(logits, -1), labels, reduction="none")


@case("info_gan_categorical_loss", "class_logits")
def info_gan_categorical_loss(t):
    return -torch.distributions.Categorical(logits=t["class_logits"]).log_prob(t["labels"])


@case("info_gan_gaussian_loss", "mean", "log_std", "codes")
def info_gan_gaussian_loss(t):
    return -Normal(t["mean"], t["log_std"].exp()).log_prob(t["codes"]).sum(1)


@case("multi_hinge_loss", "class_logits")
def multi_hinge_loss(t):
    return crammer_singer(t["class_logits"], t["labels"])


@case("multi_hinge_discriminator_loss", "class_logits", "fake_class_logits")
def multi_hinge_discriminator_loss(t):
    generated = torch.full_like(t["labels"], 4)  # four classes and the fifth
    return crammer_singer(t["class_logits"], t["labels"]) + crammer_singer(t["fake_class_logits"], generated)


@case("multi_hinge_generator_loss", "fake_class_logits")
def multi_hinge_generator_loss(t):
    return crammer_singer(t["fake_class_logits"], t["labels"])


@case("rotate_four_ways", "real")
def rotate_four_ways(t):
    return torch.cat([t["real"].rot90(k, (1, 2)) for k in range(4)])


@case("rotate_four_ways@labels")
def rotate_four_ways_labels(t):
    return torch.arange(4).repeat_interleave(4)


@case("conditional_contrastive_loss", "embeddings", "class_proxies")
def conditional_contrastive_loss(t):
    return conditional_contrastive(t, 1.0)


@case("conditional_contrastive_loss@temperature", "embeddings", "class_proxies")
def conditional_contrastive_loss_at_another_temperature(t):
    return conditional_contrastive(t, 0.3)


@case("data_to_data_cross_entropy_loss", "embeddings", "class_proxies")
def data_to_data_cross_entropy_loss(t):
    return data_to_data(t, 0.5, 0.98)


@case("data_to_data_cross_entropy_loss@margin", "embeddings", "class_proxies")
def data_to_data_cross_entropy_loss_at_another_margin(t):
    return data_to_data(t, 0.25, 0.6)


# penalties


def slope(network, t: Inputs, x: Tensor) -> Tensor:
    """The gradient of each example's summed logits, flat: [B, H W C]."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network(t, x).sum(), x, create_graph=True)
    return gradient.flatten(1)


def slope_through(network, t: Inputs, x: Tensor) -> Tensor:
    """The same for places that have a gradient themselves."""
    (gradient,) = torch.autograd.grad(network(t, x).sum(), x, create_graph=True)
    return gradient.flatten(1)


def between(t: Inputs, along: str = "draw/along") -> Tensor:
    return torch.lerp(t["real"], t["fake"], t[along])


def off_target(gradient: Tensor, target: float) -> Tensor:
    return (gradient.norm(2, dim=1) - target) ** 2


def above_target(gradient: Tensor, target: float) -> Tensor:
    return F.relu(gradient.norm(2, dim=1) - target) ** 2


@case("r1_penalty", *CRITIC)
def r1_penalty(t):
    return slope(critic, t, t["real"]).square().sum(1) / 2


@case("r1_penalty@patches", *PATCHES)
def r1_penalty_of_patches(t):
    return slope(patch_critic, t, t["real"]).square().sum(1) / 2


@case("r2_penalty", *CRITIC, "fake")
def r2_penalty(t):
    return slope_through(critic, t, t["fake"]).square().sum(1) / 2


@case("wgan_gp_penalty", *CRITIC)
def wgan_gp_penalty(t):
    return off_target(slope(critic, t, between(t)), 1.0)


@case("wgan_gp_penalty@patches_and_target", *PATCHES)
def wgan_gp_penalty_of_patches(t):
    return off_target(slope(patch_critic, t, between(t)), 0.3)


@case("wgan_gp_penalty@through_the_examples", *PAIR)
def wgan_gp_penalty_through_the_examples(t):
    return off_target(slope_through(patch_critic, t, between(t)), 1.0)


@case("wgan_gp_penalty@a_key_for_each_example", *PATCHES)
def wgan_gp_penalty_with_keys(t):
    return off_target(slope(patch_critic, t, between(t, "draw/along_each")), 1.0)


@case("wgan_gp_penalty@one_sided", *CRITIC)
def wgan_gp_penalty_one_sided(t):
    return above_target(slope(critic, t, between(t)), 1.0)


@case("wgan_gp_penalty@no_slope", *PATCHES, "zero")
def wgan_gp_penalty_of_a_constant_critic(t):
    # PyTorch's norm has the gradient 0 at 0 too.
    return off_target(slope(lambda t, x: t["zero"] * patch_critic(t, x), t, between(t)), 1.0)


@case("wgan_lp_penalty", *CRITIC)
def wgan_lp_penalty(t):
    return above_target(slope(critic, t, between(t)), 1.0)


@case("wgan_lp_penalty@target", *PATCHES)
def wgan_lp_penalty_with_target(t):
    return above_target(slope(patch_critic, t, between(t)), 1.8)


@case("zero_centered_gp_penalty", *CRITIC)
def zero_centered_gp_penalty(t):
    return slope(critic, t, between(t)).square().sum(1)


@case("dragan_penalty", *CRITIC)
def dragan_penalty(t):
    std = t["real"].std(correction=0)
    x = t["real"] + t["draw/dragan_along"] * (0.5 * std * t["draw/dragan_noise"])
    return off_target(slope(critic, t, x), 1.0)


@case("dragan_penalty@std_and_scale", *PATCHES)
def dragan_penalty_with_std(t):
    x = t["real"] + t["draw/dragan_along"] * (0.3 * 1.7 * t["draw/dragan_noise"])
    return off_target(slope(patch_critic, t, x), 0.4)


@case("dragan_penalty@gaussian", *PATCHES)
def dragan_penalty_gaussian(t):
    return off_target(slope(patch_critic, t, t["real"] + 0.3 * t["draw/normal"]), 1.0)


def path_lengths(network, t: Inputs, w: Tensor) -> Tensor:
    pictures = network(t, w)
    noise = t["draw/normal"] / (pictures.shape[1] * pictures.shape[2]) ** 0.5
    (gradient,) = torch.autograd.grad(pictures, w, grad_outputs=noise, create_graph=True)
    return (gradient.norm(2, dim=-1) ** 2).reshape(len(w), -1).mean(1).sqrt()


def path_length(t, network, w, mean, decay):
    lengths = path_lengths(network, t, w)
    new_mean = torch.lerp(torch.tensor(mean, dtype=torch.float64), lengths.mean(), decay)
    return F.mse_loss(lengths, new_mean.expand_as(lengths), reduction="none"), new_mean


@case("path_length_penalty", *GENERATOR, "z")
def path_length_penalty(t):
    return path_length(t, generator, t["z"], 0.5, 0.01)[0]


@case("path_length_penalty@styles", *GENERATOR, "styles")
def path_length_penalty_of_styles(t):
    return path_length(t, styled_generator, t["styles"], 0.5, 0.2)[0]


@case("path_length_penalty@mean")
def path_length_penalty_mean(t):
    return path_length(t, styled_generator, t["styles"].requires_grad_(), 0.5, 0.2)[1]


# consistency


def augment(x: Tensor) -> Tensor:
    """Mirrored, paler and lighter."""
    return 0.8 * x.flip(2) + 0.1


def consistency(network, t, x, y) -> Tensor:
    return F.mse_loss(network(t, x), network(t, y), reduction="none").flatten(1).mean(1)


@case("consistency_penalty", *LOGITS)
def consistency_penalty(t):
    return F.mse_loss(*(t[name] for name in LOGITS), reduction="none")


@case("cr_penalty", *CRITIC)
def cr_penalty(t):
    return consistency(lambda t, x: critic(t, x)[:, None], t, t["real"], augment(t["real"]))


@case("cr_penalty@patches", *PATCHES)
def cr_penalty_of_patches(t):
    return consistency(patch_critic, t, t["real"], augment(t["real"]))


@case("bcr_penalty", *PATCHES, *PAIR)
def bcr_penalty(t):
    return sum(consistency(patch_critic, t, t[name], augment(t[name])) for name in PAIR)


@case("bcr_penalty@fake_weight", *PATCHES)
def bcr_penalty_with_weight(t):
    real, fake = (consistency(patch_critic, t, t[name], augment(t[name])) for name in PAIR)
    return torch.add(real, fake, alpha=0.4)


@case("zcr_discriminator_penalty", *PATCHES, *GENERATOR)
def zcr_discriminator_penalty(t):
    return consistency(patch_critic, t, generator(t, t["z"]), generator(t, t["z"] + 0.2 * t["other_z"]))


@case("zcr_generator_penalty", *GENERATOR, "z")
def zcr_generator_penalty(t):
    a, b = generator(t, t["z"]), generator(t, t["z"] + 0.2 * t["other_z"])
    return -F.mse_loss(a, b, reduction="none").mean((1, 2, 3))


@case("mode_seeking_penalty", *GENERATOR, "z", "other_z")
def mode_seeking_penalty(t):
    pictures = F.l1_loss(generator(t, t["z"]), generator(t, t["other_z"]), reduction="none").mean((1, 2, 3))
    return (pictures / F.l1_loss(t["z"], t["other_z"], reduction="none").mean(1) + 1e-5).reciprocal()


# regularizers


def lecam(t, decay, start, rectified) -> Tensor:
    """The penalties of four batches in a row: [4, 7]."""
    means, penalties = [0.0, 0.0], []
    for step, shift in enumerate([0.0, 1.0, -0.5, 0.7]):
        logits = [t[name] + shift for name in LOGITS]
        keep = decay if step >= max(start, 1) else 0.0
        means = [keep * mean + (1 - keep) * x.mean().item() for mean, x in zip(means, logits, strict=True)]
        distances = [logits[0] - means[1], means[0] - logits[1]]
        penalty = sum((F.relu(d) if rectified else d) ** 2 for d in distances)
        penalties.append(penalty if step >= start else 0.0 * penalty)
    return torch.stack(penalties)


@case("lecam_penalty", *LOGITS)
def lecam_penalty(t):
    return lecam(t, 0.99, 0, True)


@case("lecam_penalty@late_start", *LOGITS)
def lecam_penalty_with_a_late_start(t):
    return lecam(t, 0.8, 2, True)


@case("lecam_penalty@squares", *LOGITS)
def lecam_penalty_not_rectified(t):
    return lecam(t, 0.9, 0, False)


def gram_off_diagonal(weight: Tensor) -> Tensor:
    """Of a weight in PyTorch's layout, outputs first: the squared products of unequal filters."""
    return sum(
        torch.dot(a.flatten(), b.flatten()) ** 2 for i, a in enumerate(weight) for j, b in enumerate(weight) if i != j
    )


@case("orthogonal_penalty", "kernel", "conv_kernel", "bias")
def orthogonal_penalty(t):
    return gram_off_diagonal(t["kernel"].T) + gram_off_diagonal(oihw(t["conv_kernel"]))


@case("orthogonal_penalty@where", "kernel", "conv_kernel")
def orthogonal_penalty_where(t):
    return gram_off_diagonal(oihw(t["conv_kernel"]))


@case("orthogonal_penalty@out_axis_0", "conv_kernel")
def orthogonal_penalty_outputs_first(t):
    return gram_off_diagonal(t["conv_kernel"])


@case("l2_penalty", "kernel", "conv_kernel", "bias")
def l2_penalty(t):
    return parameters_to_vector([t["kernel"], t["conv_kernel"]]).square().sum() / 2


@case("weight_clipping")
def weight_clipping(t):
    weight = nn.Parameter(t["kernel"])
    weight.grad = -t["updates"]
    torch.optim.SGD([weight], lr=1.0).step()
    return weight.data.clamp_(-0.4, 0.4)


@case("lazy_regularization", *PATCHES)
def lazy_regularization(t):
    terms = []
    for step in (0, 3, 8):
        terms.append(4 * r1_penalty_of_patches(t) if step % 4 == 0 else torch.zeros(4, dtype=torch.float64))
    return torch.stack(terms)


# transforms


@case("unrolled", *CRITIC, "fake")
def unrolled(t):
    """The logits of the critic three steps ahead."""
    params = {name: t[name] for name in CRITIC}
    for _ in range(3):
        logits = torch.cat([critic(params, t["real"]), critic(params, t["fake"])])
        labels = torch.tensor([1.0] * 4 + [0.0] * 4, dtype=torch.float64)
        loss = 2 * F.binary_cross_entropy_with_logits(logits, labels)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        params = {name: p - 0.05 * g for (name, p), g in zip(params.items(), grads, strict=True)}
    return critic(params, t["fake"])


@case("pack", "real")
def pack(t):
    return torch.cat([t["real"][::2], t["real"][1::2]], dim=-1)


# spectral. PyTorch's weights have their outputs first: [outputs, inputs ...].


def spectral(weight: Tensor, u: Tensor, v: Tensor) -> nn.Module:
    """PyTorch's parametrization of such a weight, with the vectors u [outputs] and v [inputs]."""
    layer = nn.Linear(weight.flatten(1).shape[1], weight.shape[0], dtype=torch.float64)
    norm = parametrizations.spectral_norm(layer).parametrizations.weight[0]
    norm._u, norm._v = u.clone(), v.clone()
    return norm


@case("spectral_normalize", "kernel", "conv_kernel")
def spectral_normalize(t):
    dense = spectral(t["kernel"].T, t["kernel.u"], t["kernel.v"]).eval()(t["kernel"].T).T
    matrix = t["conv_kernel"].flatten(0, 2).T
    conv = spectral(matrix, t["conv_kernel.u"], t["conv_kernel.v"]).eval()(matrix).T
    return torch.cat([dense.flatten(), conv.flatten()])


@case("spectral_normalize@out_axis_0", "conv_kernel")
def spectral_normalize_outputs_first(t):
    weight = t["conv_kernel"].permute(3, 0, 1, 2)
    return spectral(weight, t["conv_kernel.u"], t["conv_kernel.v"]).eval()(weight)


@case("spectral_iterate")
def spectral_iterate(t):
    """u and v of both kernels after two iterations."""
    vectors = []
    for name in ("kernel", "conv_kernel"):
        # PyTorch's iteration begins with v and ours with u: the transpose of the weight exchanges the two.
        weight = t[name].flatten(0, -2)
        norm = spectral(weight, t[f"{name}.v"], t[f"{name}.u"]).train()
        for _ in range(2):
            norm(weight)
        vectors += [norm._v, norm._u]
    return torch.cat(vectors)


@case("spectral_init", "kernel", "conv_kernel")
def spectral_init(t):
    """After many iterations from any start: by the largest singular value itself, by decomposition."""
    kernels = [t["kernel"], t["conv_kernel"]]
    return torch.cat([(w / torch.linalg.matrix_norm(w.flatten(0, -2), 2)).flatten() for w in kernels])


# auxiliary


@case("l1_loss", "mean", "codes")
def l1_loss(t):
    return F.l1_loss(t["mean"], t["codes"], reduction="none")


@case("l2_loss", "mean", "codes")
def l2_loss(t):
    return F.mse_loss(t["mean"], t["codes"], reduction="none")


@case("charbonnier_loss", "mean", "codes")
def charbonnier_loss(t):
    return torch.hypot(t["mean"] - t["codes"], torch.full_like(t["mean"], 1e-3))


@case("charbonnier_loss@eps", "mean", "codes")
def charbonnier_loss_with_eps(t):
    return torch.hypot(t["mean"] - t["codes"], torch.full_like(t["mean"], 0.5))


@case("cycle_loss", "mean", "codes")
def cycle_loss(t):
    return F.l1_loss(t["codes"], t["mean"], reduction="none")


@case("identity_loss", "mean", "codes")
def identity_loss(t):
    return F.l1_loss(t["codes"], t["mean"], reduction="none")


@case("feature_matching_loss", *PAIR, "patches.w1")
def feature_matching_loss(t):
    with torch.no_grad():
        real = features(t, t["real"])
    layers = zip(real, features(t, t["fake"]), strict=True)
    return torch.stack([F.l1_loss(b, a, reduction="none").mean((1, 2, 3)) for a, b in layers]).mean(0)


@case("mean_feature_matching_loss", *PAIR, "patches.w1")
def mean_feature_matching_loss(t):
    with torch.no_grad():
        real = features(t, t["real"])
    fake = features(t, t["fake"][:3])  # the batches may differ
    return sum(F.mse_loss(b.mean(0), a.mean(0), reduction="sum") for a, b in zip(real, fake, strict=True))


@case("total_variation", "oblong")
def total_variation(t):
    x = t["oblong"].permute(0, 3, 1, 2)
    return x.diff(dim=2).norm(1, dim=(1, 2, 3)) + x.diff(dim=3).norm(1, dim=(1, 2, 3))


@case("perceptual_loss", "fake", "patches.w1")
def perceptual_loss(t):
    layers = zip(features(t, t["fake"]), features(t, t["real"]), strict=True)
    return sum(F.mse_loss(a, b, reduction="none").mean((1, 2, 3)) for a, b in layers)


@case("perceptual_loss@normalize", "fake", "patches.w1")
def perceptual_loss_normalized(t):
    layers = zip(features(t, t["fake"]), features(t, t["real"]), strict=True)
    # Of unit vectors the squared distance is 2 - 2 cos.
    return sum((2 - 2 * F.cosine_similarity(a, b, dim=1)).mean((1, 2)) for a, b in layers)


# variational


@case("gaussian_kl", "mean", "log_std")
def gaussian_kl(t):
    posterior = Normal(t["mean"], (t["log_std"] / 2).exp())  # "log_std" stands for a logarithm of the variance
    return kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)


@case("bernoulli_nll", "mean", "shares")
def bernoulli_nll(t):
    return F.binary_cross_entropy_with_logits(t["mean"], t["shares"], reduction="none").sum(1)


@case("gaussian_nll", "mean", "codes")
def gaussian_nll(t):
    return -Normal(t["mean"], 1.0).log_prob(t["codes"]).sum(1)


@case("gaussian_nll@log_variance", "mean", "codes", "log_std")
def gaussian_nll_with_log_variance(t):
    return F.gaussian_nll_loss(t["mean"], t["codes"], t["log_std"].exp(), full=True, reduction="none").sum(1)


@case("vq_codebook_loss", "mean", "codes")
def vq_codebook_loss(t):
    return F.mse_loss(t["codes"], t["mean"].detach(), reduction="none").sum(-1)


@case("vq_commitment_loss", "mean", "codes")
def vq_commitment_loss(t):
    return F.mse_loss(t["mean"], t["codes"].detach(), reduction="none").sum(-1)


@case("straight_through", "mean", "codes")
def straight_through(t):
    return t["mean"] + (t["codes"] - t["mean"]).detach()


if __name__ == "__main__":
    main()
