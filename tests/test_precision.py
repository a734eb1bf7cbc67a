"""config.precision: every recipe in bfloat16 beside itself in float32."""

import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import build
from jaxgan.errors import ConfigError
from jaxgan.parallel import Parallel

EXPERIMENTS = sorted(
    path.stem for path in (pathlib.Path(__file__).parent.parent / "experiments").glob("*.py") if path.stem != "common"
)
UPDATES = 50
# 8 bits of mantissa: a loss of order 1 is off by a few hundredths while two runs drift apart; a loss that took another
# course would be off by its own size.
BOUND = 0.1
# Where two runs in float32 that begin 1e-3 apart part by about as much within 50 updates (stylegan2_ada: the digits' D
# learns at 8e-3; biggan: 1e-3 and 5e-4 in place of the paper's), steps are shorter: it is the precision that is asked.
LEARNING_RATE = {"stylegan2_ada": 5e-4, "biggan": 2e-4}


def losses(name, precision):
    """([updates, 2] losses of both sides, the state at the end, the program's text) of a tiny run."""
    config = importlib.import_module(f"experiments.{name}").get_config("tiny")
    config.precision, config.parallel = precision, "jit"
    for side in (config.optimizer.generator, config.optimizer.discriminator):
        side.learning_rate = LEARNING_RATE.get(name, side.learning_rate)
    dataset = build.load_data(config)
    real = dataset.arrays["real"]
    experiment = build.make_experiment(config, real.shape[1:], len(real), build.label_counts(dataset))
    index = jnp.arange(experiment.counting.images_per_step, dtype=jnp.int32)
    state = jax.jit(experiment.new_state)()
    call = Parallel("jit").compile(experiment.step, shared=1)
    text = call.lower(state, index, dataset.arrays).as_text()
    found = []
    for _ in range(UPDATES):
        state, metrics = call(state, index, dataset.arrays)
        found.append([metrics["loss_d"], metrics["loss_g"]])
    return np.array(found), state, text


@pytest.mark.parametrize(
    "name", [name if name == "dcgan" else pytest.param(name, marks=pytest.mark.slow) for name in EXPERIMENTS]
)
def test_losses_in_bfloat16_are_those_in_float32(name):
    expected, _, _ = losses(name, "float32")
    found, state, text = losses(name, "bfloat16")
    assert np.all(np.isfinite(found))
    spread = np.abs(expected).mean(axis=0)
    assert np.all(np.abs(found - expected).mean(axis=0) < BOUND * np.maximum(spread, 1.0))
    assert np.any(found != expected)
    state = jax.tree.leaves((state.params_g, state.params_d, state.ema_g, state.variables))
    assert {leaf.dtype for leaf in state} <= {jnp.dtype("float32"), jnp.dtype("int32")}
    assert not re.findall(r"stablehlo\.convolution.*xf32>\s*$", text, re.MULTILINE)
    if name in ("mlp", "toy2d", "pacgan", "cgan"):
        assert not re.findall(r"stablehlo\.dot_general.*xf32>\s*$", text, re.MULTILINE)


def test_a_precision_that_does_not_exist():
    config = importlib.import_module("experiments.toy2d").get_config("tiny")
    config.precision = "float8"
    with pytest.raises(ConfigError, match=r"unknown config.precision 'float8'; known: float32, bfloat16"):
        build.make_experiment(config, (2,), 100)
