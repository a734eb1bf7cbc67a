"""Does the spread of StyleGAN2's samples sink in PyTorch too? A training to set beside `std_fake` of a run of ours.

    python benchmarks/stylegan2_spread.py --updates=300 --seed=0

The method of experiments/stylegan2_ada.py without augmentation, with the authors' numbers for CIFAR-10 at a width of
32 for all three resolutions, on the 5,000 embedded digits: the networks of tests/stylegan2_torch.py and PyTorch's own
random numbers throughout. Of jaxgan it takes the digits and the shapes of the parameters.
"""

import argparse
import sys

import jax
import jax.numpy as jnp
import torch
from common import ROOT
from torch.nn import functional as F

sys.path.insert(0, str(ROOT))

from jaxgan import data
from jaxgan.models import stylegan2
from tests import stylegan2_torch

BATCH, LATENT, GROUP, RATE, BETA2, GAMMA, EVERY = 64, 64, 32, 0.0025, 0.99, 0.00245, 16
SIDES = {"conv_0": 7, "up_1": 14, "conv_1": 14, "up_2": 28, "conv_2": 28}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    real, labels = digits()
    g, d = networks()
    share = EVERY / (EVERY + 1)
    adam_g = torch.optim.Adam(g.values(), lr=RATE, betas=(0.0, BETA2), eps=1e-8)
    adam_d = torch.optim.Adam(d.values(), lr=RATE * share, betas=(0.0, BETA2**share), eps=1e-8)
    for update in range(args.updates):
        chosen = torch.randint(len(real), (BATCH,))
        x, label = real[chosen].requires_grad_(), labels[chosen]
        r, f = judge(d, x, label), judge(d, generate(g, label).detach(), label)
        loss = F.softplus(-r).mean() + F.softplus(f).mean()
        if update % EVERY == 0:
            (slope,) = torch.autograd.grad(r.sum(), x, create_graph=True)
            loss = loss + EVERY * GAMMA / 2 * slope.square().sum((1, 2, 3)).mean()
        step(adam_d, loss, d)
        fake = generate(g, label)
        step(adam_g, F.softplus(-judge(d, fake, label)).mean(), g)
        if (update + 1) % 25 == 0:
            spread = fake.detach().var(0, unbiased=False).mean().sqrt()
            print(f"{update + 1}: std_fake {spread:.3f}, logits {r.mean():.2f} {f.mean():.2f}", flush=True)


def digits():
    """Pictures [N, 1, 28, 28] in [-1, 1], and labels."""
    arrays = data.load("mnist5k").arrays
    real = torch.tensor(arrays["real"]).float().reshape(-1, 1, 28, 28) / 127.5 - 1
    return real, torch.tensor(arrays["label"]).long()


def networks():
    """Both sides' parameters, as the paper starts them."""
    z, x, label = jnp.zeros((2, LATENT)), jnp.zeros((2, 28, 28, 1)), jnp.zeros(2, jnp.int32)
    generator = stylegan2.Generator((28, 28, 1), widths=(32,) * 3, w_size=LATENT, classes=10)
    discriminator = stylegan2.Discriminator((32,) * 3, classes=10)
    key = jax.random.key(0)
    return tuple(
        {name: start(name, leaf.shape).requires_grad_() for name, leaf in named(module, key, given).items()}
        for module, given in ((generator, (z, label)), (discriminator, (x, label)))
    )


def named(module, key, given):
    shapes = jax.eval_shape(lambda: module.init(key, *given, train=False))["params"]
    leaves = jax.tree.leaves_with_path(shapes)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def start(name, shape):
    if name.endswith((".kernel", ".constant")):
        return torch.randn(shape) * (100.0 if ".layer_" in name else 1.0)
    return torch.ones(shape) if name.endswith("style.bias") else torch.zeros(shape)


def generate(g, label):
    noise = {name: torch.randn(BATCH, 1, side, side) for name, side in SIDES.items()}
    return stylegan2_torch.generate(g, torch.randn(BATCH, LATENT), label, noise)[0]


def judge(d, x, label):
    return stylegan2_torch.judge(d, x, label, GROUP)


def step(adam, loss, params):
    adam.zero_grad()
    loss.backward(inputs=list(params.values()))
    adam.step()


if __name__ == "__main__":
    main()
