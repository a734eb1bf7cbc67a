"""Optimizers against steps worked out in NumPy; knobs and schedules; what a mistyped name says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.errors import ConfigError
from jaxgan.optim import make_optimizer, make_schedule

PARAMS = {"w": jnp.array([1.0, -2.0, 3.0])}
GRADS = [{"w": jnp.array([0.5, -1.0, 2.0])}, {"w": jnp.array([-0.25, 4.0, 1.0])}]


def run(optimizer, state=None, grads=GRADS):
    params, state = PARAMS, optimizer.init(PARAMS) if state is None else state
    for g in grads:
        updates, state = optimizer.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params["w"], state


def adam_by_hand(learning_rate, b1, b2, eps):
    w, m, v = np.array([1.0, -2.0, 3.0]), 0.0, 0.0
    for t, g in enumerate((np.asarray(g["w"], np.float64) for g in GRADS), start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        w = w - learning_rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return w


@pytest.mark.parametrize("b1", [0.0, 0.5, 0.9])
def test_adam_by_hand(b1):
    knobs = {"learning_rate": 0.01, "b1": b1, "b2": 0.99, "eps": 1e-8}
    np.testing.assert_allclose(run(make_optimizer("adam", **knobs))[0], adam_by_hand(**knobs), rtol=1e-6)


def test_sgd_and_rmsprop_by_hand():
    np.testing.assert_allclose(run(make_optimizer("sgd", learning_rate=0.1))[0], [0.975, -2.3, 2.7], rtol=1e-6)
    w, v = np.array([1.0, -2.0, 3.0]), 0.0
    for g in (np.asarray(g["w"]) for g in GRADS):
        v = 0.9 * v + 0.1 * g**2
        w = w - 0.1 * g / np.sqrt(v + 1e-8)
    rmsprop = make_optimizer("rmsprop", learning_rate=0.1, decay=0.9, eps=1e-8)
    np.testing.assert_allclose(run(rmsprop)[0], w, rtol=1e-5)


def test_the_knobs_are_arrays_in_the_state():
    knobs = make_optimizer("adam", learning_rate=0.01, b1=0.5, b2=0.99, eps=1e-8).init(PARAMS).hyperparams
    assert all(isinstance(knobs[name], jax.Array) for name in ("learning_rate", "b1", "b2", "eps"))
    np.testing.assert_allclose([knobs["learning_rate"], knobs["b1"], knobs["b2"]], [0.01, 0.5, 0.99], rtol=1e-6)


@pytest.mark.parametrize("changed", [{"learning_rate": 0.03}, {"b1": 0.9}, {"b2": 0.5}, {"eps": 1.0}])
def test_a_knob_changed_in_the_state_changes_the_step(changed):
    """So that a population may differ in it under one compiled program."""
    knobs = {"learning_rate": 0.01, "b1": 0.5, "b2": 0.99, "eps": 1e-8}
    optimizer = make_optimizer("adam", **knobs)
    state = optimizer.init(PARAMS)
    state = state._replace(hyperparams={**state.hyperparams, **{k: jnp.float32(v) for k, v in changed.items()}})
    np.testing.assert_allclose(run(optimizer, state)[0], adam_by_hand(**{**knobs, **changed}), rtol=1e-5)


def test_two_members_with_other_learning_rates_share_a_program():
    optimizer = make_optimizer("sgd", learning_rate=0.1)
    state = optimizer.init(PARAMS)
    rates = jnp.array([0.1, 0.2])
    states = jax.vmap(lambda r: state._replace(hyperparams={**state.hyperparams, "learning_rate": r}))(rates)
    moved = jax.vmap(lambda s: run(optimizer, s, GRADS[:1])[0] - PARAMS["w"])(states)
    np.testing.assert_allclose(moved[1], 2 * moved[0], rtol=1e-5)


def test_the_schedules():
    seen = jnp.array([0, 250, 1000, 4_000_000_000], jnp.uint32)
    linear = make_schedule("linear_to_zero", 1000.0)
    np.testing.assert_allclose(jax.jit(linear)(seen), [1.0, 0.75, 0.0, 0.0])
    assert all(float(make_schedule("constant", 0)(images)) == 1.0 for images in seen)


def test_what_a_wrong_name_says():
    known = "constant, cosine_to_zero, linear_to_zero"
    with pytest.raises(ConfigError, match=f"unknown schedule 'cosine'; known: {known}"):
        make_schedule("cosine", 10)
    for images in (0, -1):
        with pytest.raises(ConfigError, match=r"linear_to_zero.*needs a duration above 0.*config\.optimizer\.schedule"):
            make_schedule("linear_to_zero", images)
    for name in ("adamm", "", "__name__", "apply_updates", "contrib", "Params"):
        with pytest.raises(ConfigError, match=f"unknown optimizer {name!r}.*adam, adamw"):
            make_optimizer(name, learning_rate=0.1)
    with pytest.raises(ConfigError, match=r"optax\.sgd takes no b1, b2; it takes learning_rate, momentum"):
        make_optimizer("sgd", learning_rate=0.1, b2=0.5, b1=0.5)


def test_an_optimizer_without_a_learning_rate_is_a_message_too():
    with pytest.raises(ConfigError, match="learning_rate"):
        make_optimizer("adam", b1=0.5)


@pytest.mark.parametrize("name", ["adam", "adamw", "adabelief", "rmsprop", "sgd", "lion"])
def test_every_optimizer_that_the_message_names_moves_against_the_gradient(name):
    moved = run(make_optimizer(name, learning_rate=1e-3), grads=GRADS[:1])[0] - PARAMS["w"]
    assert np.array_equal(np.sign(moved), -np.sign(GRADS[0]["w"]))
