import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.losses import r1_penalty
from jaxgan.models import stylegan2

LABELS = jnp.array([1, 0, 2, 2])
KEY = jax.random.key(3)
SMALL = {"widths": (5, 4), "w_size": 6, "classes": 3}


def count(params):
    return sum(p.size for p in jax.tree.leaves(params))


def shapes_of(module, *inputs):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, train=False))


def randomised(shapes):
    """Variables N(0, 0.7^2), so that noise, biases and the mean of w count too; mapping networks' are larger."""
    draws = np.random.default_rng(0)

    def draw(path, shape):
        scale = 70.0 if "layer_" in jax.tree_util.keystr(path) else 0.7
        return jnp.asarray(draws.normal(size=shape.shape) * scale, jnp.float32)

    return jax.tree.map_with_path(draw, shapes)


def small_generator(architecture="skip", **options):
    return stylegan2.Generator(shape=(4, 8, 3), architecture=architecture, **{**SMALL, **options})


def small_discriminator(architecture="orig", **options):
    options = {"widths": (4, 6), "group_size": 2, "mapping_layers": 2, "classes": 3, **options}
    return stylegan2.Discriminator(architecture=architecture, **options)


@pytest.fixture(scope="module")
def z():
    return jax.random.normal(jax.random.key(1), (4, 7))


@pytest.fixture(scope="module")
def pictures():
    return jax.random.normal(jax.random.key(2), (4, 4, 8, 3))


@pytest.fixture(scope="module")
def rested(z):
    """Small generators at rest, each compiled once: architecture -> (variables, w, x)."""

    @functools.cache
    def rest(architecture):
        module = small_generator(architecture)
        variables = randomised(shapes_of(module, z, LABELS))

        def both(module):
            w = module.mapping(z, LABELS, train=False)
            return w, module.synthesis(w, train=False)

        return variables, *jax.jit(lambda v: module.apply(v, method=both))(variables)

    return rest


@pytest.fixture(scope="module")
def variables(rested):
    """The small skip generator's."""
    return rested("skip")[0]


@pytest.fixture(scope="module")
def judged(pictures):
    """What small discriminators say, each compiled once: architecture -> (variables, logits)."""

    @functools.cache
    def judge(architecture):
        module = small_discriminator(architecture)
        variables = randomised(shapes_of(module, pictures, LABELS))
        return variables, jax.jit(lambda v: module.apply(v, pictures, LABELS, train=True))(variables)

    return judge


def low_generator(**options):
    """Of one resolution: random numbers take long to compile."""
    return stylegan2.Generator(shape=(4, 3, 3), **{**SMALL, "widths": (4,), **options})


@pytest.fixture(scope="module")
def low(z):
    """Its variables."""
    return randomised(shapes_of(low_generator(), z, LABELS))


@pytest.fixture(scope="module")
def train(low):
    """Compiled training passes of it, without and with mixed styles: (z, label, index) -> twice (x, collections)."""

    def both(z, label, index):
        def run(module):
            return module.apply(low, z, label, train=True, index=index, mutable=["w_mean"], rngs={"dropout": KEY})

        return run(low_generator()), run(low_generator(style_mixing=1.0))

    return jax.jit(both)


def test_parameters_of_the_cifar10_networks():
    """20.2 M and 23.1 M with ten classes, as StudioGAN's logs have them; and by hand."""
    z, x, label = jnp.zeros((2, 512)), jnp.zeros((2, 32, 32, 3)), jnp.zeros(2, jnp.int32)
    dense, conv = 512 * 512 + 512, 9 * 512 * 512
    styled, to_rgb, embedding = conv + dense + 1 + 512, dense + 3 * 512 + 3, 10 * 512 + 512
    generator = 16 * 512 + 7 * styled + 4 * to_rgb + 2 * dense
    assert count(shapes_of(stylegan2.Generator(), z)["params"]) == generator
    found = count(shapes_of(stylegan2.Generator(classes=10), z, label)["params"])
    assert found == generator + embedding + 512 * 512 == 20_215_315
    body = 3 * 512 + 512 + 6 * (conv + 512) + (conv + 9 * 512 + 512) + (16 * 512 * 512 + 512)
    assert count(shapes_of(stylegan2.Discriminator(), x)["params"]) == body + 512 + 1
    found = count(shapes_of(stylegan2.Discriminator(classes=10), x, label)["params"])
    assert found == body + dense + embedding + 8 * dense == 23_089_664


def test_parameters_of_the_other_architectures():
    z, x = jnp.zeros((2, 512)), jnp.zeros((2, 32, 32, 3))
    generators, discriminators = (
        {name: count(shapes_of(network(architecture=name), given)["params"]) for name in stylegan2.ARCHITECTURES}
        for network, given in ((stylegan2.Generator, z), (stylegan2.Discriminator, x))
    )
    assert generators["skip"] - generators["orig"] == 3 * (512 * 512 + 512 + 3 * 512 + 3)
    assert generators["resnet"] - generators["orig"] == 3 * 512 * 512
    assert discriminators["skip"] - discriminators["orig"] == 3 * (3 * 512 + 512)
    assert discriminators["resnet"] - discriminators["orig"] == 3 * 512 * 512


def test_initial_statistics(z):
    """N(0, 1) throughout, 100 times as much in mapping networks; biases 0 but the styles', which are 1; no noise."""
    generator = low_generator(widths=(16,), w_size=24, mapping_layers=1)
    discriminator = small_discriminator(widths=(16, 16), architecture="resnet", mapping_layers=1)
    x = jnp.zeros((4, 4, 8, 3))
    g, d = jax.jit(
        lambda key: (generator.init(key, z, LABELS, train=True), discriminator.init(key, x, LABELS, train=True))
    )({"params": jax.random.key(0, impl="rbg"), "dropout": jax.random.key(1, impl="rbg")})  # quicker to compile
    assert set(g) == {"params", "w_mean", "noise"} and set(d) == {"params"}
    np.testing.assert_array_equal(g["w_mean"]["mean"], 0.0)
    for value in jax.tree.leaves(g["noise"]):
        assert np.std(value) > 0.5
    for path, value in [*jax.tree.leaves_with_path(g["params"]), *jax.tree.leaves_with_path(d["params"])]:
        names = [k.key for k in path]
        if names[-1] in ("kernel", "constant"):
            std = 100.0 if names[-2].startswith("layer_") else 1.0
            error = 4 * std / np.sqrt(value.size)
            np.testing.assert_allclose([np.mean(value), np.std(value)], [0.0, std], atol=error, err_msg=str(names))
        else:
            np.testing.assert_array_equal(value, float(names[-2:] == ["style", "bias"]), err_msg=str(names))


class Plain:
    """The layers in PyTorch, float64, NCHW; modulated kernels as the paper has them, one for each example."""

    def __init__(self):
        self.torch = pytest.importorskip("torch")
        self.f = self.torch.nn.functional
        taps = self.torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=self.torch.float64)
        self.fir = self.torch.outer(taps, taps)[None, None] / 64

    def tensor(self, a):
        return self.torch.tensor(np.array(a), dtype=self.torch.float64)

    def filtered(self, x, **options):
        return self.f.conv2d(x, self.fir.expand(x.shape[1], 1, 4, 4), groups=x.shape[1], **options)

    def widened(self, x, **options):
        kernel = 4 * self.fir.expand(x.shape[1], 1, 4, 4)
        return self.f.conv_transpose2d(x, kernel, stride=2, groups=x.shape[1], **options)

    def act(self, x):
        return self.f.leaky_relu(x, 0.2) * 2**0.5

    def dense(self, x, p, rate=1.0):
        kernel = self.tensor(p["kernel"])
        return x @ kernel * rate / kernel.shape[0] ** 0.5 + self.tensor(p["bias"]) * rate

    def normalised(self, x):
        return x / (x**2).mean(-1, keepdim=True).sqrt()

    def mapping(self, p, z, label):
        parts = [] if z is None else [self.normalised(self.tensor(z))]
        one_hot = self.tensor(np.eye(3)[np.array(label)])
        x = self.torch.cat([*parts, self.normalised(self.dense(one_hot, p["label"]))], dim=1)
        for i in range(2):
            x = self.act(self.dense(x, p[f"layer_{i}"], 0.01))
        return x

    def conv(self, x, p, name="conv", down=False):
        kernel = self.tensor(p["kernel"]).permute(3, 2, 0, 1)
        kernel = kernel / kernel[0].numel() ** 0.5
        bias = self.tensor(p["bias"]) if "bias" in p else None
        if down:
            return self.f.conv2d(self.filtered(x, padding=2), kernel, bias, stride=2)
        return self.f.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)

    def styled(self, x, w, p, noise, up=False):
        out = []
        x = self.widened(x) if up else self.f.pad(x, (1, 1, 1, 1))
        for one, style in zip(x, self.dense(w, p["style"]), strict=True):
            kernel = self.tensor(p["kernel"])
            kernel = kernel.flip(0, 1).permute(2, 3, 0, 1) if up else kernel.permute(3, 2, 0, 1)
            kernel = kernel * style[:, None, None]
            kernel = kernel / (kernel**2).sum((1, 2, 3), keepdim=True).sqrt()
            out.append(self.f.conv2d(one[None], kernel))
        x = self.torch.cat(out) + self.tensor(p["noise"]["strength"]) * self.tensor(noise)[:, :, 0]
        return self.act(x + self.tensor(p["bias"])[:, None, None])

    def to_rgb(self, x, w, p):
        return self.conv(x * self.dense(w, p["style"])[:, :, None, None], p["conv"])

    def generated(self, variables, w, architecture):
        p, noise = (variables[collection]["synthesis_network"] for collection in ("params", "noise"))
        noise = {name: layer["noise"]["at_rest"] for name, layer in noise.items()}
        x = self.tensor(p["constant"]).permute(2, 0, 1)[None].repeat(len(w), 1, 1, 1)
        x = self.styled(x, w, p["conv_0"], noise["conv_0"])
        small = self.to_rgb(x, w, p["to_rgb_0"]) if architecture == "skip" else None
        h = self.styled(x, w, p["up_1"], noise["up_1"], up=True)
        h = self.styled(h, w, p["conv_1"], noise["conv_1"])
        if architecture == "resnet":
            h = (h + self.conv(self.widened(x, padding=1), p["shortcut_1"])) / 2**0.5
        picture = self.to_rgb(h, w, p["to_rgb_1"])
        return picture if small is None else picture + self.widened(small, padding=1)

    def judged(self, p, picture, label, architecture):
        stage = p["stage_0"]
        x = self.act(self.conv(picture, p["from_rgb_0"]))
        h = self.act(self.conv(self.act(self.conv(x, stage["conv"])), stage["down"], down=True))
        if architecture == "resnet":
            h = (h + self.conv(self.filtered(x, padding=1, stride=2), stage["shortcut"])) / 2**0.5
        if architecture == "skip":
            h = h + self.act(self.conv(self.filtered(picture, padding=1, stride=2), p["from_rgb_1"]))
        pairs = h.reshape(-1, 2, *h.shape[1:])
        spread = (pairs[:, 0] - pairs[:, 1]).abs().mean((1, 2, 3)) / 2
        spread = spread.repeat_interleave(2)[:, None, None, None].expand(-1, 1, *h.shape[2:])
        h = self.act(self.conv(self.torch.cat([h, spread], dim=1), p["last_conv"]))
        h = self.act(self.dense(h.permute(0, 2, 3, 1).flatten(1), p["last_dense"]))
        wanted = self.mapping(p["mapping_network"], None, label)
        return (self.dense(h, p["logit"]) * wanted).sum(1) / wanted.shape[1] ** 0.5


def assert_close(found, expected):
    expected = np.asarray(expected)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.max(np.abs(expected)))


@pytest.mark.parametrize("architecture", stylegan2.ARCHITECTURES)
def test_generator_at_rest_against_pytorch(architecture, z, rested):
    plain = Plain()
    variables, w, x = rested(architecture)
    expected = plain.mapping(variables["params"]["mapping_network"], z, LABELS)
    assert_close(w, expected)
    assert x.shape == (4, 4, 8, 3)
    assert_close(x, plain.generated(variables, expected, architecture).permute(0, 2, 3, 1))


@pytest.mark.parametrize("architecture", stylegan2.ARCHITECTURES)
def test_discriminator_against_pytorch(architecture, pictures, judged):
    plain = Plain()
    variables, logits = judged(architecture)
    assert logits.shape == (4,)
    picture = plain.tensor(pictures).permute(0, 3, 1, 2)
    assert_close(logits, plain.judged(variables["params"], picture, LABELS, architecture))


def test_noise_and_styles_belong_to_the_examples_index(z, train):
    whole = train(z, LABELS, jnp.arange(4))
    order = jnp.array([2, 0, 3, 1])
    moved = train(z[order], LABELS[order], order)
    for (a, _), (b, _) in zip(whole, moved, strict=True):
        np.testing.assert_allclose(a[order], b, rtol=1e-4, atol=1e-5)
    (plain, _), (mixed, _) = whole
    (elsewhere, _), _ = train(z, LABELS, 10 + jnp.arange(4))
    for other in (elsewhere, mixed):  # other noise, other styles
        assert np.min(np.max(np.abs(other - plain), axis=(1, 2, 3))) > 1e-3


def test_style_mixing_keeps_the_first_layers_and_not_the_last(variables, z):
    module = small_generator(style_mixing=0.5)

    def styles(variables, n):
        many, label = jnp.broadcast_to(z[0], (n, 7)), jnp.broadcast_to(LABELS[0], (n,))

        def method(module):
            w = module.mapping(many, label, train=False)
            return w, module._mixed(w, many, label, None)

        return module.apply(variables, method=method, rngs={"dropout": KEY})

    w, mixed = jax.jit(styles, static_argnums=1)(variables, 400)
    same = np.max(np.abs(mixed - w[:, None]), axis=-1) < 1e-3
    assert np.all(same[:, 0])
    assert np.all(same[:, :-1] >= same[:, 1:])  # from a layer on, all of them
    # Half are mixed, and of those a third from each of the layers 1, 2, 3 on: 5 standard deviations.
    np.testing.assert_allclose(np.mean(same, axis=0), [1.0, 5 / 6, 4 / 6, 3 / 6], atol=5 * 0.5 / np.sqrt(400))
    others = np.asarray(mixed[:, -1])[~same[:, -1]]
    assert len(np.unique(others, axis=0)) == len(others)


def test_the_mean_of_w_follows_training_passes(low, z, train):
    w = jax.jit(lambda v: low_generator().apply(v, z, LABELS, train=False, method="mapping"))(low)
    expected = 0.998 * low["w_mean"]["mean"] + 0.002 * np.mean(w, axis=0)
    for _, after in train(z, LABELS, jnp.arange(4)):  # the styles that are mixed in do not count
        np.testing.assert_allclose(after["w_mean"]["mean"], expected, rtol=1e-5, atol=1e-6)


def test_over_devices_the_generator_is_that_of_the_whole_batch(z, low, train):
    module = low_generator(axis_name="batch", style_mixing=1.0)

    def part(z, label, index):
        return module.apply(low, z, label, train=True, index=index, mutable=["w_mean"], rngs={"dropout": KEY})

    halves = [a.reshape(2, 2, *a.shape[1:]) for a in (z, LABELS, jnp.arange(4))]
    x, collections = jax.jit(jax.vmap(part, axis_name="batch"))(*halves)
    _, (whole, whole_collections) = train(z, LABELS, jnp.arange(4))
    np.testing.assert_allclose(x.reshape(whole.shape), whole, rtol=1e-4, atol=1e-5)
    for mean in collections["w_mean"]["mean"]:
        np.testing.assert_allclose(mean, whole_collections["w_mean"]["mean"], rtol=1e-5, atol=1e-6)


def test_truncation_and_styles_for_each_layer(z, rested):
    module = small_generator()
    variables, w, x = rested("skip")
    assert module.style_layers == 4

    def parts(variables):
        def method(module):
            each = jnp.repeat(w[:, None], 4, axis=1)
            both = jnp.concatenate([each, each.at[:, -1].add(1.0)])
            return module.synthesis(both, train=False), [module.truncate(w, psi) for psi in (0.0, 0.25, 1.0)]

        return module.apply(variables, method=method), module.apply(variables, z, LABELS, train=False)

    (both, truncated), called = jax.jit(parts)(variables)
    for same in (called, both[:4]):
        np.testing.assert_allclose(same, x, rtol=1e-4, atol=1e-4)
    assert np.min(np.max(np.abs(both[4:] - x), axis=(1, 2, 3))) > 1e-2
    mean = np.asarray(variables["w_mean"]["mean"])
    for psi, found in zip((0.0, 0.25, 1.0), truncated, strict=True):
        np.testing.assert_allclose(found, mean + psi * (np.asarray(w) - mean), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="4 layers take as many styles, not 3"):
        module.apply(variables, jnp.zeros((2, 3, 6)), train=False, method="synthesis")


@pytest.mark.parametrize(("group_size", "channels"), [(4, 1), (2, 2), (6, 3), (16, 1)])
def test_minibatch_standard_deviation(group_size, channels):
    x = np.random.default_rng(0).normal(size=(12, 2, 3, 6)).astype(np.float32)
    found = jax.jit(lambda x: stylegan2.minibatch_std(x, group_size, channels))(x)
    assert found.shape == (12, 2, 3, 6 + channels)
    np.testing.assert_array_equal(found[..., :6], x)
    size = min(group_size, 12)
    for example in range(12):
        start = example // size * size
        deviation = np.std(x[start : start + size], axis=0)
        for channel, part in enumerate(np.split(deviation, channels, axis=-1)):
            np.testing.assert_allclose(found[example, :, :, 6 + channel], np.mean(part), rtol=1e-5)


@pytest.mark.parametrize("group_size", [2, 3, 4, 12, 64])
def test_minibatch_standard_deviation_over_devices_is_that_of_the_whole_batch(group_size):
    """With groups on one device and across devices, in values and derivatives."""
    draws = np.random.default_rng(0)
    x = jnp.asarray(draws.normal(size=(12, 2, 2, 3)), jnp.float32)
    weights = jnp.asarray(draws.normal(size=(12, 2, 2, 4)), jnp.float32)

    def value(x, weights, axis_name=None):
        found = stylegan2.minibatch_std(x, group_size, axis_name=axis_name)
        return jnp.sum(weights * found**2)

    def over(devices):
        def split(a):
            return a.reshape(devices, -1, *a.shape[1:])

        parts = jax.vmap(lambda x, w: value(x, w, "batch"), axis_name="batch")
        return jax.value_and_grad(lambda x: jnp.sum(parts(split(x), split(weights))))(x)

    whole, gradient = jax.jit(jax.value_and_grad(value))(x, weights)
    for devices, (found, found_gradient) in zip((2, 4), jax.jit(lambda: (over(2), over(4)))(), strict=True):
        np.testing.assert_allclose(found, whole, rtol=1e-5, err_msg=str(devices))
        np.testing.assert_allclose(found_gradient, gradient, rtol=1e-4, atol=1e-5, err_msg=str(devices))


def test_batches_without_whole_groups_are_refused():
    with pytest.raises(ConfigError, match="whole groups of 4, not 6 examples"):
        stylegan2.minibatch_std(jnp.zeros((6, 2, 2, 4)), 4)
    with pytest.raises(ConfigError, match="4 features in 3 parts"):
        stylegan2.minibatch_std(jnp.zeros((6, 2, 2, 4)), 2, 3)


def test_the_gradient_penalty_has_a_gradient_in_every_kernel(pictures):
    module = small_discriminator(mapping_layers=1)
    variables = randomised(shapes_of(module, pictures, LABELS))

    def penalty(variables):
        return jnp.mean(r1_penalty(lambda x: module.apply(variables, x, LABELS, train=True), pictures))

    for path, slope in jax.tree.leaves_with_path(jax.jit(jax.grad(penalty))(variables)):
        assert np.all(np.isfinite(slope)), path
        assert np.any(slope != 0.0) or path[-1].key == "bias", path


def test_the_generator_has_a_gradient_in_every_parameter(low, z):
    def value(params):
        return jnp.sum(jnp.sin(low_generator().apply({**low, "params": params}, z, LABELS, train=False)))

    for path, slope in jax.tree.leaves_with_path(jax.jit(jax.grad(value))(low["params"])):
        assert np.all(np.isfinite(slope)) and np.any(slope != 0.0), path


def test_the_highest_resolutions_in_bfloat16_differ_by_its_rounding(z, pictures, rested, judged):
    (of_generator, w, x), (of_discriminator, logits) = rested("skip"), judged("orig")

    def rounded():
        generator, discriminator = small_generator(bf16_stages=1), small_discriminator(bf16_stages=1)
        return (
            generator.apply(of_generator, w, train=False, method="synthesis"),
            discriminator.apply(of_discriminator, pictures, LABELS, train=True),
        )

    for exact, found in zip((x, logits), jax.jit(rounded)(), strict=True):
        assert found.dtype == jnp.float32
        assert 1e-5 < np.max(np.abs(found - exact)) / np.max(np.abs(exact)) < 0.05


def test_activations_are_held_in_bfloat16_only():
    x = jnp.array([-5000.0, 10.0, 300.0])
    gain = np.sqrt(2)
    np.testing.assert_allclose(stylegan2.activation(x), [-1000 * gain, 10 * gain, 300 * gain], rtol=1e-6)
    held = stylegan2.activation(x.astype(jnp.bfloat16)).astype(jnp.float32)
    np.testing.assert_allclose(held, [-256.0, 10 * gain, 256.0], rtol=0.01)


def test_grey_pictures_of_28_pixels_heads_and_no_labels(pictures):
    generator = stylegan2.Generator(shape=(28, 28, 1), widths=(4, 4, 4), w_size=5)
    discriminator = stylegan2.Discriminator(widths=(4, 4, 4))

    def play(key):
        x, g = generator.init_with_output(key, jnp.ones((2, 3)), train=False)
        logits, d = discriminator.init_with_output(key, x, train=False)
        return x, logits, g, d

    x, logits, g, d = jax.eval_shape(play, jax.random.key(0))
    assert x.shape == (2, 28, 28, 1) and logits.shape == (2,) and set(d) == {"params"}
    assert g["params"]["synthesis_network"]["constant"].shape == (7, 7, 4)
    assert d["params"]["logit"]["kernel"].shape == (4, 1) and "mapping_network" not in d["params"]
    heads = small_discriminator(heads=("class", "code"), code_size=2, projection=False)
    (logits, found), d = jax.eval_shape(
        lambda key: heads.init_with_output(key, pictures, LABELS, train=False), jax.random.key(0)
    )
    assert logits.shape == (4,) and {k: v.shape for k, v in found.items()} == {"class": (4, 3), "code": (4, 2)}
    assert d["params"]["logit"]["kernel"].shape == (6, 1) and "logit" not in d["params"]["heads"]


def test_sizes_and_architectures_that_do_not_exist(pictures, z):
    for module, inputs in (
        (stylegan2.Generator(shape=(28, 28, 1)), (2, 10)),
        (stylegan2.Discriminator(), (2, 28, 28, 1)),
    ):
        with pytest.raises(ConfigError, match=r"stylegan2: 4 stages.*multiples of 8.*Nearest is 32x32"):
            shapes_of(module, jnp.zeros(inputs))
    for module, inputs in ((small_generator("deep"), z), (small_discriminator("deep"), pictures)):
        with pytest.raises(ConfigError, match="unknown architecture 'deep'; known: skip, resnet, orig"):
            shapes_of(module, inputs, LABELS)
