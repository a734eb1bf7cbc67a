"""The networks of torch_recipes.py, with the parameters of jaxgan's."""

from functools import partial
from itertools import pairwise

import torch
from recipes import CLASSES
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


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
