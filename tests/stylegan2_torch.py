"""StyleGAN2's networks in PyTorch, written from the papers, for the whole updates of tests/test_update_parity.py.

Parameters are dicts of tensors with our names and axes; pictures are NCHW. Kernels are modulated and demodulated for
each example as the paper has it, where ours scale the pictures before and after one convolution of all.
"""

import math

import torch
from torch.nn import functional as F


def generate(p, z, label, noise):
    """(pictures, w). `noise` holds [B, 1, h, w] for each modulated convolution, by its name, such as "up_1"."""
    w = mapping(p, z, label)
    x = p["synthesis_network.constant"].permute(2, 0, 1).expand(len(w), -1, -1, -1)
    picture, i = None, 0
    while f"synthesis_network.conv_{i}.kernel" in p:
        if i:
            x = styled(p, f"up_{i}", x, w, noise, up=True)
        x = styled(p, f"conv_{i}", x, w, noise)
        rgb = f"synthesis_network.to_rgb_{i}"
        seen = conv(p, f"{rgb}.conv", x * dense(p, f"{rgb}.style", w)[:, :, None, None])
        picture = seen if picture is None else widened(picture, padding=1) + seen
        i += 1
    return picture, w


def judge(p, picture, label, group_size):
    """Logits of the architecture without skips, [B]."""
    x, i = act(conv(p, "from_rgb_0", picture)), 0
    while f"stage_{i}.conv.kernel" in p:
        x = act(conv(p, f"stage_{i}.conv", x))
        x = act(conv(p, f"stage_{i}.down", x, down=True))
        i += 1
    groups = x.reshape(-1, group_size, *x.shape[1:])
    spread = (groups.var(1, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3)).repeat_interleave(group_size)
    x = torch.cat([x, spread[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1)
    x = act(conv(p, "last_conv", x))
    x = act(dense(p, "last_dense", x.permute(0, 2, 3, 1).flatten(1)))
    wanted = mapping(p, None, label)
    return (dense(p, "logit", x) * wanted).sum(1) / math.sqrt(wanted.shape[1])


def mapping(p, z, label):
    """w: the latent and the label's embedding, each of mean square 1, through layers that learn slowly."""
    name = "mapping_network"
    x = unit(p[f"{name}.label.kernel"][label] / math.sqrt(len(p[f"{name}.label.kernel"])) + p[f"{name}.label.bias"])
    x = x if z is None else torch.cat([unit(z), x], 1)
    i = 0
    while f"{name}.layer_{i}.kernel" in p:
        x = act(dense(p, f"{name}.layer_{i}", x, rate=0.01))
        i += 1
    return x


def styled(p, name, x, w, noise, up=False):
    layer = f"synthesis_network.{name}"
    kernel = p[f"{layer}.kernel"]
    # As ours are stored, that of a transposed convolution is turned around, its axes are (3, 3, outputs, inputs).
    kernel = kernel.flip(0, 1).permute(2, 3, 0, 1) if up else kernel.permute(3, 2, 0, 1)
    kernel = kernel * dense(p, f"{layer}.style", w)[:, None, :, None, None] / math.sqrt(kernel[0].numel())
    kernel = kernel / (kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    x = widened(x) if up else F.pad(x, (1, 1, 1, 1))
    out = F.conv2d(x.flatten(0, 1)[None], kernel.flatten(0, 1), groups=len(w))
    out = out.reshape(len(w), -1, *out.shape[2:])
    return act(out + p[f"{layer}.noise.strength"] * noise[name] + p[f"{layer}.bias"][:, None, None])


def act(x):
    return math.sqrt(2) * F.leaky_relu(x, 0.2)


def unit(x):
    return x / x.square().mean(1, keepdim=True).sqrt()


def dense(p, name, x, rate=1.0):
    kernel = p[f"{name}.kernel"]
    return rate * (x @ kernel / math.sqrt(len(kernel)) + p[f"{name}.bias"])


def conv(p, name, x, down=False):
    kernel = p[f"{name}.kernel"].permute(3, 2, 0, 1)
    kernel = kernel / math.sqrt(kernel[0].numel())
    if down:
        return F.conv2d(filtered(x, padding=2), kernel, p[f"{name}.bias"], stride=2)
    return F.conv2d(x, kernel, p[f"{name}.bias"], padding=kernel.shape[-1] // 2)


def filtered(x, **options):
    return F.conv2d(x, fir(x), groups=x.shape[1], **options)


def widened(x, **options):
    """Twice as large; what goes on beyond the border is kept but for the padding."""
    return F.conv_transpose2d(x, 4 * fir(x), stride=2, groups=x.shape[1], **options)


def fir(x):
    taps = torch.tensor([1, 3, 3, 1], dtype=x.dtype) / 8
    return torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
