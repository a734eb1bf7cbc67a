import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.errors import ConfigError
from jaxgan.losses import r1_penalty
from jaxgan.models import r3gan

SMALL = {"widths": (8, 4), "blocks": 1, "group_size": 4}
LABELS = jnp.array([1, 0, 2])


def count(params):
    return sum(p.size for p in jax.tree.leaves(params))


def shapes_of(module, *inputs):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, train=False))["params"]


def randomised(params, scale=0.3):
    """Other numbers in place of zeros and large or small ones, so that every layer counts."""
    leaves, tree = jax.tree.flatten(params)
    draws = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [jnp.asarray(draws.normal(size=p.shape) * scale, jnp.float32) for p in leaves])


@pytest.fixture(scope="module")
def generator():
    """A small conditional one: (module, params, z, compiled apply)."""
    module = r3gan.Generator(shape=(8, 12, 3), classes=3, embedding_size=5, **SMALL)
    z = jax.random.normal(jax.random.key(1), (3, 6))
    params = randomised(shapes_of(module, z, LABELS))
    return module, params, z, jax.jit(lambda p, z, label: module.apply({"params": p}, z, label, train=True))


@pytest.fixture(scope="module")
def discriminator():
    """A small conditional one: (module, params, pictures, compiled apply)."""
    module = r3gan.Discriminator(classes=3, **{**SMALL, "widths": (4, 8)})
    x = jax.random.normal(jax.random.key(2), (3, 8, 12, 3))
    params = randomised(shapes_of(module, x, LABELS))
    return module, params, x, jax.jit(lambda p, x, label: module.apply({"params": p}, x, label, train=True))


def test_parameters_of_the_cifar10_networks():
    """As calculated for the published code, 20.78 M and 21.28 M; the parts by hand."""
    block = 768 * 1536 * 2 + 9 * 16 * 1536 + 2 * 1536
    assert block == 2_583_552
    z, x, label = jnp.zeros((2, 64)), jnp.zeros((2, 32, 32, 3)), jnp.zeros(2, jnp.int32)
    conditional = {"classes": 10}
    generator = count(shapes_of(r3gan.Generator(**conditional), z, label))
    assert generator == 8 * block + 10 * 64 + (64 + 64) * 768 + 16 * 768 + 768 * 3 == 20_781_952
    discriminator = count(shapes_of(r3gan.Discriminator(**conditional), x, label))
    assert discriminator == 8 * block + 3 * 768 + 16 * 768 + 768 * 768 + 10 * 768 == 21_280_512
    assert count(shapes_of(r3gan.Generator(), z)) == generator - 10 * 64 - 64 * 768
    assert count(shapes_of(r3gan.Discriminator(), x)) == discriminator - 768 * 768 - 10 * 768 + 768


def test_widths_of_the_larger_presets_change_by_1x1_convolutions():
    widths = (768, 768, 768, 768, 384)
    params = shapes_of(r3gan.Generator(shape=(64, 64, 3), widths=widths), jnp.zeros((2, 64)))
    assert params["up_4"]["kernel"].shape == (768, 384) and "up_3" not in params
    params = shapes_of(r3gan.Discriminator(widths=widths[::-1]), jnp.zeros((2, 64, 64, 3)))
    assert params["down_1"]["kernel"].shape == (384, 768) and "down_2" not in params


def test_initial_statistics():
    """Gain over the root of the fan-in; in blocks sqrt(2 / 1.04) / L^(1/4) and zero, L blocks in the network."""
    sizes = {"widths": (96, 64), "blocks": 1, "group_size": 16, "classes": 30}
    z, x, label = jnp.zeros((2, 40)), jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, jnp.int32)
    generator = r3gan.Generator(shape=(8, 8, 3), embedding_size=60, **sizes)
    discriminator = r3gan.Discriminator(**sizes)
    both = jax.jit(
        lambda key: (generator.init(key, z, label, train=False), discriminator.init(key, x, label, train=False))
    )
    of_generator, of_discriminator = (variables["params"] for variables in both(jax.random.key(0, impl="rbg")))
    block = np.sqrt(2 / 1.04) * 2**-0.25
    in_block = {
        "widen/kernel": lambda width: block / np.sqrt(width),
        "grouped": lambda width: block / np.sqrt(9 * 16),
        "narrow/kernel": lambda width: 0.0,
        "bias_0": lambda width: 0.0,
        "bias_1": lambda width: 0.0,
    }
    expected = [
        {
            "label/embedding": 30**-0.5,
            "basis/amounts/kernel": 100**-0.5,
            "basis/basis": 1.0,
            "up_1/kernel": 96**-0.5,
            "to_rgb/kernel": 64**-0.5,
        },
        {
            "from_rgb/kernel": 3**-0.5,
            "down_1/kernel": 96**-0.5,
            "pool": 0.25,  # a depthwise 4x4 convolution: fan-in 16
            "judge/kernel": 64**-0.5,
            "label/embedding": 64**-0.5 * 30**-0.5,
        },
    ]
    for params, stds in zip((of_generator, of_discriminator), expected, strict=True):
        for i, width in enumerate((96, 64)):
            stds |= {f"stage_{i}_block_0/{name}": std(width) for name, std in in_block.items()}
        found = {"/".join(k.key for k in path): value for path, value in jax.tree.leaves_with_path(params)}
        assert set(found) == set(stds)
        for name, value in found.items():
            error = 4 * stds[name] / np.sqrt(value.size)
            np.testing.assert_allclose([np.mean(value), np.std(value)], [0.0, stds[name]], atol=error, err_msg=name)


def torch_parts():
    """The network's parts in PyTorch, NCHW, float64."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    def tensor(a):
        return torch.tensor(np.asarray(a), dtype=torch.float64)

    def pointwise(x, kernel):
        return functional.conv2d(x, tensor(kernel).T[:, :, None, None])

    def block(x, p):
        h = functional.leaky_relu(pointwise(x, p["widen"]["kernel"]) + tensor(p["bias_0"])[:, None, None], 0.2)
        h = functional.conv2d(h, tensor(p["grouped"]).permute(3, 2, 0, 1), padding=1, groups=h.shape[1] // 4)
        h = functional.leaky_relu(h + tensor(p["bias_1"])[:, None, None], 0.2)
        return x + pointwise(h, p["narrow"]["kernel"])

    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)

    def resample(x, up):
        kernel = (torch.outer(taps, taps) / 64).expand(x.shape[1], 1, 4, 4)
        if up:
            return functional.conv_transpose2d(x, 4 * kernel, stride=2, padding=1, groups=x.shape[1])
        return functional.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1])

    return tensor, pointwise, block, resample


def test_generator_against_pytorch(generator):
    tensor, pointwise, block, resample = torch_parts()
    _, params, z, apply = generator
    found = apply(params, z, LABELS)
    assert found.shape == (3, 8, 12, 3) and found.dtype == jnp.float32
    inputs = np.concatenate([z, np.eye(3)[np.asarray(LABELS)] @ np.asarray(params["label"]["embedding"])], axis=1)
    x = tensor(inputs) @ tensor(params["basis"]["amounts"]["kernel"])
    x = x[:, :, None, None] * tensor(params["basis"]["basis"]).permute(2, 0, 1)
    x = block(x, params["stage_0_block_0"])
    x = resample(pointwise(x, params["up_1"]["kernel"]), up=True)
    x = pointwise(block(x, params["stage_1_block_0"]), params["to_rgb"]["kernel"])
    expected = x.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.max(np.abs(expected)))


def test_discriminator_against_pytorch(discriminator):
    tensor, pointwise, block, resample = torch_parts()
    _, params, pictures, apply = discriminator
    found = apply(params, pictures, LABELS)
    assert found.shape == (3,) and found.dtype == jnp.float32
    x = pointwise(tensor(pictures).permute(0, 3, 1, 2), params["from_rgb"]["kernel"])
    x = block(x, params["stage_0_block_0"])
    x = pointwise(resample(x, up=False), params["down_1"]["kernel"])
    x = block(x, params["stage_1_block_0"])
    h = (x * tensor(params["pool"]).permute(2, 0, 1)).sum((2, 3)) @ tensor(params["judge"]["kernel"])
    expected = (h * tensor(params["label"]["embedding"])[np.array(LABELS)]).sum(1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.max(np.abs(expected)))


def test_labels_matter(generator, discriminator):
    for _, params, inputs, apply in (generator, discriminator):
        one, other = apply(params, inputs, LABELS), apply(params, inputs, jnp.array([1, 0, 1]))
        np.testing.assert_allclose(one[:2], other[:2], rtol=1e-6)
        assert np.max(np.abs(one[2] - other[2])) > 1e-3


def test_the_gradient_penalty_has_a_gradient_in_every_parameter(discriminator):
    module, params, x, _ = discriminator

    def penalty(params):
        return jnp.mean(r1_penalty(lambda x: module.apply({"params": params}, x, LABELS, train=True), x))

    slopes = jax.jit(jax.grad(penalty))(params)
    for path, slope in jax.tree.leaves_with_path(slopes):
        assert np.all(np.isfinite(slope)), path
        # A bias moves the penalty only by moving where leaky ReLU bends, which has no derivative.
        assert np.any(slope != 0.0) != ("bias" in path[-1].key), path


def test_the_highest_resolutions_in_bfloat16_differ_by_its_rounding(generator, discriminator):
    for module, params, inputs, apply in (generator, discriminator):
        rounded = jax.jit(
            lambda p, x, m=module: m.clone(bf16_stages=1).apply({"params": p}, x, LABELS, train=True)
        )(params, inputs)
        exact = apply(params, inputs, LABELS)
        assert rounded.dtype == jnp.float32
        error = np.max(np.abs(rounded - exact)) / np.max(np.abs(exact))
        assert 1e-5 < error < 0.05


def test_grey_pictures_of_28_pixels_and_no_labels():
    generator = r3gan.Generator(shape=(28, 28, 1), widths=(4, 4, 4), blocks=1, group_size=4)
    discriminator = r3gan.Discriminator(widths=(4, 4, 4), blocks=1, group_size=4)

    def play(key):
        x, g = generator.init_with_output(key, jnp.ones((2, 3)), train=False)
        logits, d = discriminator.init_with_output(key, x, train=False)
        return x, logits, g, d

    x, logits, g, d = jax.eval_shape(play, jax.random.key(0))
    assert x.shape == (2, 28, 28, 1) and logits.shape == (2,)
    assert set(g) == set(d) == {"params"} and "label" not in d["params"]
    assert g["params"]["basis"]["basis"].shape == d["params"]["pool"].shape == (7, 7, 4)


def test_sizes_and_widths_that_cannot_be_made():
    for module, inputs in (
        (r3gan.Generator(shape=(28, 28, 1)), (2, 10)),
        (r3gan.Discriminator(), (2, 28, 28, 1)),
    ):
        with pytest.raises(ConfigError, match=r"r3gan: 4 stages.*multiples of 8.*Nearest is 32x32"):
            shapes_of(module, jnp.zeros(inputs))
    with pytest.raises(ConfigError, match=r"r3gan: 20 channels.*groups of 16"):
        shapes_of(r3gan.Discriminator(widths=(10, 10)), jnp.zeros((2, 8, 8, 1)))
