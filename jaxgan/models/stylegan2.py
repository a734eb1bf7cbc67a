"""StyleGAN2: Karras, Laine, Aittala, Hellsten, Lehtinen and Aila, "Analyzing and improving the image quality of
StyleGAN", 2020 (arXiv:1912.04958); conditioning and defaults from Karras et al., "Training generative adversarial
networks with limited data" (StyleGAN2-ADA), 2020 (arXiv:2006.06676), for CIFAR-10.

A mapping network makes a style w of the latent; in the synthesis network every convolution's kernel is scaled by a
style (modulated) and brought back to unit norm (demodulated). With ten classes the networks have 20.2 M and 23.1 M
parameters.

Learning rates are equalised: kernels are stored as N(0, 1) and multiplied by 1 / sqrt(fan-in) where they are used, so
that Adam moves all by the same share of their size. Leaky ReLU (0.2) has a gain of sqrt(2) everywhere.

What follows the codebases where they differ: upsampling and downsampling go on beyond the border, and groups of the
minibatch standard deviation are neighbours in the batch (NVIDIA's take every n-th example, which says the same of a
shuffled batch, but would make every device need all others).
"""

from collections.abc import Sequence
from math import sqrt

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.errors import ConfigError
from jaxgan.models import convolution
from jaxgan.models.conditioning import Judge
from jaxgan.models.layers import Initializer, leaky_relu
from jaxgan.models.resample import base_size, downsample, downsample_conv, upsample, upsample_conv

ARCHITECTURES = ("skip", "resnet", "orig")
HALF = sqrt(0.5)  # of the variance, for each of the two terms of a residual sum
CLAMP = 256.0  # of activations in bfloat16
MAPPING_RATE = 0.01


class Generator(nn.Module):
    """Latents [B, Z] (N(0, 1)), and labels [B] where there are classes -> pictures [B, *shape].

    The pictures are meant for [-1, 1], but nothing (no tanh) holds them there. `widths` are the channels of each
    resolution, the lowest first. `architecture` is how the resolutions come together (figure 7 of the paper): "skip"
    adds up the pictures of all of them, "resnet" has residual stages, "orig" neither.

    In parts: `mapping` makes w of z, `truncate` brings w nearer to its mean, `synthesis` makes the picture; it takes
    one w for all its `style_layers` or one for each::

        w = generator.apply(variables, z, train=False, method="mapping")
        w = generator.apply(variables, w, 0.7, method="truncate")
        x = generator.apply(variables, w, train=False, method="synthesis")

    Collections beside "params": "w_mean", the running mean of w over training passes, and "noise", the constant noise
    at rest. While training noise and style mixing are drawn from the "dropout" stream by the example's index.
    """

    shape: Sequence[int] = (32, 32, 3)
    widths: Sequence[int] = (512, 512, 512, 512)
    architecture: str = "skip"
    w_size: int = 512
    mapping_layers: int = 2
    style_mixing: float = 0.0  # how often layers beyond a random one get the style of another latent, N(0, 1)
    w_decay: float = 0.998
    bf16_stages: int = 0  # so many of the highest resolutions are computed in bfloat16
    classes: int = 0
    axis_name: str | None = None

    def setup(self):
        self.mapping_network = Mapping(self.w_size, self.mapping_layers, self.classes)
        self.synthesis_network = Synthesis(self.shape, self.widths, self.architecture, self.bf16_stages)
        self.w_mean = self.variable("w_mean", "mean", jnp.zeros, (self.w_size,))

    @property
    def style_layers(self) -> int:
        """Styles that the synthesis network takes: of each convolution, and of the last layer to RGB."""
        return 2 * len(self.widths)

    def __call__(
        self, z: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ) -> jax.Array:
        w = self.mapping(z, label, train=train)
        if train and self.style_mixing:
            w = self._mixed(w, z, label, index)
        return self.synthesis(w, train=train, index=index)

    def mapping(self, z: jax.Array, label: jax.Array | None = None, *, train: bool) -> jax.Array:
        """w [B, w_size], in the type of z.

        Moves the running mean while training: that over `axis_name`, when it is set.
        """
        w = self.mapping_network(z, label)
        if train and not self.is_initializing():
            mean = jnp.mean(lax.stop_gradient(w), axis=0)
            mean = mean if self.axis_name is None else lax.pmean(mean, self.axis_name)
            self.w_mean.value = mean + self.w_decay * (self.w_mean.value - mean)
        return w.astype(z.dtype)

    def synthesis(self, w: jax.Array, *, train: bool, index: jax.Array | None = None) -> jax.Array:
        """w [B, w_size] or [B, style_layers, w_size] -> pictures [B, *shape]."""
        return self.synthesis_network(self._for_each_layer(w), train=train, index=index)

    def truncate(self, w: jax.Array, psi: float | jax.Array) -> jax.Array:
        """The truncation trick: w moved towards the running mean, all the way at psi 0, not at all at 1."""
        return self.w_mean.value + psi * (w - self.w_mean.value)

    def _for_each_layer(self, w):
        if w.ndim == 2:
            w = jnp.broadcast_to(w[:, None], (w.shape[0], self.style_layers, w.shape[1]))
        if w.shape[1] != self.style_layers:
            raise ValueError(f"stylegan2: {self.style_layers} layers take as many styles, not {w.shape[1]}")
        return w

    def _mixed(self, w, z, label, index):
        """Each layer's style: up to a random layer w, from there on, at the given rate, that of another latent."""
        key, index = self.make_rng("dropout"), _index(w, index)

        def draw(i):
            key_z, key_mixed, key_first = jax.random.split(jax.random.fold_in(key, i), 3)
            first = jax.random.randint(key_first, (), 1, self.style_layers)
            mixed = jax.random.bernoulli(key_mixed, self.style_mixing)
            return jax.random.normal(key_z, z.shape[1:]), mixed & (jnp.arange(self.style_layers) >= first)

        other, replaced = jax.vmap(draw)(index)
        other = self.mapping_network(other, label).astype(w.dtype)
        return jnp.where(replaced[:, :, None], other[:, None], w[:, None])


class Discriminator(nn.Module):
    """Pictures [B, H, W, C] -> logits [B], or (logits, heads).

    `widths` are the channels of each resolution, the highest first; `architecture` as the generator's: "skip" shows
    the picture to every resolution. With labels (and `projection`) the logit is the product of the picture's vector
    with one that a mapping network makes of the label.

    Mixes examples: the minibatch standard deviation compares groups of `group_size` neighbours in the global batch
    (of all of a smaller batch), over `axis_name` when that is set. `group_size=1` makes it say nothing.
    """

    widths: Sequence[int] = (512, 512, 512, 512)
    architecture: str = "orig"
    group_size: int = 32
    group_channels: int = 1
    mapping_layers: int = 8
    bf16_stages: int = 0
    projection: bool = True
    classes: int = 0
    heads: tuple[str, ...] = ()
    code_size: int = 0
    axis_name: str | None = None

    @property
    def mixes_examples(self) -> bool:
        return self.group_size > 1

    @nn.compact
    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, *, train: bool, index: jax.Array | None = None
    ):
        base_size(x.shape[1:], len(self.widths), "stylegan2")
        _check(self.architecture)
        x = self._reduced(x)
        x = minibatch_std(x, self.group_size, self.group_channels, self.axis_name)
        x = activation(Conv(self.widths[-1], name="last_conv")(x))
        h = activation(Dense(self.widths[-1], name="last_dense")(x.reshape(x.shape[0], -1)))
        judge = Judge(self.classes, heads=self.heads, code_size=self.code_size, name="heads")
        return judge(h, label, self._logits(h, label))

    def _reduced(self, picture):
        """The picture at the lowest resolution: [B, h, w, widths[-1]], in the type of the picture."""
        x, given = None, picture.dtype
        for i, features in enumerate(self.widths):
            dtype = _type(i, self.bf16_stages, given) if i < len(self.widths) - 1 else given
            if i == 0 or self.architecture == "skip":
                seen = Conv(features, kernel=1, name=f"from_rgb_{i}")(picture.astype(dtype))
                seen = activation(seen)
                x = seen if x is None else x.astype(dtype) + seen
                picture = downsample(picture) if i < len(self.widths) - 1 else picture
            if i < len(self.widths) - 1:
                residual = self.architecture == "resnet"
                x = DownStage(self.widths[i + 1], residual, name=f"stage_{i}")(x.astype(dtype))
        return x.astype(given)

    def _logits(self, h, label):
        if label is None or not self.projection:
            return Dense(1, name="logit")(h)[:, 0]
        size = self.widths[-1]
        wanted = Mapping(size, self.mapping_layers, self.classes, name="mapping_network")(None, label)
        return jnp.sum(Dense(size, name="logit")(h) * wanted, axis=-1) / sqrt(size)


class Mapping(nn.Module):
    """z [B, Z] (or None) and labels [B] (or None) -> w [B, features].

    Both are brought to a mean square of 1, the label as a linear embedding, and stand side by side.
    """

    features: int
    layers: int
    classes: int = 0

    @nn.compact
    def __call__(self, z: jax.Array | None, label: jax.Array | None = None) -> jax.Array:
        parts = [] if z is None else [normalized(z)]
        if label is not None:
            embedding = Dense(self.features, name="label")(jax.nn.one_hot(label, self.classes))
            parts.append(normalized(embedding))
        x = jnp.concatenate(parts, axis=-1)
        for i in range(self.layers):
            x = activation(Dense(self.features, rate=MAPPING_RATE, name=f"layer_{i}")(x))
        return x


class Synthesis(nn.Module):
    """Styles [B, 2n, W] for n resolutions -> pictures [B, *shape], in the type of the styles.

    The first resolution has one convolution, the others two; the layers to RGB share a style with the convolution
    that follows.
    """

    shape: Sequence[int]
    widths: Sequence[int]
    architecture: str
    bf16_stages: int = 0

    @nn.compact
    def __call__(self, w: jax.Array, *, train: bool, index: jax.Array | None = None) -> jax.Array:
        base = base_size(self.shape, len(self.widths), "stylegan2")
        _check(self.architecture)
        constant = self.param("constant", nn.initializers.normal(1.0), (*base, self.widths[0]))
        x = jnp.broadcast_to(constant, (w.shape[0], *constant.shape))
        picture, last = None, len(self.widths) - 1
        for i, features in enumerate(self.widths):
            x = x.astype(_type(last - i, self.bf16_stages, w.dtype))
            before = x
            if i:
                x = StyledConv(features, up=True, name=f"up_{i}")(x, w[:, 2 * i - 1], train=train, index=index)
            x = StyledConv(features, name=f"conv_{i}")(x, w[:, 2 * i], train=train, index=index)
            if i and self.architecture == "resnet":
                x = HALF * (x + upsample(Conv(features, kernel=1, use_bias=False, name=f"shortcut_{i}")(before)))
            if self.architecture == "skip" or i == last:
                rgb = ToRGB(self.shape[-1], name=f"to_rgb_{i}")(x, w[:, 2 * i + 1])
                picture = rgb if picture is None else upsample(picture) + rgb
        return picture


class StyledConv(nn.Module):
    """A 3x3 convolution, modulated by styles [B, W] and demodulated; noise, bias, leaky ReLU. In the type of x.

    Scaling the kernel's input channels for each example is scaling the picture's channels before, and its
    demodulation is scaling them after: so all examples share one convolution.
    """

    features: int
    up: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, *, train: bool, index: jax.Array | None = None) -> jax.Array:
        channels = x.shape[-1]
        style = Dense(channels, bias_init=nn.initializers.ones, name="style")(w)
        shape = (3, 3, self.features, channels) if self.up else (3, 3, channels, self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape) / sqrt(9 * channels)
        squares = jnp.sum(jnp.square(kernel), axis=(0, 1))
        squares = squares.T if self.up else squares
        demodulation = lax.rsqrt(jnp.square(style) @ squares + 1e-8)
        x = x * _over_pixels(style, x)
        kernel = kernel.astype(x.dtype)
        x = upsample_conv(x, kernel) if self.up else convolution.conv(x, kernel)
        x = x * _over_pixels(demodulation, x)
        x = Noise(name="noise")(x, train=train, index=index)
        return activation(x + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype))


class Noise(nn.Module):
    """x [B, H, W, C] plus N(0, 1) of learned strength, the same for all channels: each example's own while training, by
    its index, and at rest always the same."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, index: jax.Array | None = None) -> jax.Array:
        strength = self.param("strength", nn.initializers.zeros, ())
        shape = (*x.shape[1:3], 1)
        at_rest = self.variable("noise", "at_rest", lambda: jax.random.normal(self.make_rng("params"), shape))
        if not train:
            return x + (strength * at_rest.value).astype(x.dtype)
        key = self.make_rng("dropout")
        noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), shape))(_index(x, index))
        return x + (strength * noise).astype(x.dtype)


class ToRGB(nn.Module):
    """A 1x1 convolution to the picture's channels, modulated by styles [B, W] and not demodulated; in their type."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        style = Dense(x.shape[-1], bias_init=nn.initializers.ones, name="style")(w)
        picture = Conv(self.features, kernel=1, name="conv")(x * _over_pixels(style, x))
        return _clamped(picture).astype(w.dtype)


class DownStage(nn.Module):
    """Two convolutions, the second to half the size: [B, H, W, C] -> [B, H/2, W/2, features]; as a residual or not."""

    features: int
    residual: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = activation(Conv(x.shape[-1], name="conv")(x))
        h = activation(Conv(self.features, down=True, name="down")(h))
        if not self.residual:
            return h
        return HALF * (h + Conv(self.features, kernel=1, use_bias=False, name="shortcut")(downsample(x)))


class Dense(nn.Module):
    """x [..., C] -> [..., features] with equalised learning rate, times `rate`. The bias starts from `bias_init`."""

    features: int
    rate: float = 1.0
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.normal(1 / self.rate), (x.shape[-1], self.features))
        bias = self.param("bias", self.bias_init, (self.features,))
        return x @ (kernel * (self.rate / sqrt(x.shape[-1]))) + bias * self.rate


class Conv(nn.Module):
    """A convolution with equalised learning rate, in the type of x: [B, H, W, C] -> [B, H, W, features], or, `down`,
    half of H and W. `kernel` is 1 or 3, with `down` 3."""

    features: int
    kernel: int = 3
    down: bool = False
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        gain = 1 / sqrt(self.kernel**2 * x.shape[-1])
        kernel = (gain * self.param("kernel", nn.initializers.normal(1.0), shape)).astype(x.dtype)
        if self.kernel == 1:
            x = convolution.pointwise(x, kernel[0, 0])
        else:
            x = downsample_conv(x, kernel) if self.down else convolution.conv(x, kernel)
        if self.use_bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return x


def minibatch_std(x: jax.Array, group_size: int, channels: int = 1, axis_name: str | None = None) -> jax.Array:
    """x [B, H, W, C] with channels that say how much its group varies: [B, H, W, C + channels].

    The standard deviation over the group of each of the C * H * W features, averaged over all of them (over each of
    `channels` parts of C). Karras et al., "Progressive growing of GANs", 2018, section 3.

    Groups are neighbours in the global batch, that of all devices in the order of `axis_name`; pictures are sent
    between devices only where a group does not fit on one.

    Raises:
        ConfigError: the batch makes no whole groups, or C no whole parts.
    """
    batch = x.shape[0]
    total = batch if axis_name is None else batch * lax.axis_size(axis_name)
    size = min(group_size, total)
    if total % size or x.shape[-1] % channels:
        raise ConfigError(
            f"stylegan2: the minibatch standard deviation needs a batch of whole groups of {size}, not {total} "
            f"examples, and {x.shape[-1]} features in {channels} parts of one size."
        )
    shared = batch % size != 0
    everyone = lax.all_gather(x, axis_name, tiled=True) if shared else x
    groups = everyone.reshape(-1, size, *x.shape[1:3], channels, x.shape[-1] // channels)
    deviations = jnp.sqrt(jnp.var(groups, axis=1) + 1e-8)
    found = jnp.repeat(jnp.mean(deviations, axis=(1, 2, 4)), size, axis=0)
    if shared:
        found = lax.dynamic_slice_in_dim(found, lax.axis_index(axis_name) * batch, batch)
    found = jnp.broadcast_to(found[:, None, None], (*x.shape[:3], channels))
    return jnp.concatenate([x, found], axis=-1)


def normalized(x: jax.Array) -> jax.Array:
    """x [B, F] with a mean square of 1 in each example."""
    return x * lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-8)


def activation(x: jax.Array) -> jax.Array:
    """Leaky ReLU times sqrt(2); held to +-256 in bfloat16."""
    return _clamped(sqrt(2) * leaky_relu(x))


def _clamped(x):
    return jnp.clip(x, -CLAMP, CLAMP) if x.dtype == jnp.bfloat16 else x


def _over_pixels(scale, x):
    """[B, C] -> [B, 1, 1, C] in the type of x."""
    return scale[:, None, None].astype(x.dtype)


def _index(x, index):
    return jnp.arange(x.shape[0]) if index is None else index


def _type(stages_above: int, bf16_stages: int, given):
    """Of a stage, by the number of stages of higher resolution and the type that the network is given."""
    return jnp.bfloat16 if stages_above < bf16_stages else given


def _check(architecture: str) -> None:
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"stylegan2: unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
