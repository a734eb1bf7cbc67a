"""An accelerator's updates are the CPU's, whose convolutions are written otherwise. To be run where there is one:

    JAX_PLATFORMS=cuda,cpu python -m pytest -m slow tests/test_accelerator.py
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import build
from jaxgan.models import convolution
from jaxgan.parallel import Parallel
from tests.test_experiments import FILES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(jax.default_backend() == "cpu", reason="no accelerator is visible"),
]
DRAWS = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def full_precision():
    """Products in float32, which accelerators round to fewer bits unless asked not to."""
    with jax.default_matmul_precision("highest"):
        yield


def on_both(f):
    """f() on the CPU and on the accelerator, as NumPy arrays."""
    results = []
    for device in (jax.devices("cpu")[0], jax.devices()[0]):
        with jax.default_device(device):
            results.append(jax.device_get(f(device)))
    return results


def draw(*shape):
    return DRAWS.normal(size=shape).astype(np.float32)


CONVOLUTIONS = {
    "strided": (lambda x, k: convolution.conv(x, k, 2), (4, 16, 16, 8), (5, 5, 8, 16)),
    "of few channels": (lambda x, k: convolution.conv(x, k, 2), (4, 16, 16, 1), (4, 4, 1, 16)),
    "plain": (lambda x, k: convolution.conv(x, k, 1), (4, 8, 8, 8), (3, 3, 8, 16)),
    "transposed": (lambda x, k: convolution.conv_transpose(x, k, 2), (4, 8, 8, 16), (5, 5, 8, 16)),
    "grouped": (convolution.grouped_conv, (4, 8, 8, 32), (3, 3, 16, 32)),
    "of pixels": (convolution.pointwise, (4, 8, 8, 16), (16, 8)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_and_their_derivatives(name):
    f, *shapes = CONVOLUTIONS[name]
    x, kernel = (draw(*shape) for shape in shapes)

    def first(x, kernel):
        return jax.grad(lambda *args: jnp.sum(jnp.sin(f(*args))), (0, 1))(x, kernel)

    def second(x, kernel):
        return jax.grad(lambda *args: sum(jnp.sum(jnp.square(g)) for g in first(*args)), (0, 1))(x, kernel)

    cpu, other = on_both(lambda _: jax.jit(lambda *args: (f(*args), first(*args), second(*args)))(x, kernel))
    for a, b in zip(jax.tree.leaves(cpu), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize("name", [file.stem for file in FILES if file.stem != "common"])
def test_updates_of_each_experiment(name):
    config = importlib.import_module(f"experiments.{name}").get_config("tiny")
    dataset = build.load_data(config)
    real = dataset.arrays["real"]
    experiment = build.make_experiment(config, real.shape[1:], len(real), build.label_counts(dataset))

    def three_updates(device):
        parallel = Parallel("jit", [device])
        call = parallel.compile(experiment.step, shared=1)
        index = parallel.split(jnp.arange(experiment.counting.images_per_step, dtype=jnp.int32))
        state, arrays = parallel.create(experiment.new_state), parallel.replicate(dict(dataset.arrays))
        rows = []
        for _ in range(3):
            state, metrics = call(state, index, arrays)
            rows.append(metrics)
        return rows

    for cpu, other in zip(*on_both(three_updates), strict=True):
        for metric, value in cpu.items():
            np.testing.assert_allclose(other[metric], value, rtol=2e-3, atol=2e-4, err_msg=metric)
